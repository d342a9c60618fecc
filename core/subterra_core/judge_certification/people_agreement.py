"""How far a judge's scores agree with people's. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ScorePair:
    """A judge's and people's score of one conversation, which stands for `weight` conversations of the evaluation."""

    judge: float
    people: float
    weight: float


@dataclass(frozen=True)
class Agreement:
    """Agreement on one criterion, by the weights of the conversations."""

    conversations: int
    kappa: float
    """Cohen's kappa with quadratic weights: 1 for equal scores, 0 for chance."""
    exact: float
    """Share with equal scores."""
    within_one: float
    """Share that differs by one level at most."""
    bias: float
    """Mean of the judge's scores minus people's."""


def agreement(pairs: Sequence[ScorePair]) -> Agreement:
    """Agreement over at least one pair. Constant equal scores agree fully."""
    total = sum(pair.weight for pair in pairs)

    def mean(values: Sequence[float]) -> float:
        return sum(value * pair.weight for value, pair in zip(values, pairs, strict=True)) / total

    gaps = [pair.judge - pair.people for pair in pairs]
    judge, people = mean([pair.judge for pair in pairs]), mean([pair.people for pair in pairs])
    by_chance = mean([(pair.judge - people) ** 2 for pair in pairs]) + mean([(pair.people - people) ** 2 for pair in pairs])
    found = mean([gap * gap for gap in gaps])
    return Agreement(
        conversations=len(pairs),
        kappa=1 - found / by_chance if by_chance else 1.0,
        exact=mean([float(gap == 0) for gap in gaps]),
        within_one=mean([float(abs(gap) <= 1) for gap in gaps]),
        bias=judge - people,
    )
