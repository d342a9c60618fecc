"""Which rank computes which conversations at each step of an epoch. Pure: the same on every rank, and after a resume.

All conversations of a step have similar lengths, and the ranks' shares nearly as many tokens: a rank that has more would
let the others wait. A share is divided into micro-batches by tokens, as many on every rank, because ranks exchange gradients after
each.
"""

import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MICRO_BATCH_TOKENS = 16384
"""Tokens per rank and forward pass."""
IN_PLACE_MICRO_BATCH_TOKENS = 4096
"""The same for an optimizer that is there to save memory: a GPU has enough to do with a quarter of the activations."""
CPU_MICRO_BATCH_TOKENS = 1024
"""The same of all ranks together for a pretrained model on a CPU, whose activations take about a megabyte per token."""
POOL_BATCHES = 50
"""Batches whose conversations are sorted by length together: more would make the batches of an epoch too alike, fewer would mix
lengths."""

MicroBatch = tuple[int, ...]
"""Indices of conversations that go through the model together."""
RankStep = tuple[MicroBatch, ...]
"""A rank's share of a step; on every rank the same number of micro-batches."""


def token_limit(ranks: int, *, pretrained_on_cpu: bool, in_place: bool = False) -> int:
    """Tokens that a micro-batch may have, unless a single conversation has more."""
    if pretrained_on_cpu:
        return max(1, CPU_MICRO_BATCH_TOKENS // ranks)
    return IN_PLACE_MICRO_BATCH_TOKENS if in_place else MICRO_BATCH_TOKENS


@dataclass(frozen=True)
class StepPlan:
    """The steps of every epoch: each conversation once an epoch, in an order that depends on seed and epoch alone."""

    lengths: Sequence[int]
    """Tokens of each conversation."""
    batch: int
    """Conversations per step. A step may have more, since an epoch of ``n`` conversations has ``n // batch`` steps."""
    ranks: int
    limit: int
    """See `token_limit`."""
    seed: int

    def __len__(self) -> int:
        """Steps per epoch; 0 if the conversations do not fill one."""
        return len(self.lengths) // self.conversations_per_step

    @property
    def conversations_per_step(self) -> int:
        """At least one for each rank."""
        return max(self.batch, self.ranks)

    def epoch(self, number: int) -> list[tuple[RankStep, ...]]:
        """The steps of an epoch, each with a share for every rank.

        The first step of the first epoch has the longest conversations: where memory is short, that shows at once.
        """
        order = random.Random(f"{self.seed}:{number}")
        batches = list(self._batches(order))
        order.shuffle(batches)
        if number == 0:
            longest = max(batches, key=lambda batch: max(self.lengths[index] for index in batch))
            batches.remove(longest)
            batches.insert(0, longest)
        return [self._shares(batch) for batch in batches]

    def _batches(self, order: random.Random) -> Iterator[list[int]]:
        """The conversations of each step: pools in random order, each sorted by length and divided."""
        indices = list(range(len(self.lengths)))
        order.shuffle(indices)
        pools = -(-len(self) // max(1, min(POOL_BATCHES, len(self) // 4)))
        start = done = 0
        for steps in _part_sizes(len(self), pools):
            done += steps
            end = len(indices) * done // len(self)
            pool = sorted(indices[start:end], key=lambda index: -self.lengths[index])
            for size in _part_sizes(end - start, steps):
                yield pool[:size]
                pool = pool[size:]
            start = end

    def _shares(self, batch: Sequence[int]) -> tuple[RankStep, ...]:
        """A step divided among the ranks, in as few micro-batches as `limit` allows."""
        limit = max(self.limit, *(self.lengths[index] for index in batch))
        most = len(batch) // self.ranks
        fewest = min(most, -(-self._tokens(batch) // (self.ranks * limit)))
        divisions = (self._balanced(batch, self.ranks * micros) for micros in range(fewest, most + 1))
        groups = next((groups for groups in divisions if self._tokens(groups[0]) <= limit), None)
        groups = groups or self._balanced(batch, self.ranks * most)
        # Neighbors in this order have similar sizes, and ranks wait for each other at every micro-batch.
        return tuple(tuple(groups[rank :: self.ranks]) for rank in range(self.ranks))

    def _balanced(self, batch: Sequence[int], count: int) -> list[MicroBatch]:
        """``batch`` in groups of about as many tokens, largest first: each conversation goes to the group with fewest so far."""
        groups: list[list[int]] = [[] for _ in range(count)]
        heap = [(0, number) for number in range(count)]
        for index in sorted(batch, key=lambda index: (-self.lengths[index], index)):
            tokens, number = heapq.heappop(heap)
            groups[number].append(index)
            heapq.heappush(heap, (tokens + self.lengths[index], number))
        return sorted((tuple(group) for group in groups), key=self._tokens, reverse=True)

    def _tokens(self, group: Sequence[int]) -> int:
        return sum(self.lengths[index] for index in group)


def _part_sizes(total: int, parts: int) -> list[int]:
    """``total`` in parts that differ by one at most, larger ones last: where the shortest conversations are."""
    return [(total + part) // parts for part in range(parts)]


def waiting_share(steps: Sequence[Sequence[RankStep]], lengths: Sequence[int]) -> float:
    """Share of all ranks' time that they wait for the one with most tokens, at each micro-batch."""
    busy = waited = 0
    for shares in steps:
        for micros in zip(*shares, strict=True):
            sizes = [sum(lengths[index] for index in micro) for micro in micros]
            busy += sum(sizes)
            waited += max(sizes) * len(sizes) - sum(sizes)
    return waited / (busy + waited)
