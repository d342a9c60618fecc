"""The gate: may a candidate replace the serving version? Paired non-inferiority on every criterion, floors, alpha spending.

Pure, and computed from sufficient statistics: a finished run can be judged again under another policy without new conversations.
docs/reference/evaluation-statistics.md gives the reasons for this design.
"""

from collections.abc import Iterator, Sequence

from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_api.v1alpha1.scores import Scores, Statistics, Verdict, VerdictResult
from subterra_core.gate.advisories import advisories, judged_criteria, left_out
from subterra_core.gate.attempts import ALPHA, alpha_for_attempt
from subterra_core.gate.bounds import scenarios_to_decide
from subterra_core.gate.branch_failures import blocked_branches
from subterra_core.gate.certified_judges import uncertified_judges
from subterra_core.gate.check_result import MIN_SAMPLE, Check
from subterra_core.gate.comparison_checks import comparison_checks, in_context_checks, unclear_comparisons
from subterra_core.gate.own_checks import checks_beyond_the_examples, floor_checks, unlisted_values_made_up
from subterra_core.gate.soundness import is_sound, malformed, unreliable_judges

FORMAT = 2
"""Of the statistics that these rules are made for."""
FUTILE_ALPHA = 0.001
"""Level of interim looks: an evaluation stops early only if the floor is this clearly out of reach."""
INTERIM_BLOCK = 100
"""Scenarios between two interim looks."""
MAX_LEFT_OUT = 0.2
"""Largest share of conversations that a simulated customer may have left early; with more the customers are not fit to judge by."""
CHECK_POWER = 0.95
"""Power of each comparison that messages count scenarios for; that of all together is then about 0.8."""
REPORT_CAP = 100_000
"""From this number of scenarios on, messages say "more than"."""
_MAX_REASONS = 20
"""As many as a status holds."""


def judge(scores: Scores, policy: GatePolicy, attempt: int = 1, alpha: float = ALPHA) -> Verdict:
    """Fail if a check fails, Pass if all pass (intersection-union: no correction for their number), else Inconclusive.

    `attempt` is the number of attempts at this procedure, starting with 1. Raises ValueError for scores without statistics.
    """
    statistics, level = _statistics(scores), alpha_for_attempt(alpha, attempt)
    if impossible := [*malformed(scores)]:
        return _verdict("Inconclusive", impossible)
    checks = [*_checks(statistics, policy, level), *checks_beyond_the_examples(scores, policy, alpha, level)]
    failed = [f"{check.name}: {check.text}" for check in checks if check.result == "Fail"]
    failed += [*unlisted_values_made_up(scores, level)]
    failed += blocked_branches(scores.worst_branches or (), scores.branches_judged or 0, policy)
    if failed:
        early = [f"advisory: only {_simulated(scores)}; more could not have changed the result"] if scores.ended_early else []
        return _verdict("Fail", [*failed, *early])
    undecided = _undecided(checks, scores.scenarios, alpha_for_attempt(alpha, attempt + 1))
    if unknown := [*_inconclusive_reasons(scores, statistics, policy), *undecided]:
        return _verdict("Inconclusive", unknown)
    covered = f"for {scores.covers}: " if scores.covers else ""
    passed = f"{covered}all {len(checks)} checks passed on {scores.scenarios} scenarios at a one-sided level of {level:.3g}"
    return _verdict("Pass", [passed, *advisories(scores, statistics, policy)])


def futile(statistics: Statistics, policy: GatePolicy, attempt: int = 1) -> bool:
    """Whether an interim look should stop the evaluation, because `judge` would clearly fail the candidate.

    There is no early success, so frequent looks cannot promote.
    """
    level = min(FUTILE_ALPHA, alpha_for_attempt(ALPHA, attempt))
    return is_sound(statistics) and any(check.result == "Fail" for check in _checks(statistics, policy, level))


def _verdict(result: VerdictResult, reasons: Sequence[str]) -> Verdict:
    return Verdict(result=result, reasons=tuple(reasons[:_MAX_REASONS]))


def _simulated(scores: Scores) -> str:
    return f"{scores.scenarios} of {scores.planned} scenarios were simulated"


def _statistics(scores: Scores) -> Statistics:
    if scores.statistics is None:
        raise ValueError("these scores have no statistics for a verdict; evaluate again with jobs of this version")
    return scores.statistics


def _checks(statistics: Statistics, policy: GatePolicy, alpha: float) -> Iterator[Check]:
    """All checks that have enough values."""
    yield from floor_checks(statistics, policy, alpha)
    for comparison in statistics.comparisons:
        yield from comparison_checks(comparison, policy, alpha)
    yield from in_context_checks(statistics.affected, policy, alpha)


def _inconclusive_reasons(scores: Scores, statistics: Statistics, policy: GatePolicy) -> Iterator[str]:
    """Reasons against any conclusion, whatever the bounds are."""
    yield from _too_few(scores, statistics, policy)
    if not judged_criteria(statistics):
        most = max((sample.count for sample in statistics.criteria.values()), default=0)
        needs = f"each needs {MIN_SAMPLE} conversations, and none has more than {most}"
        yield f"no criterion was judged: {needs}; raise evaluation.scenarios"
    if not (statistics.failures.of and statistics.conformance.of):
        yield "failures or conformance were counted in no conversation; evaluate again"
    if statistics.missing > policy.max_missing:
        yield f"{statistics.missing:.1%} of the judgements are missing, but at most {policy.max_missing:.0%} may be; judge again"
    yield from unreliable_judges(statistics, policy)
    yield from uncertified_judges(statistics, policy)
    for comparison in statistics.comparisons:
        yield from unclear_comparisons(comparison, judged_criteria(statistics), policy)


def _too_few(scores: Scores, statistics: Statistics, policy: GatePolicy) -> Iterator[str]:
    # Customers who had to be played twice are no reason: the procedure has no others, and all bounds count each of them once.
    left = left_out(scores, statistics)
    usable = scores.scenarios - left
    if scores.ended_early:
        why = "because the candidate could no longer pass the policy then in force"
        yield f"only {_simulated(scores)}, {why}; set another evaluation.seed to simulate them all"
    elif usable < policy.min_scenarios:
        what = f"{scores.scenarios} scenarios were simulated" if usable == scores.scenarios else f"{usable} conversations count"
        yield f"only {what}, but a promotion needs at least {policy.min_scenarios}; raise evaluation.scenarios"
    if left > MAX_LEFT_OUT * scores.scenarios:
        yield (
            f"{left} of {scores.scenarios} conversations are left out, because the simulated customer left early, "
            f"but at most {MAX_LEFT_OUT:.0%} may be; choose another model for evaluation.simulator"
        )


def _undecided(checks: Sequence[Check], scenarios: int, alpha: float) -> Iterator[str]:
    """Checks whose interval contains the floor, with the scenarios needed to decide at the level of the next attempt."""
    for check in checks:
        if check.result == "Inconclusive":
            yield f"{check.name}: {check.text}; {check.remedy or _more_scenarios(check, scenarios, alpha)}"


def _more_scenarios(check: Check, scenarios: int, alpha: float) -> str:
    """How many scenarios the next attempt needs.

    A comparison is counted for a candidate that is as good as the reference: the difference observed is what chance made of it, and
    those that chance made small are the ones that need no next attempt.
    """
    if check.margin is None:
        needed = scenarios_to_decide(check.interval.mean - check.floor, check.sd, alpha) * scenarios / check.n
        return f"{_about(needed)} scenarios would be needed to decide at the observed value"
    needed = scenarios_to_decide(check.margin, check.sd, alpha, CHECK_POWER) * scenarios / (check.n * check.widening**2)
    return f"if it is as good, {_about(max(needed, scenarios))} scenarios would show it in the next attempt"


def _about(number: float) -> str:
    return f"about {number:,.0f}" if number < REPORT_CAP else f"more than {REPORT_CAP:,}"
