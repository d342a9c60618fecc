"""Which conversations people score: more of those that a judge calls a failure than there are by chance. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
FLAGGED_SHARE = 3
"""One in so many conversations of a sheet is one that a judge calls a failure, if there are enough."""


@dataclass(frozen=True)
class SheetSample(Generic[Item]):
    """The drawn conversations in the order of the sheet, each with whether a judge calls it a failure."""

    drawn: tuple[tuple[Item, bool], ...]
    flagged: int
    """Conversations of the evaluation that a judge calls a failure."""
    others: int

    def weight(self, flagged: bool) -> float:
        """How many conversations of the evaluation one of this kind stands for."""
        return (self.flagged if flagged else self.others) / sum(kind == flagged for _, kind in self.drawn)


def draw_sheet(flagged: Sequence[Item], others: Sequence[Item], size: int, seed: int) -> SheetSample[Item]:
    """`size` conversations in random order, or all if there are no more.

    A third are those that a judge calls a failure. The rest is larger because it has to show how rarely a failure is missed: one
    missed among the many others weighs more than one found.
    """
    rng = random.Random(f"judge-sheet/{seed}")
    of_others = min(len(others), size - min(len(flagged), size // FLAGGED_SHARE))
    of_flagged = min(len(flagged), size - of_others)
    drawn = [(item, True) for item in rng.sample(flagged, of_flagged)] + [(item, False) for item in rng.sample(others, of_others)]
    rng.shuffle(drawn)
    return SheetSample(tuple(drawn), len(flagged), len(others))
