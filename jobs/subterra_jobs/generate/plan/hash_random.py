"""Chance without a sequence: every draw is a hash of what it is for, so that an edit elsewhere moves no other draw. Pure."""

import hashlib
import math
import random
from collections.abc import Sequence

_GOLDEN = (math.sqrt(5) - 1) / 2


def share(*key: object) -> float:
    """A number strictly between 0 and 1, the same for the same key for all time."""
    return (_hash(6, *key) + 0.5) / (1 << 48)


def pick(names: Sequence[str], weights: Sequence[float], *key: object) -> int:
    """The place of one of ``names``, by weight (weighted rendezvous hashing).

    A name that is added, removed or weighted anew takes draws or gives them up; it moves none between the others.
    """
    if len(names) == 1:
        return 0
    prefix = "/".join(map(str, key))
    return min(range(len(names)), key=lambda place: -math.log(share(prefix, names[place])) / weights[place])


def spread(index: int, *key: object) -> float:
    """The ``index``-th point of a sequence that fills every stretch between 0 and 1 evenly, which chance does not do."""
    return (share(*key) + index * _GOLDEN) % 1


def at(point: float, weights: Sequence[float]) -> int:
    """The place whose share of the weights ``point`` falls into."""
    left = point * sum(weights)
    for place, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return place
    return len(weights) - 1


def rng(*key: object) -> random.Random:
    """A generator for draws that belong together."""
    return random.Random(_hash(8, *key))


def _hash(size: int, *key: object) -> int:
    """So many bytes of hash."""
    return int.from_bytes(hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=size).digest())
