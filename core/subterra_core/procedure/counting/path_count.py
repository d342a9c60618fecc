"""Counts a procedure's paths and their lengths without listing them. Pure.

Walks at equal steps have equal futures, so they are merged. Loops are processed in the order in which walks meet them; the cost
depends on the number of steps in a loop, not of paths. For a loop with too many steps, a beam of those nearest to a terminal is
followed, and only part of the paths is counted. The bound counts work, not time, so every machine reports the same numbers.
"""

import heapq
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from subterra_core.procedure.counting.digraph import distances, reversed_edges
from subterra_core.procedure.graph import Graph, Hop, Step

EFFORT = 100_000
"""Edges to look at, approximately, and what is remembered on the way to them (`Graph.work`): about half a second. Procedures that
need more are reported as "more than"."""


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
    """A number of walks, with the turns of the shortest and of the longest of them: nodes without tool calls."""

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
    for loop in range(len(graph.loops)):
        frontier = counter.waiting.pop(loop, {})
        while frontier:
            frontier = counter.advance(counter.beam(frontier), loop)
            if counter.spent >= 2 * effort:  # one move in each loop is left, so that walks which left the loop so far can end
                counter.truncated |= bool(frontier)
                break
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
    spent: int = 0
    taken: set[Hop] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._turns = {node.id: int(node.role != "tool") for node in self.graph.spec.nodes}
        backwards = reversed_edges({node.id: [edge.to for edge in node.next] for node in self.graph.spec.nodes})
        self._distance = distances(backwards, [node.id for node in self.graph.spec.nodes if not node.next])

    def advance(self, frontier: _Frontier, loop: int) -> _Frontier:
        """Moves all walks one step forward and returns those that stay in the loop."""
        staying, loops = _Frontier(), self.graph.loop
        for step, walks in frontier.items():
            edges, stepped = self.graph.open_edges(step), (walks, walks.step())
            if not self.graph.nodes[step.node].next:
                self.ends = self.ends.merge(walks)
            elif not edges:
                self.stuck.add(step.node)
            for edge in edges:
                self.taken.add((step.node, edge.to))
                onward, target = self.graph.take(step, edge), loops[edge.to]
                onward_walks = stepped[self._turns[edge.to]]
                into = staying if target == loop else self.waiting[target]
                known = into.get(onward)
                into[onward] = known.merge(onward_walks) if known else onward_walks
        return staying

    def beam(self, frontier: _Frontier) -> _Frontier:
        """The steps nearest to a terminal, as many as the remaining effort allows; its share lasts until walks can end."""
        share = max(0, self.effort - self.spent) // (2 * len(self.graph.nodes))
        work = sum(map(self.graph.work, frontier))
        if work > share and len(frontier) > 1:
            frontier, work = self._nearest(frontier, share)
            self.truncated = True
        self.spent += work
        return frontier

    def _nearest(self, frontier: _Frontier, share: int) -> tuple[_Frontier, int]:
        """At least one step, and more as long as their work is within `share`; with the work."""
        kept, spent = _Frontier(), 0
        for step in heapq.nsmallest(max(1, share), frontier, key=lambda step: self._distance[step.node]):
            work = self.graph.work(step)
            if kept and spent + work > share:
                break
            kept[step], spent = frontier[step], spent + work
        return kept, spent
