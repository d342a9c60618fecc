"""The losses of a training by step, as its log in the model's directory has them. Pure."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any

Losses = tuple[tuple[int, float], ...]
"""Step and loss, in the order of the steps."""
MOST_POINTS = 300
"""Points of a line that a picture still shows."""


@dataclass(frozen=True)
class LearningCurve:
    """Training loss and held-out loss by step, and the step whose weights were kept."""

    train: Losses
    held_out: Losses
    best_step: int | None

    def to_json(self) -> dict[str, Any]:
        """As in `report.json`, with means of neighboring steps where there are many."""
        points = {"train": thinned(self.train), "heldOut": thinned(self.held_out)}
        return {name: [list(point) for point in line] for name, line in points.items()} | {"bestStep": self.best_step}


def parse_learning_curve(content: bytes | None) -> LearningCurve | None:
    """The curve in a model's log; `None` without a log, or for one without two losses of either kind."""
    try:
        row = json.loads(content or b"null")
        curve = LearningCurve(_losses(row["train"]), _losses(row["heldOut"]), row.get("bestStep"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return curve if max(len(curve.train), len(curve.held_out)) > 1 else None


def _losses(rows: Sequence[Any]) -> Losses:
    """Finite losses, the last of each step: a training that was resumed may have logged a step twice."""
    found = {int(step): float(loss) for step, loss in rows if isfinite(loss)}
    return tuple(sorted(found.items()))


def thinned(line: Losses, most: int = MOST_POINTS) -> Losses:
    """At most this many points, each the mean of as many neighbors as the others; the line itself if it has no more."""
    return line if len(line) <= most else tuple(_means(line, most))


def _means(line: Losses, most: int) -> Iterator[tuple[int, float]]:
    bounds = [round(index * len(line) / most) for index in range(most + 1)]
    for start, end in pairwise(bounds):
        part = line[start:end]
        yield part[-1][0], round(sum(loss for _, loss in part) / len(part), 5)
