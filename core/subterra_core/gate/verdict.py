"""The gate: may a candidate replace the serving version? Paired non-inferiority on every criterion, floors, alpha spending.

Pure, and computed from sufficient statistics: a finished run can be judged again under another policy without new conversations.
docs/reference/evaluation-statistics.md gives the reasons for this design.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_api.v1alpha1.scores import (
    Branch,
    Comparison,
    Difference,
    DiscordantPairs,
    Interval,
    Proportion,
    RobustnessKind,
    SampleStats,
    Scores,
    Statistics,
    Verdict,
    VerdictResult,
)
from subterra_core.gate.bounds import difference_bounds, mean_bounds, proportion_bounds, scenarios_to_decide

ALPHA = 0.05
"""Probability of promoting a candidate that is worse by the margin, over all attempts at one procedure."""
FIRST_SHARE = 0.8
"""Share of alpha for the first attempt; large, since most candidates have only one."""
MIN_ALPHA = 1e-12
"""Smallest level for which bounds are computed."""
FUTILE_ALPHA = 0.001
"""Level of interim looks: an evaluation stops early only if the floor is this clearly out of reach."""
INTERIM_BLOCK = 100
"""Scenarios between two interim looks."""
MIN_SAMPLE = 30
"""Minimum number of values for judging a criterion, a comparison or a branch."""
MIN_UNKNOWN_VALUES = 0.5
"""Share of customers with a value outside a closed list; a candidate that clearly handles fewer fails."""
PHRASINGS_REMEDY = "add examples in other words to the customer's turns, or raise evaluation.scenarios, up to 420"
MAX_LEFT_OUT = 0.2
"""Largest share of conversations that a simulated customer may have left early; with more the customers are not fit to judge by."""
BRANCH_ALPHA = 0.05
"""Probability of blocking a candidate whose branches are all good enough."""
REPORT_CAP = 100_000
"""From this number of scenarios on, messages say "more than"."""
_MAX_REASONS = 20
"""As many as a status holds."""


@dataclass(frozen=True)
class Check:
    """A value compared with its floor, where higher is better; `sd` and `n` describe the sample behind it."""

    name: str
    interval: Interval
    floor: float
    text: str
    sd: float
    n: int
    remedy: str | None = None
    """What makes the result clear, where it is not only more scenarios."""

    @property
    def result(self) -> VerdictResult:
        if self.interval.low >= self.floor:
            return "Pass"
        return "Fail" if self.interval.high < self.floor else "Inconclusive"


def judge(scores: Scores, policy: GatePolicy, attempt: int = 1, alpha: float = ALPHA) -> Verdict:
    """Fail if a check fails, Pass if all pass (intersection-union: no correction for their number), else Inconclusive.

    `attempt` is the number of attempts at this procedure, starting with 1. Raises ValueError for scores without statistics.
    """
    statistics, level = _statistics(scores), alpha_for_attempt(alpha, attempt)
    checks = [*_checks(statistics, policy, level), *_checks_beyond_the_examples(scores, policy, alpha, level)]
    failed = [f"{check.name}: {check.text}" for check in checks if check.result == "Fail"]
    failed += [*_unlisted_values_made_up(scores, level)]
    failed += blocked_branches(scores.worst_branches or (), scores.branches_judged or 0, policy)
    if failed:
        early = [f"advisory: only {_simulated(scores)}; more could not have changed the result"] if scores.ended_early else []
        return _verdict("Fail", [*failed, *early])
    undecided = _undecided(checks, scores.scenarios, alpha_for_attempt(alpha, attempt + 1))
    if unknown := [*_inconclusive_reasons(scores, statistics, policy), *undecided]:
        return _verdict("Inconclusive", unknown)
    covered = f"for {scores.covers}: " if scores.covers else ""
    passed = f"{covered}all {len(checks)} checks passed on {scores.scenarios} scenarios at a one-sided level of {level:.3g}"
    return _verdict("Pass", [passed, *_advisories(scores, statistics, policy), *_advisories_beyond_the_examples(scores)])


def _verdict(result: VerdictResult, reasons: Sequence[str]) -> Verdict:
    return Verdict(result=result, reasons=tuple(reasons[:_MAX_REASONS]))


def alpha_for_attempt(alpha: float, attempt: int) -> float:
    """Level of one attempt: a fixed share of what earlier attempts left, so that all of them together spend `alpha`.

    From the seventeenth on it is `MIN_ALPHA`, which adds up to nothing noticeable even in a million attempts.
    """
    if attempt < 1:
        raise ValueError(f"attempts count from 1, not {attempt}")
    return max(MIN_ALPHA, alpha * FIRST_SHARE * (1 - FIRST_SHARE) ** (attempt - 1))


def futile(statistics: Statistics, policy: GatePolicy, attempt: int = 1) -> bool:
    """Whether an interim look should stop the evaluation, because `judge` would clearly fail the candidate.

    There is no early success, so frequent looks cannot promote.
    """
    level = min(FUTILE_ALPHA, alpha_for_attempt(ALPHA, attempt))
    return any(check.result == "Fail" for check in _checks(statistics, policy, level))


def _simulated(scores: Scores) -> str:
    return f"{scores.scenarios} of {scores.planned} scenarios were simulated"


def blocked_branches(worst: Sequence[Branch], judged: int, policy: GatePolicy) -> tuple[str, ...]:
    """Messages for branches that fail significantly too often, by the exact binomial test with Holm's correction.

    `worst` holds the worst of all `judged` branches.
    """
    ceiling = policy.max_branch_failure_rate
    judgeable = [branch for branch in worst if branch.conversations >= MIN_SAMPLE]
    ranked = sorted((binomial_tail(b.failures, b.conversations, ceiling), b.hub, b.to, b) for b in judgeable)
    blocked = []
    for rank, (p, *_, branch) in enumerate(ranked):
        if p * (judged - rank) > BRANCH_ALPHA:
            break
        counts = f"{branch.failures} of {branch.conversations} conversations failed, above a ceiling of {ceiling:.1%}"
        blocked.append(f"branch {branch.hub} → {branch.to}: {counts}")
    return tuple(blocked)


def binomial_tail(hits: int, of: int, rate: float) -> float:
    """Probability of at least `hits` hits at a rate strictly between 0 and 1: the exact one-sided p-value."""
    hit, miss = math.log(rate), math.log1p(-rate)

    def log_ways(k: int) -> float:
        return math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1)

    return min(1.0, math.fsum(math.exp(log_ways(k) + k * hit + (of - k) * miss) for k in range(hits, of + 1)))


def _statistics(scores: Scores) -> Statistics:
    if scores.statistics is None:
        raise ValueError("these scores have no statistics for a verdict; evaluate again with jobs of this version")
    return scores.statistics


def _checks(statistics: Statistics, policy: GatePolicy, alpha: float) -> Iterator[Check]:
    """All checks that have enough values."""
    for name, sample in sorted(statistics.criteria.items()):
        if sample.count >= MIN_SAMPLE:
            yield _mean_check(name, sample, policy.min_score, alpha)
    failures = statistics.failures
    successes = Proportion(hits=failures.of - failures.hits, of=failures.of)
    if failures.of:
        yield _proportion_check("success", successes, 1 - policy.max_failure_rate, alpha)
    if statistics.conformance.of:
        yield _proportion_check("conformance", statistics.conformance, policy.min_conformance, alpha)
    for comparison in statistics.comparisons:
        yield from _comparison_checks(comparison, policy, alpha)


def _checks_beyond_the_examples(scores: Scores, policy: GatePolicy, alpha: float, level: float) -> Iterator[Check]:
    """Checks of what conforming customers do not show. Scores of an earlier version have none of it."""
    asserted = scores.fabrication
    if asserted is not None and asserted.of >= MIN_SAMPLE:
        yield _fabrication_check(asserted, policy.max_fabrication_rate, level)
    phrasings = _robustness(scores).get("phrasings")
    if phrasings is not None:
        # The number of these customers is bounded, so that a level that falls with every attempt would soon leave no way to pass.
        bound = alpha_for_attempt(alpha, 1)
        yield replace(_proportion_check("phrasings", phrasings, policy.min_phrasings, bound), remedy=PHRASINGS_REMEDY)


def _fabrication_check(asserted: Proportion, ceiling: float, alpha: float) -> Check:
    rate = proportion_bounds(asserted, alpha)
    true_values = Interval(mean=1 - rate.mean, low=1 - rate.high, high=1 - rate.low)
    text = (
        f"{asserted.hits} of {asserted.of} values that the agent asserted came from nobody, {rate.mean:.1%} "
        f"(interval {rate.low:.1%} to {rate.high:.1%}) against a ceiling of {ceiling:.1%}"
    )
    # Without a fabricated value the sample shows no spread; the ceiling's is then what has to be told apart.
    spread = max(rate.mean * (1 - rate.mean), ceiling * (1 - ceiling))
    return Check("fabrication", true_values, 1 - ceiling, text, math.sqrt(spread), asserted.of)


def _robustness(scores: Scores) -> dict[RobustnessKind, Proportion]:
    """Conversations that the agent handled, by kind, of the kinds that were tested."""
    return {score.kind: Proportion(hits=score.hits, of=score.of) for score in scores.robustness or () if score.of}


def _unlisted_values_made_up(scores: Scores, level: float) -> Iterator[str]:
    """The reason to fail an agent that clearly fails more than half of the customers with a value outside a closed list."""
    handled = _robustness(scores).get("unknownValues")
    if handled is not None and proportion_bounds(handled, level).high < MIN_UNKNOWN_VALUES:
        yield (
            f"unknownValues: {handled.hits} of {handled.of} handled: for a value outside a closed list the agent asserts another "
            "one; set open: true or add a branch"
        )


def _advisories_beyond_the_examples(scores: Scores) -> Iterator[str]:
    """What a Pass does not cover of what conforming customers do not show."""
    if scores.fabrication is None:
        yield "advisory: fabrication was not measured; evaluate again"
    elif scores.fabrication.of < MIN_SAMPLE:
        yield f"advisory: fabrication was not judged, since the agent asserted only {scores.fabrication.of} values"
    for score in scores.robustness or ():
        if not score.of:
            yield f"advisory: {score.kind}: not tested; the report has the reason"
        elif 2 * score.hits < score.of:
            yield f"advisory: {score.kind}: only {score.hits} of {score.of} handled"


def _comparison_checks(comparison: Comparison, policy: GatePolicy, alpha: float) -> Iterator[Check]:
    pairs = comparison.failures
    if pairs.of < MIN_SAMPLE:
        return
    for name, sample in sorted(comparison.criteria.items()):
        if sample.count >= MIN_SAMPLE:
            yield _mean_check(f"{name} against {comparison.against}", sample, -policy.margin, alpha)
    success = difference_bounds(DiscordantPairs(worse=pairs.better, better=pairs.worse, of=pairs.of), alpha)
    interval = f"interval {success.low:+.1%} to {success.high:+.1%}"
    text = f"{success.mean:+.1%} ({interval}) against a margin of {-policy.failure_margin:.1%}"
    sd = math.sqrt((pairs.worse + pairs.better) / pairs.of - success.mean**2)
    yield Check(f"success against {comparison.against}", success, -policy.failure_margin, text, sd, pairs.of)


def _mean_check(name: str, sample: SampleStats, floor: float, alpha: float) -> Check:
    bounds = mean_bounds(sample, alpha)
    text = f"mean {bounds.mean:.2f} (interval {bounds.low:.2f} to {bounds.high:.2f}) against {floor:.2f}"
    return Check(name, bounds, floor, text, sample.sd, sample.count)


def _proportion_check(name: str, proportion: Proportion, floor: float, alpha: float) -> Check:
    bounds = proportion_bounds(proportion, alpha)
    text = f"{bounds.mean:.1%} (interval {bounds.low:.1%} to {bounds.high:.1%}) against a floor of {floor:.1%}"
    return Check(name, bounds, floor, text, math.sqrt(bounds.mean * (1 - bounds.mean)), proportion.of)


def _inconclusive_reasons(scores: Scores, statistics: Statistics, policy: GatePolicy) -> Iterator[str]:
    """Reasons against any conclusion, whatever the bounds are."""
    if scores.ended_early:
        why = "because the candidate could no longer pass the policy then in force"
        yield f"only {_simulated(scores)}, {why}; set another evaluation.seed to simulate them all"
    elif (usable := scores.scenarios - _left_out(scores, statistics)) < policy.min_scenarios:
        what = f"{scores.scenarios} scenarios were simulated" if usable == scores.scenarios else f"{usable} conversations count"
        yield f"only {what}, but a promotion needs at least {policy.min_scenarios}; raise evaluation.scenarios"
    if (left := _left_out(scores, statistics)) > MAX_LEFT_OUT * scores.scenarios:
        yield (
            f"{left} of {scores.scenarios} conversations are left out, because the simulated customer left early, "
            f"but at most {MAX_LEFT_OUT:.0%} may be; choose another model for evaluation.simulator"
        )
    if not statistics.criteria:
        yield "no criterion was judged; evaluate again"
    if not (statistics.failures.of and statistics.conformance.of):
        yield "failures or conformance were counted in no conversation; evaluate again"
    if statistics.missing > policy.max_missing:
        yield f"{statistics.missing:.1%} of the judgements are missing, but at most {policy.max_missing:.0%} may be; judge again"
    for against, name, difference in _differences(statistics):
        if difference.count < MIN_SAMPLE:
            if not _has_floor(statistics, name):
                yield f"{name} against {against}: only {difference.count} scenarios can be compared; {MIN_SAMPLE} are needed"
        elif len(difference.judges) > 1 and min(difference.judges) <= -policy.margin:
            means = ", ".join(f"{mean:+.2f}" for mean in difference.judges)
            yield f"{name} against {against}: the judges disagree ({means}): at least one of them alone exceeds the margin"


def _differences(statistics: Statistics) -> Iterator[tuple[str, str, Difference]]:
    """All compared differences, each with its reference and criterion."""
    for comparison in statistics.comparisons:
        if comparison.failures.of >= MIN_SAMPLE:
            for name, difference in sorted(comparison.criteria.items()):
                yield comparison.against, name, difference


def _has_floor(statistics: Statistics, name: str) -> bool:
    """Whether a criterion has enough values for its floor to decide, even if an edit left too few scenarios to compare."""
    return name in statistics.criteria and statistics.criteria[name].count >= MIN_SAMPLE


def _undecided(checks: Sequence[Check], scenarios: int, alpha: float) -> Iterator[str]:
    """Checks whose interval contains the floor, with the scenarios needed to decide at the level of the next attempt."""
    for check in checks:
        if check.result == "Inconclusive" and check.remedy:
            yield f"{check.name}: {check.text}; {check.remedy}"
        elif check.result == "Inconclusive":
            needed = scenarios_to_decide(check.interval.mean - check.floor, check.sd, alpha) * scenarios / check.n
            number = f"about {needed:,.0f}" if needed < REPORT_CAP else f"more than {REPORT_CAP:,}"
            yield f"{check.name}: {check.text}; {number} scenarios would be needed to decide at the observed difference"


def _left_out(scores: Scores, statistics: Statistics) -> int:
    """Conversations that count nowhere, because the simulated customer left early."""
    return max(0, scores.scenarios - statistics.failures.of)


def _advisories(scores: Scores, statistics: Statistics, policy: GatePolicy) -> Iterator[str]:
    """What a Pass does not cover: conversations left out, samples too small to judge or to compare, and rare branches that fail."""
    if left := _left_out(scores, statistics):
        yield f"advisory: {left} of {scores.scenarios} conversations are left out, because the simulated customer left early"
    for name, sample in sorted(statistics.criteria.items()):
        if sample.count < MIN_SAMPLE:
            yield f"advisory: {name} was not judged, since it applies to only {sample.count} conversations"
    for comparison in statistics.comparisons:
        if comparison.failures.of < MIN_SAMPLE:
            yield f"advisory: only {comparison.failures.of} scenarios can be compared with {comparison.against}; the floors decided"
    for against, name, difference in _differences(statistics):
        if difference.count < MIN_SAMPLE:
            yield f"advisory: {name}: only {difference.count} scenarios can be compared with {against}; its floor decided"
    for branch in scores.worst_branches or ():
        if branch.conversations < MIN_SAMPLE and branch.failures > policy.max_branch_failure_rate * branch.conversations:
            counts = f"{branch.failures} of {branch.conversations} conversations, too few to block"
            yield f"advisory: branch {branch.hub} → {branch.to} failed in {counts}"
