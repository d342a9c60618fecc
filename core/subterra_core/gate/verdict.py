"""The gate: may a candidate replace what serves? Paired non-inferiority on every criterion, floors, and a price for trying again.

Pure, and from sufficient statistics only: a finished run is judged anew under another policy without playing anything.
docs/evaluation.md says why it decides so.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_api.v1alpha1.scores import (
    Branch,
    Comparison,
    Difference,
    Discordant,
    Interval,
    Sample,
    Scores,
    Statistics,
    Tally,
    Verdict,
    VerdictResult,
)
from subterra_core.gate.bounds import difference_bounds, mean_bounds, scenarios_to_decide, share_bounds

ALPHA = 0.05
"""The chance to promote what is worse by the margin, for all attempts at one procedure together."""
FIRST_SHARE = 0.8
"""Most of alpha goes to the first attempt, since most candidates have only one."""
LEAST_ALPHA = 1e-12
"""Bounds are computed down to this level."""
FUTILE_ALPHA = 0.001
"""A look before the end gives up only when the floor is this far out of reach."""
BLOCK = 100
"""Scenarios between two looks."""
FEW = 30
"""With fewer values nothing is judged: a criterion, a comparison or a branch."""
BRANCH_ALPHA = 0.05
"""The chance to block a candidate for branches that are all good enough."""
MANY = 100_000
"""So many scenarios are told as "more than"."""


@dataclass(frozen=True)
class Check:
    """One figure against its floor, both with "higher is better"; ``sd`` and ``n`` are those of the values behind it."""

    name: str
    interval: Interval
    floor: float
    text: str
    sd: float
    n: int

    @property
    def result(self) -> VerdictResult:
        if self.interval.low >= self.floor:
            return "Pass"
        return "Fail" if self.interval.high < self.floor else "Inconclusive"


def judge(scores: Scores, policy: GatePolicy, attempt: int = 1, alpha: float = ALPHA) -> Verdict:
    """Fail when a check fails, Pass when all pass (intersection-union: no correction for their number), else Inconclusive.

    ``attempt`` counts all attempts at this procedure, the first is 1. Raises ValueError for scores without statistics.
    """
    found = _statistics(scores)
    checks = list(_checks(found, policy, spend(alpha, attempt)))
    failed = [check for check in checks if check.result == "Fail"]
    blocked = blocked_branches(scores.worst_branches or (), scores.branches_judged or 0, policy)
    if failed or blocked:
        told = [*(f"{check.name}: {check.text}" for check in failed), *blocked]
        early = [f"advisory: only {_played(scores)}, since more could not have saved it"] if scores.ended_early else []
        return Verdict(result="Fail", reasons=_first([*told, *early]))
    unknown = [*_doubts(scores, found, policy), *_open(checks, scores.scenarios, spend(alpha, attempt + 1))]
    if unknown:
        return Verdict(result="Inconclusive", reasons=_first(unknown))
    passed = f"all {len(checks)} checks passed on {scores.scenarios} scenarios at a one-sided level of {spend(alpha, attempt):.3g}"
    return Verdict(result="Pass", reasons=_first([passed, *_advice(scores, found, policy)]))


def spend(alpha: float, attempt: int) -> float:
    """The level of one attempt: a fixed share of what earlier ones left, so that any number of them have ``alpha`` together.

    From the seventeenth on it is `LEAST_ALPHA`, which a million attempts do not make to count.
    """
    if attempt < 1:
        raise ValueError(f"attempts count from 1, not {attempt}")
    return max(LEAST_ALPHA, alpha * FIRST_SHARE * (1 - FIRST_SHARE) ** (attempt - 1))


def futile(found: Statistics, policy: GatePolicy, attempt: int = 1) -> bool:
    """Whether playing on is a waste, at a look before all is played: `judge` fails it now, and by far.

    There is no early success, so that looking often cannot promote.
    """
    return any(check.result == "Fail" for check in _checks(found, policy, min(FUTILE_ALPHA, spend(ALPHA, attempt))))


def _played(scores: Scores) -> str:
    return f"{scores.scenarios} of {scores.planned} scenarios were played"


def blocked_branches(worst: Sequence[Branch], judged: int, policy: GatePolicy) -> tuple[str, ...]:
    """Branches that surely fail too often: exact binomial, corrected (Holm) for all that were judged; these are the worst."""
    ceiling = policy.max_branch_failure_rate
    ranked = sorted((binomial_tail(b.failures, b.conversations, ceiling), b.hub, b.to, b) for b in worst if b.conversations >= FEW)
    blocked = []
    for rank, (p, *_, branch) in enumerate(ranked):
        if p * (judged - rank) > BRANCH_ALPHA:
            break
        told = f"{branch.failures} of {branch.conversations} conversations failed, above a ceiling of {ceiling:.1%}"
        blocked.append(f"branch {branch.hub} → {branch.to}: {told}")
    return tuple(blocked)


def binomial_tail(hits: int, of: int, rate: float) -> float:
    """Probability of so many hits or more at a rate above 0 and below 1: the exact one-sided p-value."""
    hit, miss = math.log(rate), math.log1p(-rate)

    def log_ways(k: int) -> float:
        return math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1)

    return min(1.0, math.fsum(math.exp(log_ways(k) + k * hit + (of - k) * miss) for k in range(hits, of + 1)))


def _statistics(scores: Scores) -> Statistics:
    if scores.statistics is None:
        raise ValueError("these scores have no statistics to judge by; evaluate again with jobs of this version")
    return scores.statistics


def _checks(found: Statistics, policy: GatePolicy, alpha: float) -> Iterator[Check]:
    """Every check with enough values to be made."""
    for name, sample in sorted(found.criteria.items()):
        if sample.count >= FEW:
            yield _of_mean(name, sample, policy.min_score, alpha)
    kept = Tally(hits=found.failures.of - found.failures.hits, of=found.failures.of)
    yield _of_share("success", kept, 1 - policy.max_failure_rate, alpha)
    yield _of_share("conformance", found.conformance, policy.min_conformance, alpha)
    for comparison in found.comparisons:
        yield from _compared(comparison, policy, alpha)


def _compared(comparison: Comparison, policy: GatePolicy, alpha: float) -> Iterator[Check]:
    pairs = comparison.failures
    if pairs.of < FEW:
        return
    for name, sample in sorted(comparison.criteria.items()):
        if sample.count >= FEW:
            yield _of_mean(f"{name} against {comparison.against}", sample, -policy.margin, alpha)
    kept = difference_bounds(Discordant(worse=pairs.better, better=pairs.worse, of=pairs.of), alpha)
    text = f"{kept.mean:+.1%} (interval {kept.low:+.1%} to {kept.high:+.1%}) against a margin of {-policy.failure_margin:.1%}"
    sd = math.sqrt((pairs.worse + pairs.better) / pairs.of - kept.mean**2)
    yield Check(f"success against {comparison.against}", kept, -policy.failure_margin, text, sd, pairs.of)


def _of_mean(name: str, sample: Sample, floor: float, alpha: float) -> Check:
    found = mean_bounds(sample, alpha)
    text = f"mean {found.mean:.2f} (interval {found.low:.2f} to {found.high:.2f}) against {floor:.2f}"
    return Check(name, found, floor, text, sample.sd, sample.count)


def _of_share(name: str, share: Tally, floor: float, alpha: float) -> Check:
    found = share_bounds(share, alpha)
    text = f"{found.mean:.1%} (interval {found.low:.1%} to {found.high:.1%}) against a floor of {floor:.1%}"
    return Check(name, found, floor, text, math.sqrt(found.mean * (1 - found.mean)), share.of)


def _doubts(scores: Scores, found: Statistics, policy: GatePolicy) -> Iterator[str]:
    """Why nothing may be concluded, whatever the bounds say."""
    if scores.ended_early:
        cure = "set another evaluation.seed to play them all"
        yield f"only {_played(scores)}, since the policy of that time was out of reach; {cure}"
    elif scores.scenarios < policy.min_scenarios:
        told = f"only {scores.scenarios} scenarios were played; {policy.min_scenarios} are the least that can promote"
        yield f"{told}; raise evaluation.scenarios"
    if found.missing > policy.max_missing:
        yield f"{found.missing:.1%} of the judgements are missing; at most {policy.max_missing:.0%} may be; judge again"
    for against, name, difference in _differences(found):
        if difference.count < FEW:
            if not _judged_alone(found, name):
                yield f"{name} against {against}: only {difference.count} scenarios can be compared; {FEW} are needed"
        elif len(difference.judges) > 1 and min(difference.judges) <= -policy.margin:
            told = " and ".join(f"{mean:+.2f}" for mean in difference.judges)
            yield f"{name} against {against}: the judges' own differences are {told}; one alone is beyond the margin"


def _differences(found: Statistics) -> Iterator[tuple[str, str, Difference]]:
    """What is compared: with whom, which criterion."""
    for comparison in found.comparisons:
        if comparison.failures.of >= FEW:
            for name, difference in sorted(comparison.criteria.items()):
                yield comparison.against, name, difference


def _judged_alone(found: Statistics, name: str) -> bool:
    """Whether a criterion has its floor to decide, where an edit left too few scenarios to compare."""
    return name in found.criteria and found.criteria[name].count >= FEW


def _open(checks: Sequence[Check], scenarios: int, alpha: float) -> Iterator[str]:
    """Checks across their floor, with the scenarios that would decide at the level that the next attempt has."""
    for check in checks:
        if check.result == "Inconclusive":
            needed = scenarios_to_decide(check.interval.mean - check.floor, check.sd, alpha) * scenarios / check.n
            told = f"about {needed:,.0f}" if needed < MANY else f"more than {MANY:,}"
            yield f"{check.name}: {check.text}; {told} scenarios would decide if this is how it is"


def _advice(scores: Scores, found: Statistics, policy: GatePolicy) -> Iterator[str]:
    """What a Pass does not say: what there was too little of to judge or to compare, and rare branches that fail."""
    for name, sample in sorted(found.criteria.items()):
        if sample.count < FEW:
            yield f"advisory: {name} was not judged, since only {sample.count} conversations tell about it"
    for comparison in found.comparisons:
        if comparison.failures.of < FEW:
            yield f"advisory: only {comparison.failures.of} scenarios can be compared with {comparison.against}; the floors decided"
    for against, name, difference in _differences(found):
        if difference.count < FEW:
            yield f"advisory: {name}: only {difference.count} scenarios can be compared with {against}; its floor decided"
    for branch in scores.worst_branches or ():
        if branch.conversations < FEW and branch.failures > policy.max_branch_failure_rate * branch.conversations:
            told = f"{branch.failures} of {branch.conversations} conversations, too few to block"
            yield f"advisory: branch {branch.hub} → {branch.to} failed in {told}"


def _first(reasons: list[str]) -> tuple[str, ...]:
    """As many as a status holds."""
    return tuple(reasons[:20])
