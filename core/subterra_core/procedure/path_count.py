"""How many paths a procedure has and how long they are, without listing them. Pure.

Walks that are at equal steps have equal futures, so they go on as one. Loops are worked through in the order in which walks meet
them; the steps in a loop, not the paths, are what counting costs. A loop that ties very many nodes together has too many steps:
then those nearest to an end are followed, and what is counted is a part of the paths.
"""

import heapq
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

import networkx as nx

from subterra_core.procedure.graph import Graph, Hop, Step

EFFORT = 60_000
"""Steps that are looked at, about; a procedure that needs more gets "more than"."""


@dataclass(frozen=True)
class Count:
    """How many paths, and how many turns they have. When ``truncated`` there are more, and longer ones perhaps."""

    paths: int
    truncated: bool
    min_turns: int | None
    max_turns: int | None
    taken: frozenset[Hop]
    """Edges that some walk takes."""
    stuck: frozenset[str]
    """Nodes where bounds and guards can leave no way on."""


class _Walks(NamedTuple):
    """A number of walks, and how many nodes the shortest and the longest of them have."""

    number: int = 0
    shortest: int = 0
    longest: int = 0

    def joined(self, other: "_Walks") -> "_Walks":
        if not self.number:
            return other
        shortest, longest = min(self.shortest, other.shortest), max(self.longest, other.longest)
        return _Walks(self.number + other.number, shortest, longest)

    def further(self) -> "_Walks":
        return _Walks(self.number, self.shortest + 1, self.longest + 1)


_Crowd = dict[Step, _Walks]


def count(graph: Graph, effort: int = EFFORT) -> Count:
    """The number of paths and the range of turns."""
    counting = _Counting(graph, effort)
    counting.waiting[graph.loop[graph.spec.start]][graph.begin()] = _Walks(1, 1, 1)
    for loop in graph.loops:
        crowd = counting.waiting.pop(loop, {})
        while crowd:
            crowd = counting.advance(counting.thinned(crowd), loop)
    ends = counting.ends
    turns = (ends.shortest, None if counting.truncated else ends.longest) if ends.number else (None, None)
    return Count(ends.number, counting.truncated, turns[0], turns[1], frozenset(counting.taken), frozenset(counting.stuck))


@dataclass
class _Counting:
    graph: Graph
    effort: int
    waiting: defaultdict[int, _Crowd] = field(default_factory=lambda: defaultdict(dict))
    """Walks that will go on when their loop's turn comes."""
    ends: _Walks = field(default_factory=_Walks)
    truncated: bool = False
    taken: set[Hop] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        backwards = nx.DiGraph((edge.to, node.id) for node in self.graph.spec.nodes for edge in node.next)
        ends = {node.id for node in self.graph.spec.nodes if not node.next}
        self._distance = nx.multi_source_dijkstra_path_length(backwards, ends & set(backwards)) if len(backwards) else {}

    def advance(self, crowd: _Crowd, loop: int) -> _Crowd:
        """Takes all walks one step further; those that stay in the loop come back."""
        staying: _Crowd = {}
        for step, walks in crowd.items():
            edges = self.graph.open_edges(step)
            if not self.graph.nodes[step.node].next:
                self.ends = self.ends.joined(walks)
            elif not edges:
                self.stuck.add(step.node)
            for edge in edges:
                self.taken.add((step.node, edge.to))
                onward, target = self.graph.take(step, edge), self.graph.loop[edge.to]
                into = staying if target == loop else self.waiting[target]
                into[onward] = into.get(onward, _Walks()).joined(walks.further())
        return staying

    def thinned(self, crowd: _Crowd) -> _Crowd:
        """As many steps as the effort that is left allows; this share makes it last until an end."""
        width = max(1, self.effort // (2 * len(self.graph.nodes)))
        if len(crowd) > width:
            crowd = dict(heapq.nsmallest(width, crowd.items(), key=lambda item: self._distance[item[0].node]))
            self.truncated = True
        self.effort = max(0, self.effort - len(crowd))
        return crowd
