"""The candidate's own figures against the policy's floors."""

import math
from collections.abc import Iterator
from dataclasses import replace

from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_api.v1alpha1.scores import AffectedScenarios, Interval, Proportion, RobustnessKind, Scores, Statistics
from subterra_core.gate.attempts import alpha_for_attempt
from subterra_core.gate.bounds import proportion_bounds
from subterra_core.gate.check_result import MIN_SAMPLE, Check, mean_check, proportion_check

MIN_UNKNOWN_VALUES = 0.5
"""Share of customers with a value outside a closed list; a candidate that clearly handles fewer fails."""
PHRASINGS_REMEDY = "add examples in other words to the customer's turns, or raise evaluation.scenarios, up to 400"
TRIALS_REMEDY = "the report names customers with whom only some trials passed; up to 100 of evaluation.scenarios are tried"
WHERE_EDITED = "where the edit applies"


def floor_checks(statistics: Statistics, policy: GatePolicy, alpha: float) -> Iterator[Check]:
    """All floors that have enough values."""
    for name, sample in sorted(statistics.criteria.items()):
        if sample.count >= MIN_SAMPLE:
            yield mean_check(name, sample, policy.min_score, alpha, field="minScore")
    yield from _share_checks(statistics.failures, statistics.conformance, policy, alpha)
    if statistics.affected is not None:
        shown = statistics.affected.failures.of >= max(policy.min_scenarios, statistics.failures.of / 2)
        yield from _affected_checks(statistics.affected, policy, alpha, shown=shown)


def _share_checks(failures: Proportion, conformance: Proportion, policy: GatePolicy, alpha: float) -> Iterator[Check]:
    successes = Proportion(hits=failures.of - failures.hits, of=failures.of)
    if failures.of:
        yield proportion_check("success", successes, 1 - policy.max_failure_rate, alpha, field="maxFailureRate")
    if conformance.of:
        yield proportion_check("conformance", conformance, policy.min_conformance, alpha, field="minConformance")


def _affected_checks(affected: AffectedScenarios, policy: GatePolicy, alpha: float, *, shown: bool) -> Iterator[Check]:
    """The same floors where an edit leaves nothing to compare with.

    Unless they must be `shown`, because it affects most scenarios, they can only fail a candidate: the floors of the whole
    evaluation hold too.
    """
    samples = [(name, sample) for name, sample in sorted(affected.criteria.items()) if sample.count >= MIN_SAMPLE]
    checks = [mean_check(name, sample, policy.min_score, alpha, field="minScore") for name, sample in samples]
    if affected.failures.of >= MIN_SAMPLE:
        checks += _share_checks(affected.failures, affected.conformance, policy, alpha)
    for check in checks:
        if shown or check.result == "Fail":
            yield replace(check, name=f"{check.name} {WHERE_EDITED}")


def checks_beyond_the_examples(scores: Scores, policy: GatePolicy, alpha: float, level: float) -> Iterator[Check]:
    """Checks of what conforming customers do not show. Scores of an earlier version have none of it."""
    asserted = scores.fabrication
    if asserted is not None and asserted.of >= MIN_SAMPLE:
        yield _fabrication_check(asserted, policy.max_fabrication_rate, level)
    phrasings = _robustness(scores).get("phrasings")
    if phrasings is not None:
        # The number of these customers is bounded, so that a level that falls with every attempt would soon leave no way to pass.
        check = proportion_check("phrasings", phrasings, policy.min_phrasings, alpha_for_attempt(alpha, 1), field="minPhrasings")
        yield replace(check, remedy=check.remedy or PHRASINGS_REMEDY)
    yield from _trial_checks(scores, policy, alpha)


def _trial_checks(scores: Scores, policy: GatePolicy, alpha: float) -> Iterator[Check]:
    """The check of pass^k: the share of customers with whom the candidate succeeds in all of k trials."""
    tried = scores.trials
    if tried is not None and tried.of:
        # The number of these customers is bounded, too.
        level, share = alpha_for_attempt(alpha, 1), Proportion(hits=tried.passed_all, of=tried.of)
        check = proportion_check(f"pass^{tried.trials}", share, policy.min_pass_all_trials, level, field="minPassAllTrials")
        yield replace(check, remedy=check.remedy or TRIALS_REMEDY)


def _fabrication_check(asserted: Proportion, ceiling: float, alpha: float) -> Check:
    rate = proportion_bounds(asserted, alpha)
    true_values = Interval(mean=1 - rate.mean, low=1 - rate.high, high=1 - rate.low)
    text = (
        f"{asserted.hits} of {asserted.of} values that the agent asserted came from nobody, {rate.mean:.1%} "
        f"(interval {rate.low:.1%} to {rate.high:.1%}) against a ceiling of {ceiling:.1%}"
    )
    # Without a fabricated value the sample shows no spread; the ceiling's is then what has to be told apart.
    spread = max(rate.mean * (1 - rate.mean), ceiling * (1 - ceiling))
    remedy = None if ceiling else "no number of scenarios can show that; change gate.maxFabricationRate"
    return Check("fabrication", true_values, 1 - ceiling, text, math.sqrt(spread), asserted.of, remedy)


def _robustness(scores: Scores) -> dict[RobustnessKind, Proportion]:
    """Conversations that the agent handled, by kind, of the kinds that were tested."""
    return {score.kind: Proportion(hits=score.hits, of=score.of) for score in scores.robustness or () if score.of}


def unlisted_values_made_up(scores: Scores, level: float) -> Iterator[str]:
    """The reason to fail an agent that clearly fails more than half of the customers with a value outside a closed list."""
    handled = _robustness(scores).get("unknownValues")
    if handled is not None and proportion_bounds(handled, level).high < MIN_UNKNOWN_VALUES:
        yield (
            f"unknownValues: {handled.hits} of {handled.of} handled: for a value outside a closed list the agent asserts another "
            "one; set open: true or add a branch"
        )
