"""Exact bounds of a proportion (Clopper and Pearson, Biometrika 26, 1934), using only the standard library."""

import math
from functools import lru_cache

_STEPS = 40
"""Bisections of the interval from 0 to 1: accurate to 1e-12."""
_NEGLIGIBLE = 1e-15


@lru_cache(maxsize=4096)
def lower_bound(hits: int, of: int, alpha: float) -> float:
    """Largest share that would give `hits` or more of `of` with probability `alpha` at most; 0 without any hit."""
    if hits == 0:
        return 0.0
    low, high = 0.0, hits / of
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_least(hits, of, middle) <= alpha else (low, middle)
    return low


def upper_bound(hits: int, of: int, alpha: float) -> float:
    """Smallest share that would give `hits` or fewer of `of` with probability `alpha` at most; 1 if nothing was counted."""
    return 1.0 - lower_bound(of - hits, of, alpha)


def _at_least(hits: int, of: int, share: float) -> float:
    """Probability of `hits` or more of `of` at a share below hits / of, from where on the terms only decrease."""
    ways = math.lgamma(of + 1) - math.lgamma(hits + 1) - math.lgamma(of - hits + 1)
    term = total = math.exp(ways + hits * math.log(share) + (of - hits) * math.log1p(-share))
    for count in range(hits, of):
        term *= (of - count) / (count + 1) * share / (1 - share)
        total += term
        if term < _NEGLIGIBLE * total:
            break
    return total
