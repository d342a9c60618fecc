"""Counts a procedure's paths and their lengths without listing them. Pure.

Walks at equal steps have equal futures, so they are merged. Loops are processed in the order in which walks meet them; the cost
depends on the number of steps in a loop, not of paths. For a loop with too many steps, a beam of those nearest to a terminal is
followed, and only part of the paths is counted.
"""

import heapq
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

import networkx as nx

from subterra_core.procedure.graph import Graph, Hop, Step

EFFORT = 60_000
"""Approximate number of steps to look at; procedures that need more are reported as "more than"."""


@dataclass(frozen=True)
class PathCount:
    """Number of paths and their turns. If `truncated`, there are more paths, and possibly longer ones."""

    paths: int
    truncated: bool
    min_turns: int | None
    max_turns: int | None
    taken: frozenset[Hop]
    """Edges taken by some walk."""
    stuck: frozenset[str]
    """Nodes where bounds and guards can leave no open edge."""


class _Walks(NamedTuple):
    """A number of walks, with the nodes of the shortest and of the longest of them."""

    number: int = 0
    shortest: int = 0
    longest: int = 0

    def merge(self, other: "_Walks") -> "_Walks":
        if not self.number:
            return other
        shortest, longest = min(self.shortest, other.shortest), max(self.longest, other.longest)
        return _Walks(self.number + other.number, shortest, longest)

    def step(self) -> "_Walks":
        return _Walks(self.number, self.shortest + 1, self.longest + 1)


_Frontier = dict[Step, _Walks]


def count_paths(graph: Graph, effort: int = EFFORT) -> PathCount:
    """Number of paths and range of turns of `graph`; `effort` bounds the work."""
    counter = _PathCounter(graph, effort)
    counter.waiting[graph.loop[graph.spec.start]][graph.begin()] = _Walks(1, 1, 1)
    for loop in graph.loops:
        frontier = counter.waiting.pop(loop, {})
        while frontier:
            frontier = counter.advance(counter.beam(frontier), loop)
    ends = counter.ends
    turns = (ends.shortest, None if counter.truncated else ends.longest) if ends.number else (None, None)
    return PathCount(ends.number, counter.truncated, turns[0], turns[1], frozenset(counter.taken), frozenset(counter.stuck))


@dataclass
class _PathCounter:
    graph: Graph
    effort: int
    waiting: defaultdict[int, _Frontier] = field(default_factory=lambda: defaultdict(dict))
    """Walks that continue once their loop is processed."""
    ends: _Walks = field(default_factory=_Walks)
    truncated: bool = False
    taken: set[Hop] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        backwards = nx.DiGraph((edge.to, node.id) for node in self.graph.spec.nodes for edge in node.next)
        ends = {node.id for node in self.graph.spec.nodes if not node.next}
        self._distance = nx.multi_source_dijkstra_path_length(backwards, ends & set(backwards)) if len(backwards) else {}

    def advance(self, frontier: _Frontier, loop: int) -> _Frontier:
        """Moves all walks one step forward and returns those that stay in the loop."""
        staying: _Frontier = {}
        for step, walks in frontier.items():
            edges = self.graph.open_edges(step)
            if not self.graph.nodes[step.node].next:
                self.ends = self.ends.merge(walks)
            elif not edges:
                self.stuck.add(step.node)
            for edge in edges:
                self.taken.add((step.node, edge.to))
                onward, target = self.graph.take(step, edge), self.graph.loop[edge.to]
                into = staying if target == loop else self.waiting[target]
                into[onward] = into.get(onward, _Walks()).merge(walks.step())
        return staying

    def beam(self, frontier: _Frontier) -> _Frontier:
        """The steps nearest to a terminal, as many as the remaining effort allows; its share lasts until walks can end."""
        width = max(1, self.effort // (2 * len(self.graph.nodes)))
        if len(frontier) > width:
            frontier = dict(heapq.nsmallest(width, frontier.items(), key=lambda item: self._distance[item[0].node]))
            self.truncated = True
        self.effort = max(0, self.effort - len(frontier))
        return frontier
