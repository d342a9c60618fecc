"""Everything that conversations can do, unfolded: how often chance takes a run of nodes, and conversations that take it. Pure.

A *run* is one to three nodes that follow each other: a node, an edge, or two edges in a row. Walks that are at equal steps have
equal futures, so the steps of all walks form a graph without loops. On it the probability of each run is exact, a run that no
conversation can take is known to be so, and a path through a run is drawn directly, as likely as it is among all that take it.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from subterra_api.v1alpha1.procedure import Edge
from subterra_core.procedure.graph import Graph, Path, Step
from subterra_jobs.generate.plan.hash_random import pick

Run = tuple[str, ...]
STEPS = 60_000
"""Steps that are unfolded at most. A procedure that has more is unfolded in part, every node of it as often as every other."""


def runs_of(path: Path) -> Iterator[Run]:
    """Every run that a conversation takes, as often as it takes it."""
    for length in (1, 2, 3):
        yield from zip(*(path[start:] for start in range(length)), strict=False)


@dataclass(frozen=True)
class _Place:
    """Where a run is in the unfolded graph: its first and last step. ``chance`` is how often a conversation comes here."""

    first: int
    last: int
    chance: float


class Ways:
    """The unfolded procedure."""

    def __init__(self, graph: Graph, steps: int = STEPS) -> None:
        self._graph = graph
        self._steps: list[Step] = []
        self._after: dict[int, list[tuple[int, float]]] = {}
        self._unfold(steps)
        self._before: defaultdict[int, list[int]] = defaultdict(list)
        self._keep_what_ends()
        self._chance = self._chances()
        self._places: defaultdict[Run, list[_Place]] = defaultdict(list)
        self._find_places()

    @cached_property
    def runs(self) -> dict[Run, float]:
        """Every run that a conversation can take, and how often one does on average."""
        return {run: sum(place.chance for place in places) for run, places in self._places.items()}

    def path(self, run: Run, *key: object) -> Path:
        """A path that takes a run of `runs`; another one for another ``key``."""
        places = self._places[run]
        place = places[pick([str(number) for number in range(len(places))], [each.chance for each in places], *key)]
        return (*self._back(place.first, *key), *run, *self._on(place.last, *key))

    def _unfold(self, most: int) -> None:
        """Steps by how often their node was met already, so that a part, too, has every node in it."""
        numbers, met = {self._graph.begin(): 0}, Counter[str]()
        self._steps.append(self._graph.begin())
        waiting = [(0, 0)]
        while waiting and len(self._after) < most:
            _, number = heapq.heappop(waiting)
            step, found = self._steps[number], list[tuple[int, float]]()
            for edge in self._graph.open_edges(step):
                onward = self._graph.take(step, edge)
                if onward not in numbers:
                    numbers[onward] = len(self._steps)
                    heapq.heappush(waiting, (met[onward.node], len(self._steps)))
                    self._steps.append(onward)
                    met[onward.node] += 1
                found.append((numbers[onward], self._weight(step, edge)))
            self._after[number] = found

    def _weight(self, step: Step, edge: Edge) -> float:
        """How often the edge is taken, relative to its siblings; where a fact decides, by how many of its values lead there."""
        node = self._graph.nodes[step.node]
        if node.fact is None:
            return edge.weight
        return len(dict(step.facts)[node.fact] & self._graph.values_for(node, edge))

    def _keep_what_ends(self) -> None:
        """Leaves out steps from which no terminal is reached, and makes shares of the weights of those that are left."""
        before: defaultdict[int, list[int]] = defaultdict(list)
        for number, found in self._after.items():
            for onward, _ in found:
                before[onward].append(number)
        queue = [number for number, step in enumerate(self._steps) if not self._graph.nodes[step.node].next]
        alive = set(queue)
        for number in queue:  # grows on the way
            new = [each for each in before[number] if each not in alive]
            alive.update(new)
            queue += new
        for number in sorted(alive & self._after.keys()):
            left = [(onward, weight) for onward, weight in self._after[number] if onward in alive]
            total = sum(weight for _, weight in left)
            self._after[number] = [(onward, weight / total) for onward, weight in left]
            for onward, _ in left:
                self._before[onward].append(number)
        self._after = {number: self._after.get(number, []) for number in alive}

    def _chances(self) -> dict[int, float]:
        """How likely a conversation comes to each step."""
        chance: defaultdict[int, float] = defaultdict(float, {0: 1.0})
        missing = {number: len(before) for number, before in self._before.items()}
        ready = [0] if self._after else []
        for number in ready:  # grows on the way, in topological order
            for onward, weight in self._after[number]:
                chance[onward] += chance[number] * weight
                missing[onward] -= 1
                if not missing[onward]:
                    ready.append(onward)
        return chance

    def _find_places(self) -> None:
        for first, found in sorted(self._after.items()):
            name, chance = self._steps[first].node, self._chance[first]
            self._places[(name,)].append(_Place(first, first, chance))
            for second, weight in found:
                edge = (name, self._steps[second].node)
                self._places[edge].append(_Place(first, second, chance * weight))
                for third, further in self._after[second]:
                    self._places[(*edge, self._steps[third].node)].append(_Place(first, third, chance * weight * further))

    def _back(self, number: int, *key: object) -> Path:
        """The nodes before a step, from the start."""
        nodes: list[str] = []
        while before := self._before[number]:
            names = [f"{self._steps[each].node}/{rank}" for rank, each in enumerate(before)]
            weights = [self._chance[each] * dict(self._after[each])[number] for each in before]
            number = before[pick(names, weights, *key, "before", len(nodes))]
            nodes.append(self._steps[number].node)
        return tuple(reversed(nodes))

    def _on(self, number: int, *key: object) -> Path:
        """The nodes after a step, up to a terminal."""
        nodes: list[str] = []
        while after := self._after[number]:
            names = [self._steps[onward].node for onward, _ in after]
            number = after[pick(names, [weight for _, weight in after], *key, "after", len(nodes))][0]
            nodes.append(self._steps[number].node)
        return tuple(nodes)
