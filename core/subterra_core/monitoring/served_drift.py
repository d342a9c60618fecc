"""Whether served conversations have drifted from the version's evaluation: tests that may be looked at after every conversation.

The share of conversations with a wrong reply, and at each hub the share of words that are like no example, are compared with what
the same labeller found in the evaluation. A share has drifted when the evidence that it is higher than allowed is `1 / α` to one.
The evidence is a likelihood ratio, averaged over higher shares; while the share is not higher than allowed, the chance that it ever
exceeds `1 / α` is at most α (Ville's inequality), however often it is looked at. docs/reference/evaluation-statistics.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from subterra_api.job_contract.messages import ServedCounts

ALPHA = 0.01
"""Chance of a false alarm per agent and week, over all shares and all looks together."""
MARGIN = 0.05
"""How much higher a share may be than the evaluation's upper bound: served customers are not simulated ones."""
MIN_COUNT = 30
"""Conversations, or turns at a hub, before a share can count as drifted."""
BOUND_Z = 1.96
"""Quantile for the upper bound of the evaluation's share, one-sided at 97.5 %."""
GRID = 40
"""Number of higher shares that the likelihood ratio is averaged over."""


@dataclass(frozen=True)
class Drifted:
    """A share that has drifted; `hub` is `None` for that of conversations with a wrong reply."""

    hub: str | None
    hits: int
    of: int
    allowed: float
    """The highest share that the evaluation allows."""


def drifted_shares(counts: ServedCounts, reference: ServedCounts, alpha: float = ALPHA) -> list[Drifted]:
    """All shares that have drifted, that of conversations first, then by hub's name."""
    wrong = counts.conversations - counts.conformant
    allowed = allowed_share(reference.conversations - reference.conformant, reference.conversations)
    shares = [Drifted(None, wrong, counts.conversations, allowed)]
    for hub in sorted(counts.hubs.keys() & reference.hubs.keys()):
        here, there = counts.hubs[hub], reference.hubs[hub]
        shares.append(Drifted(hub, here.unrecognized, here.turns, allowed_share(there.unrecognized, there.turns)))
    tests = 1 + len(reference.hubs)
    return [share for share in shares if _has_drifted(share, alpha / tests)]


def _has_drifted(share: Drifted, alpha: float) -> bool:
    return share.of >= MIN_COUNT and log_evidence(share.hits, share.of, share.allowed) >= -math.log(alpha)


def allowed_share(hits: int, of: int) -> float:
    """Upper bound of the evaluation's share (Wilson) and the margin; 1 where nothing was seen, so that nothing can exceed it."""
    if not of:
        return 1.0
    share, z2 = hits / of, BOUND_Z**2
    centre, spread = share + z2 / (2 * of), BOUND_Z * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return min(1.0, (centre + spread) / (1 + z2 / of) + MARGIN)


def log_evidence(hits: int, of: int, allowed: float) -> float:
    """Logarithm of the likelihood ratio of shares above `allowed` (a uniform grid) to `allowed` itself."""
    if allowed >= 1.0:
        return 0.0
    ratios = [
        hits * math.log(share / allowed) + (of - hits) * math.log((1 - share) / (1 - allowed)) for share in _higher_shares(allowed)
    ]
    top = max(ratios)
    return top + math.log(sum(math.exp(ratio - top) for ratio in ratios) / len(ratios))


def _higher_shares(allowed: float) -> Sequence[float]:
    return [allowed + (1 - allowed) * (index + 0.5) / GRID for index in range(GRID)]
