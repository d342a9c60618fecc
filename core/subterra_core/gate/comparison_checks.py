"""The candidate against a reference: which scenarios can be compared, by which margin, and what that decides.

An edit changes what is right on the scenarios that it affects, so the reference would lose points unfairly there. Only criteria
that are judged without the procedure are compared on all scenarios.
"""

import math
from collections.abc import Iterator, Sequence

from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_api.v1alpha1.scores import AffectedScenarios, Comparison, Difference, DiscordantPairs
from subterra_core.gate.check_result import MIN_SAMPLE, Check, difference_check, rate_check
from subterra_core.gate.own_checks import WHERE_EDITED

NEEDS_PROCEDURE = frozenset({"taskSuccess", "informationAccuracy"})
"""Criteria whose judges read the procedure. So do failures and conformance."""
FADE = 60
"""Scenarios below which a comparison counts for less and less, until the floors alone decide."""
LEAST_COMPARED = 11
"""Scenarios below which nothing is compared: Student's t would be too coarse."""
_WORDS = {
    "taskSuccess": "Task Success",
    "informationAccuracy": "Information Accuracy",
    "consistency": "Consistency",
    "gracefulHandling": "Graceful Handling",
    "naturalness": "Naturalness",
}


def widening(compared: int, scenarios: int | None) -> float:
    """Factor of a margin where only `compared` of all scenarios can be compared.

    With the square root of the ratio an equal candidate passes as often as if all could be. Below `FADE` the comparison fades out,
    because the bounds of few pairs are coarse.
    """
    if scenarios is None or compared >= scenarios:
        return 1.0
    return math.sqrt(scenarios / compared) * max(1.0, FADE / compared)


def comparison_checks(comparison: Comparison, policy: GatePolicy, alpha: float) -> Iterator[Check]:
    """Criteria, failures and conformance against one reference."""
    least, of = _least(comparison), comparison.scenarios
    for name, sample in sorted(comparison.criteria.items()):
        compared = compared_scenarios(comparison, name)
        if compared >= least and sample.count >= _least_values(comparison, name):
            yield difference_check(
                f"{name} against {comparison.against}", sample, sample.skew, policy.margin, widening(compared, of), alpha
            )
    rates: list[tuple[str, DiscordantPairs | None, float]] = [
        ("success", comparison.failures, policy.failure_margin),
        ("conformance", comparison.conformance, policy.conformance_margin),
    ]
    for name, pairs, margin in rates:
        if pairs is not None and pairs.of >= least:
            yield rate_check(f"{name} against {comparison.against}", pairs, margin, widening(pairs.of, of), alpha)


def _least(comparison: Comparison) -> int:
    """Scenarios that a comparison needs; those of an earlier version had no margin that fits few of them."""
    return MIN_SAMPLE if comparison.scenarios is None else LEAST_COMPARED


def _least_values(comparison: Comparison, name: str) -> int:
    return _least(comparison) if name in NEEDS_PROCEDURE else MIN_SAMPLE


def compared_scenarios(comparison: Comparison, name: str) -> int:
    """Scenarios on which a criterion is compared, whether or not it applies to each."""
    if name in NEEDS_PROCEDURE or comparison.common is None:
        return comparison.failures.of
    return comparison.common


def in_context_checks(affected: AffectedScenarios | None, policy: GatePolicy, alpha: float) -> Iterator[Check]:
    """Clear losses against the InContext baseline where an edit leaves nothing else to compare with.

    A baseline may be a much larger model, so it can only fail a candidate.
    """
    for name, difference in sorted(affected.in_context.items() if affected else ()):
        if difference.count >= MIN_SAMPLE:
            named = f"{name} against in-context {WHERE_EDITED}"
            check = difference_check(named, difference, difference.skew, policy.margin, 1.0, alpha)
            if check.result == "Fail":
                yield check


def unclear_comparisons(comparison: Comparison, floors: Sequence[str], policy: GatePolicy) -> Iterator[str]:
    """Reasons against a conclusion: a criterion that cannot be compared and has no floor among `floors`, or judges who disagree."""
    for name, difference in _compared(comparison):
        if difference.count < _least_values(comparison, name):
            if name not in floors:
                counts = f"only {difference.count} scenarios can be compared; {MIN_SAMPLE} are needed"
                yield f"{name} against {comparison.against}: {counts}"
        elif len(difference.judges) > 1 and min(difference.judges) <= -policy.margin * _widening_of(comparison, name):
            means = ", ".join(f"{mean:+.2f}" for mean in difference.judges)
            yield (
                f"{name} against {comparison.against}: the judges disagree ({means}): at least one of them alone exceeds the margin"
            )
    for name in floors:
        if name not in comparison.criteria and compared_scenarios(comparison, name) >= MIN_SAMPLE:
            yield f"{name} against {comparison.against}: it was not compared; evaluate again"


def _compared(comparison: Comparison) -> Iterator[tuple[str, Difference]]:
    for name, difference in sorted(comparison.criteria.items()):
        if compared_scenarios(comparison, name) >= _least(comparison):
            yield name, difference


def _widening_of(comparison: Comparison, name: str) -> float:
    return widening(compared_scenarios(comparison, name), comparison.scenarios)


def what_decided(comparison: Comparison, floors: Sequence[str]) -> Iterator[str]:
    """Which scenarios decided what, where not all could be compared."""
    of, against = comparison.scenarios, comparison.against
    if comparison.failures.of < _least(comparison):
        few = f"only {comparison.failures.of} scenarios can be compared with {against}"
        yield f"advisory: {few}; " + ("the floors decided" if of is None else _floors_decided(comparison))
    elif of is not None and comparison.failures.of < of:
        yield f"against {against}: {_partly_compared(comparison, of)}"
    for name, difference in _compared(comparison):
        if difference.count < _least_values(comparison, name) and name in floors:
            yield f"advisory: {name}: only {difference.count} scenarios can be compared with {against}; its floor decided"


def _floors_decided(comparison: Comparison) -> str:
    free = _free_criteria(comparison)
    return f"{free}, the floors the rest" if free else "the floors decided"


def _free_criteria(comparison: Comparison) -> str:
    """Criteria that are judged without the procedure, and on how many scenarios they were compared."""
    names = [_WORDS.get(name, name) for name, _ in _compared(comparison) if name not in NEEDS_PROCEDURE]
    return f"{', '.join(names)} decided on {comparison.common}" if names else ""


def _partly_compared(comparison: Comparison, of: int) -> str:
    compared = comparison.failures.of
    needs = f"what needs the procedure decided on {compared} of {of} scenarios"
    wider = f"with margins {widening(compared, of):.2f} times as wide"
    free = _free_criteria(comparison)
    return f"{needs}, {wider}, and the floors on the rest; {free}" if free else f"{needs}, {wider}, and the floors on the rest"
