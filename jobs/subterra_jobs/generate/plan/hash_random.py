"""Random draws by hash: each draw depends on its own key alone, so an edit elsewhere leaves it unchanged. Pure."""

import hashlib
import math
import random
from collections.abc import Sequence

_GOLDEN = (math.sqrt(5) - 1) / 2


def unit_hash(*key: object) -> float:
    """A number strictly between 0 and 1, always the same for the same key."""
    return (_hash(6, *key) + 0.5) / (1 << 48)


def weighted_rendezvous(names: Sequence[str], weights: Sequence[float], *key: object) -> int:
    """The index of one of ``names``, drawn by weight (weighted rendezvous hashing).

    Adding, removing or reweighting a name moves draws to or from that name, never between the others.
    """
    if len(names) == 1:
        return 0
    prefix = "/".join(map(str, key))
    return min(range(len(names)), key=lambda index: -math.log(unit_hash(prefix, names[index])) / weights[index])


def golden_ratio_sequence(index: int, *key: object) -> float:
    """Element ``index`` of a low-discrepancy sequence, which fills the unit interval more evenly than random numbers do."""
    return (unit_hash(*key) + index * _GOLDEN) % 1


def index_at(point: float, weights: Sequence[float]) -> int:
    """The index whose share of the total weight contains ``point``, a number between 0 and 1."""
    left = point * sum(weights)
    for index, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return index
    return len(weights) - 1


def rng(*key: object) -> random.Random:
    """A random generator seeded by ``key``, for draws that belong together."""
    return random.Random(_hash(8, *key))


def _hash(size: int, *key: object) -> int:
    """A hash of ``size`` bytes."""
    return int.from_bytes(hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=size).digest())
