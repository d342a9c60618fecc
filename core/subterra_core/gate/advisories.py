"""What a Pass does not cover."""

from collections.abc import Iterator

from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_api.v1alpha1.scores import Scores, Statistics
from subterra_core.gate.branch_failures import doubtful_branches
from subterra_core.gate.check_result import MIN_SAMPLE
from subterra_core.gate.comparison_checks import what_decided


def left_out(scores: Scores, statistics: Statistics) -> int:
    """Conversations that count nowhere, because the simulated customer left early."""
    return max(0, scores.scenarios - statistics.failures.of - statistics.repeated)


def judged_criteria(statistics: Statistics) -> tuple[str, ...]:
    """Criteria with enough values for their floor to decide."""
    return tuple(name for name, sample in sorted(statistics.criteria.items()) if sample.count >= MIN_SAMPLE)


def advisories(scores: Scores, statistics: Statistics, policy: GatePolicy) -> Iterator[str]:
    """Conversations left out, samples too small to judge or to compare, branches that may fail, and what was not tested."""
    for comparison in statistics.comparisons:
        yield from what_decided(comparison, judged_criteria(statistics))
    if left := left_out(scores, statistics):
        yield f"advisory: {left} of {scores.scenarios} conversations are left out, because the simulated customer left early"
    if statistics.repeated:
        yield f"advisory: {statistics.repeated} of {scores.scenarios} customers are repetitions; equal customers count as one"
    for name, sample in sorted(statistics.criteria.items()):
        if sample.count < MIN_SAMPLE:
            yield f"advisory: {name} was not judged, since it applies to only {sample.count} conversations"
    yield from doubtful_branches(scores.worst_branches or (), policy)
    yield from _advisories_beyond_the_examples(scores)


def _advisories_beyond_the_examples(scores: Scores) -> Iterator[str]:
    if scores.fabrication is None:
        yield "advisory: fabrication was not measured; evaluate again"
    elif scores.fabrication.of < MIN_SAMPLE:
        yield f"advisory: fabrication was not judged, since the agent asserted only {scores.fabrication.of} values"
    if scores.trials is not None and not scores.trials.of:
        yield f"advisory: pass^{scores.trials.trials}: not tested; the report has the reason"
    for score in scores.robustness or ():
        if not score.of:
            yield f"advisory: {score.kind}: not tested; the report has the reason"
        elif 2 * score.hits < score.of:
            yield f"advisory: {score.kind}: only {score.hits} of {score.of} handled"
        elif score.kind == "afterEnd" and scores.tools is not None and score.hits < score.of:
            yield (
                f"advisory: afterEnd: {score.of - score.hits} of {score.of} not handled by an agent with tools; "
                "see in the report what it called, and check calls before they are run"
            )
