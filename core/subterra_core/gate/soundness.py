"""Whether scores can be judged at all: numbers that no evaluation can produce must never promote."""

import math
from collections.abc import Iterator

from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_api.v1alpha1.scores import DiscordantPairs, Proportion, SampleStats, Scores, Statistics

CLOSE = 0.5
"""Points by which judges may differ (root mean square) whatever kappa is: where nearly all scores are equal it means little."""


def malformed(scores: Scores) -> Iterator[str]:
    """The first number that no evaluation can produce, as a reason."""
    if scores.statistics is None:
        return
    found = [*_bad_statistics(scores.statistics), *_bad_proportion("fabrication", scores.fabrication)]
    for score in scores.robustness or ():
        found += _bad_counts(score.kind, (score.hits,), score.of)
    if tried := scores.trials:
        found += _bad_counts(f"pass^{tried.trials}", (tried.passed_all,), tried.of)
        found += _bad_counts(f"conversations of pass^{tried.trials}", (tried.passed,), tried.of * tried.trials)
    for branch in scores.worst_branches or ():
        found += _bad_counts(f"branch {branch.hub} → {branch.to}", (branch.failures,), branch.conversations)
    if found:
        yield f"the scores are not those of an evaluation ({found[0]}); evaluate again"


def is_sound(statistics: Statistics) -> bool:
    """Whether all numbers are possible."""
    return not any(_bad_statistics(statistics))


def _bad_statistics(statistics: Statistics) -> Iterator[str]:
    for name, sample in statistics.criteria.items():
        yield from _bad_sample(name, sample)
    yield from _bad_proportion("failures", statistics.failures)
    yield from _bad_proportion("conformance", statistics.conformance)
    for comparison in statistics.comparisons:
        for name, difference in comparison.criteria.items():
            yield from _bad_sample(f"{name} against {comparison.against}", difference)
            yield from _bad_numbers(f"{name} against {comparison.against}", *difference.judges, difference.skew or 0.0)
        yield from _bad_pairs(f"failures against {comparison.against}", comparison.failures)
        yield from _bad_pairs(f"conformance against {comparison.against}", comparison.conformance)
    yield from _bad_numbers("missing", statistics.missing)
    if affected := statistics.affected:
        for name, sample in {**affected.criteria, **affected.in_context}.items():
            yield from _bad_sample(f"{name} where the edit applies", sample)
        yield from _bad_proportion("failures where the edit applies", affected.failures)
        yield from _bad_proportion("conformance where the edit applies", affected.conformance)
    if judging := statistics.judging:
        yield from _bad_numbers("agreement of the judges", judging.kappa or 0.0, judging.disagreement or 0.0, *judging.repeat_sd)


def _bad_sample(name: str, sample: SampleStats) -> Iterator[str]:
    yield from _bad_numbers(name, sample.mean, sample.sd)
    if sample.sd < 0 or sample.count < 0:
        yield f"{name}: {sample.count} values with a standard deviation of {sample.sd}"


def _bad_numbers(name: str, *numbers: float) -> Iterator[str]:
    for number in numbers:
        if not math.isfinite(number):
            yield f"{name}: {number}"


def _bad_proportion(name: str, proportion: Proportion | None) -> Iterator[str]:
    if proportion is not None:
        yield from _bad_counts(name, (proportion.hits,), proportion.of)


def _bad_pairs(name: str, pairs: DiscordantPairs | None) -> Iterator[str]:
    if pairs is not None:
        yield from _bad_counts(name, (pairs.worse, pairs.better), pairs.of)


def _bad_counts(name: str, parts: tuple[int, ...], of: int) -> Iterator[str]:
    if min(parts) < 0 or sum(parts) > of:
        yield f"{name}: {' and '.join(map(str, parts))} of {of}"


def unreliable_judges(statistics: Statistics, policy: GatePolicy) -> Iterator[str]:
    """Reasons not to trust the judges: scores that are partly chance make every candidate look like what serves."""
    judging = statistics.judging
    if judging is None:
        return
    if judging.kappa is not None and judging.kappa < policy.min_kappa and (judging.disagreement or 0.0) > CLOSE:
        yield (
            f"the judges agree too little: a kappa of {judging.kappa:.2f}, but at least {policy.min_kappa:.2f} is needed; "
            "choose other judges"
        )
    for number, sd in enumerate(judging.repeat_sd, start=1):
        if sd > policy.max_repeat_sd:
            yield (
                f"judge {number} scores the same conversation differently: a standard deviation of {sd:.2f}, but at most "
                f"{policy.max_repeat_sd:.2f} is allowed; choose another judge"
            )
