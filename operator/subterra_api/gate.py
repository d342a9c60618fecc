"""The gate: may a candidate be promoted? Pure, from the evaluation's intervals and the policy's floors.

The bound decides, not the mean: Pass needs the whole 95 % interval on the right side, Fail the whole interval on the wrong
side; between them the verdict is Inconclusive, which is never promoted. A branch that surely fails too often is a Fail as well.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from subterra_api.v1alpha1.compilerun import Branch, GatePolicy, Interval, Scores, Verdict, VerdictResult

FEW = 30
"""A branch with fewer conversations is never judged."""
BRANCH_ALPHA = 0.05
"""The chance to block a candidate for branches that are all good enough."""


@dataclass(frozen=True)
class Check:
    """One figure against its floor, both with "higher is better"."""

    name: str
    interval: Interval
    floor: float
    text: str

    @property
    def result(self) -> VerdictResult:
        if self.interval.low >= self.floor:
            return "Pass"
        return "Fail" if self.interval.high < self.floor else "Inconclusive"


def judge(scores: Scores, policy: GatePolicy) -> Verdict:
    """The verdict, with a reason for every check that did not pass."""
    checks = _checks(scores, policy)
    results = {check.result for check in checks}
    reasons = tuple(f"{check.name}: {check.text}" for check in checks if check.result != "Pass")
    blocked = blocked_branches(scores.worst_branches or (), scores.branches_judged or 0, policy)
    if "Fail" in results or blocked:
        return Verdict(result="Fail", reasons=(*reasons, *blocked))
    if scores.scenarios < policy.min_scenarios:
        few = f"only {scores.scenarios} scenarios were played, the gate asks for {policy.min_scenarios}; raise evaluation.scenarios"
        return Verdict(result="Inconclusive", reasons=(few, *reasons))
    if "Inconclusive" in results:
        return Verdict(result="Inconclusive", reasons=reasons)
    return Verdict(result="Pass", reasons=(f"all {len(checks)} checks passed on {scores.scenarios} scenarios",))


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


def _checks(scores: Scores, policy: GatePolicy) -> list[Check]:
    criteria = [
        Check(name, value, policy.min_score, f"{_span(value)} against a floor of {policy.min_score:.2f}")
        for name, value in sorted(scores.criteria.items())
    ]
    failures, conformance = scores.failure_rate, scores.conformance
    kept = Interval(mean=1 - failures.mean, low=1 - failures.high, high=1 - failures.low)
    ceiling = f"{_span(failures, percent=True)} against a ceiling of {policy.max_failure_rate:.1%}"
    floor = f"{_span(conformance, percent=True)} against a floor of {policy.min_conformance:.1%}"
    return [
        *criteria,
        Check("failureRate", kept, 1 - policy.max_failure_rate, ceiling),
        Check("conformance", conformance, policy.min_conformance, floor),
    ]


def _span(value: Interval, percent: bool = False) -> str:
    if percent:
        return f"{value.mean:.1%} (95 % interval {value.low:.1%} to {value.high:.1%})"
    return f"mean {value.mean:.2f} (95 % interval {value.low:.2f} to {value.high:.2f})"
