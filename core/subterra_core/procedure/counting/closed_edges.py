"""Edges that no walk can take, found without walking: for procedures whose paths are too many to count. Pure.

Each node gets an upper bound of what may hold there: the values that facts may have, and the branches that hubs may have taken
last. The bounds are joined over all ways into a node until nothing is added, so what they exclude is excluded on every walk. What
they allow may still be closed: values and decisions are looked at one by one, and of `maxVisits` only what is certain is used.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from subterra_api.v1alpha1.procedure import Node
from subterra_core.procedure.counting.digraph import dominators
from subterra_core.procedure.graph import Graph, Hop

EFFORT = 100_000
"""Edges to follow, at most, each counted again for every 1,024 values and branches: under half a second. Beyond it, nothing is
reported."""
_Key = tuple[str, str]
"""A fact or a hub with its name."""


@dataclass(frozen=True)
class _Passage:
    """What taking an edge needs and does. Each value of a fact, and each last branch of a hub, is a bit."""

    conditions: tuple[tuple[int, int], ...] = ()
    """All bits of a fact or hub, and those of them that open the edge."""
    forgets: int = 0
    sets: int = 0

    def take(self, before: int) -> int | None:
        """What may hold behind the edge; `None` if it is closed."""
        for every, opening in self.conditions:
            if not before & opening:
                return None
            before &= ~every | opening
        return before & ~self.forgets | self.sets


def closed_edges(graph: Graph, effort: int = EFFORT) -> frozenset[Hop]:
    """Edges that guards, facts or `maxVisits` close on every walk; none if finding out takes more than `effort`."""
    bits, passed = _Bits(graph), dominators(graph.drawn, graph.spec.start)
    passages = {node.id: list(_passages(graph, node, bits, passed)) for node in graph.spec.nodes}
    possible = {graph.spec.start: bits.start}
    waiting, spent = dict.fromkeys([graph.spec.start]), 0
    while waiting:
        source = next(iter(waiting))
        del waiting[source]
        for target, passage in passages[source]:
            after = passage.take(possible[source])
            if after is not None and possible.get(target) != (joined := possible.get(target, 0) | after):
                possible[target] = joined
                waiting[target] = None
        spent += len(passages[source]) * (1 + bits.number // 1024)
        if spent > effort:
            return frozenset()
    open_hops = {
        (source, target)
        for source, held in possible.items()
        for target, passage in passages[source]
        if passage.take(held) is not None
    }
    return frozenset((node.id, edge.to) for node in graph.spec.nodes for edge in node.next) - open_hops


class _Bits:
    """A bit for each value of a fact that decides, and for each last branch of a hub that guards name."""

    def __init__(self, graph: Graph) -> None:
        self.number = self.start = 0
        self._bits: dict[_Key, dict[str | None, int]] = {}
        self._every: dict[_Key, int] = {}
        declared = {variable.name: variable.values for variable in graph.spec.variables}
        for name in graph.facts:
            self._add(("fact", name), declared[name])
            self.start |= self.every("fact", name)
        for hub in sorted({guard.hub for node in graph.spec.nodes for edge in node.next for guard in edge.guards}):
            self._add(("hub", hub), (None, *(edge.to for edge in graph.nodes[hub].next)))
            self.start |= self._bits["hub", hub][None]

    def _add(self, key: _Key, names: Iterable[str | None]) -> None:
        self._bits[key] = {name: 1 << self.number + index for index, name in enumerate(dict.fromkeys(names))}
        self._every[key] = (1 << self.number + len(self._bits[key])) - (1 << self.number)
        self.number += len(self._bits[key])

    def every(self, kind: str, name: str) -> int:
        """All bits of a fact or hub; 0 if nothing depends on it."""
        return self._every.get((kind, name), 0)

    def some(self, kind: str, name: str, chosen: Iterable[str]) -> int:
        """The bits of `chosen`."""
        known = self._bits.get((kind, name), {})
        return sum(known.get(each, 0) for each in set(chosen))


def _passages(graph: Graph, node: Node, bits: _Bits, passed: Mapping[str, frozenset[str]]) -> Iterator[tuple[str, _Passage]]:
    """Edges of `node` that neither `maxVisits` nor the order of a history hub closes for certain."""
    decides = len(node.next) > 1
    yield from ((edge.to, _Passage()) for edge in graph.anywhere.get(node.id, ()))
    for edge in node.next:
        inside = graph.loop[edge.to] == graph.loop[node.id]
        if inside and graph.nodes[edge.to].max_visits == 1 and edge.to in passed.get(node.id, ()):
            continue
        conditions = [(bits.every("hub", guard.hub), bits.some("hub", guard.hub, guard.took)) for guard in edge.guards]
        if node.fact is not None:
            conditions.append((bits.every("fact", node.fact), bits.some("fact", node.fact, graph.values_for(node, edge))))
        forgets, sets = (bits.every("hub", node.id), bits.some("hub", node.id, [edge.to])) if decides else (0, 0)
        yield edge.to, _Passage(tuple(conditions), forgets, sets)
        if node.decided_by == "history" and decides and not inside and not edge.guards:
            return  # always open, so those after it are never looked at
