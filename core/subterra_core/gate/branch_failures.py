"""Branches of a procedure that fail too often, however good the whole looks."""

import math
from collections.abc import Iterator, Sequence

from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_api.v1alpha1.scores import Branch

BRANCH_ALPHA = 0.05
"""Probability of blocking a candidate whose branches are all good enough."""


def blocked_branches(worst: Sequence[Branch], judged: int, policy: GatePolicy) -> tuple[str, ...]:
    """Messages for branches that fail significantly too often, by the exact binomial test with Holm's correction.

    `worst` holds the worst of all `judged` branches.
    """
    ceiling, family = policy.max_branch_failure_rate, max(judged, len(worst))
    ranked = sorted((binomial_tail(b.failures, b.conversations, ceiling), b.hub, b.to, b) for b in worst)
    blocked = []
    for rank, (p, *_, branch) in enumerate(ranked):
        if p * (family - rank) > BRANCH_ALPHA:
            break
        counts = f"{branch.failures} of {branch.conversations} conversations failed, above a ceiling of {ceiling:.1%}"
        blocked.append(f"branch {branch.hub} → {branch.to}: {counts}")
    return tuple(blocked)


def doubtful_branches(worst: Sequence[Branch], policy: GatePolicy) -> Iterator[str]:
    """Advisories on branches that failed more often than the ceiling, though chance may explain it."""
    for branch in worst:
        if branch.failures > policy.max_branch_failure_rate * branch.conversations:
            counts = f"{branch.failures} of {branch.conversations} conversations, too few to block"
            yield f"advisory: branch {branch.hub} → {branch.to} failed in {counts}"


def binomial_tail(hits: int, of: int, rate: float) -> float:
    """Probability of at least `hits` hits at a rate strictly between 0 and 1: the exact one-sided p-value."""
    hit, miss = math.log(rate), math.log1p(-rate)

    def log_ways(k: int) -> float:
        return math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1)

    return min(1.0, math.fsum(math.exp(log_ways(k) + k * hit + (of - k) * miss) for k in range(hits, of + 1)))
