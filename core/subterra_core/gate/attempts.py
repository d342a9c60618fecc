"""Significance levels of the attempts at one procedure."""

ALPHA = 0.05
"""Probability of promoting a candidate that is worse by the margin, over all attempts at one procedure."""
FIRST_SHARE = 0.8
"""Share of alpha for the first attempt; large, since most candidates have only one."""
MIN_ALPHA = 1e-12
"""Smallest level for which bounds are computed."""


def alpha_for_attempt(alpha: float, attempt: int) -> float:
    """Level of one attempt: a fixed share of what earlier attempts left, so that all of them together spend `alpha`.

    From the seventeenth on it is `MIN_ALPHA`, which adds up to nothing noticeable even in a million attempts.
    """
    if attempt < 1:
        raise ValueError(f"attempts count from 1, not {attempt}")
    return max(MIN_ALPHA, alpha * FIRST_SHARE * (1 - FIRST_SHARE) ** (attempt - 1))
