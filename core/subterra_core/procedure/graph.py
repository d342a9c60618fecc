"""The procedure as a graph that can be walked. docs/reference/procedure-language.md defines the terms.

A *path* runs from the start to a terminal, visits no node more often than its `maxVisits`, respects guards, and contradicts no
fact. A *turn* is one node's utterance, so a path has as many turns as nodes. A *hub* is a node with several edges.

Anywhere edges are no edges of a node: `open_edges` and `paths` leave them out, `leaving_edges` has them, and `edge` and `take` know
both, so that a path which leaves by one can be followed like any other.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from subterra_api.v1alpha1.procedure import Edge, Node, ProcedureSpec
from subterra_core.procedure.anywhere import anywhere_edges_by_node
from subterra_core.procedure.counting.digraph import Edges, components

Path = tuple[str, ...]
Hop = tuple[str, str]
_BITS = 4
"""Bits per node of a loop, enough for the largest `maxVisits`."""


class Step(NamedTuple):
    """Position of a walk, and the part of its past that still matters: equal steps have equal futures."""

    node: str
    visits: int = 0
    """Visits to each node of the current loop, packed; a loop that was left is never entered again."""
    decisions: tuple[Hop, ...] = ()
    """Last decisions of hubs, for guards that are still ahead; sorted."""
    facts: tuple[tuple[str, frozenset[str]], ...] = ()
    """Values that facts can still have, for hubs that are still ahead."""
    left: tuple[str, ...] = ()
    """Targets of the anywhere edges that were taken; sorted."""


class Graph:
    """A procedure that can be walked. Expects one without errors, see `lint.analyse`."""

    def __init__(self, spec: ProcedureSpec) -> None:
        self.spec = spec
        self.nodes: dict[str, Node] = {node.id: node for node in spec.nodes}
        self._declared = {variable.name: frozenset(variable.values) for variable in spec.variables}
        self._values: dict[Hop, frozenset[str]] = {}
        self.anywhere: dict[str, tuple[Edge, ...]] = anywhere_edges_by_node(spec)
        """Anywhere edges that are open at each customer's node."""
        self._leaving = {(node, edge.to) for node, edges in self.anywhere.items() for edge in edges}
        self.drawn: Edges = {node: [edge.to for edge in self.edges_of(node)] for node in self.nodes}
        """Targets of each node's edges, anywhere edges included."""
        self.loops: tuple[tuple[str, ...], ...] = tuple(tuple(sorted(members)) for members in components(self.drawn))
        """Strongly connected components in the order in which walks meet them; most consist of one node."""
        self.loop: dict[str, int] = {node: number for number, members in enumerate(self.loops) for node in members}
        """Number of each node's component."""
        self._shift = {node: _BITS * index for members in self.loops for index, node in enumerate(members)}
        self._hubs_ahead, self._facts_ahead = self._lookahead()
        self._work = {node.id: (1 + self._work_of_edges(node), len(node.next)) for node in spec.nodes}

    def begin(self, values: Mapping[str, str] | None = None) -> Step:
        """First step of a walk. With a scenario's `values`, facts decide; without, every value is still possible."""
        known = values or {}
        facts = {name: frozenset({known[name]}) if name in known else self._declared[name] for name in self.facts}
        return Step(self.spec.start, 1 << self._shift[self.spec.start], (), tuple(facts.items()))

    @property
    def facts(self) -> tuple[str, ...]:
        """Names of the variables that decide at hubs."""
        return tuple(sorted(self._facts_ahead[self.spec.start]))

    def open_edges(self, step: Step) -> list[Edge]:
        """Edges left open by bounds, guards and facts; where history decides, only the first of them."""
        node = self.nodes[step.node]
        edges = [edge for edge in node.next if self._within_bounds(step, edge) and self._allowed(step, node, edge)]
        return edges[:1] if node.decided_by == "history" else edges

    def leaving_edges(self, step: Step, *, again: bool = False) -> list[Edge]:
        """Anywhere edges that the customer may take here, within bounds; those taken before only with `again`."""
        edges = self.anywhere.get(step.node, ())
        return [edge for edge in edges if self._within_bounds(step, edge) and (again or edge.to not in step.left)]

    def choices(self, step: Step, *, again: bool) -> list[Edge]:
        """All ways on from here: open edges, then open anywhere edges.

        A plan takes each anywhere edge once; who listens to a customer has to reckon with a second time, hence `again`.
        """
        return [*self.open_edges(step), *self.leaving_edges(step, again=again)]

    def edges_of(self, node: str) -> tuple[Edge, ...]:
        """A node's edges, ordinary ones first, then anywhere edges, open or not."""
        return (*self.nodes[node].next, *self.anywhere.get(node, ()))

    def leaves(self, source: str, target: str | None) -> bool:
        """Whether the way from `source` to `target` is an anywhere edge."""
        return (source, target) in self._leaving

    def edge(self, source: str, target: str | None) -> Edge | None:
        """The edge from `source` to `target`, ordinary or anywhere; `None` if there is none, or `target` is `None`."""
        return next((edge for edge in self.edges_of(source) if edge.to == target), None)

    def take(self, step: Step, edge: Edge) -> Step:
        """The step after taking `edge`."""
        node, to = self.nodes[step.node], edge.to
        visits = (step.visits if self.loop[to] == self.loop[step.node] else 0) + (1 << self._shift[to])
        left = tuple(sorted({*step.left, to})) if self._leaving and self.leaves(step.node, to) else step.left
        facts = self._facts(step, node, edge) if self._facts_ahead[to] else ()
        return Step(to, visits, self._decisions(step, node, to), facts, left)

    def paths(self) -> Iterator[Path]:
        """All paths, depth-first in the order of the edges."""
        stack: list[tuple[Step, Path]] = [(self.begin(), (self.spec.start,))]
        while stack:
            step, path = stack.pop()
            if not self.nodes[step.node].next:
                yield path
            for edge in reversed(self.open_edges(step)):
                stack.append((self.take(step, edge), (*path, edge.to)))

    def walk(
        self, choose: Callable[[Node, Sequence[Edge]], Edge], attempts: int = 100, values: Mapping[str, str] | None = None
    ) -> Path:
        """A path along the edges that `choose` returns; starts over where no edge is open. Raises ValueError after `attempts`."""
        for _ in range(attempts):
            step, path = self.begin(values), [self.spec.start]
            while edges := self.open_edges(step):
                step = self.take(step, choose(self.nodes[step.node], edges))
                path.append(step.node)
            if not self.nodes[step.node].next:
                return tuple(path)
        known = " and ".join(f"{name} is {values[name]!r}" for name in self.facts if name in values) if values else ""
        problem = f"no walk of {attempts} reached a terminal{known and f' when {known}'}: no edge of node {step.node} was open"
        raise ValueError(f"{problem}; raise maxVisits of the nodes behind it, loosen guards, or add an edge")

    def facts_on(self, path: Path) -> dict[str, frozenset[str]]:
        """Values that facts may have in conversations along `path`."""
        values = {name: self._declared[name] for name in self.facts}
        for source, target in pairwise(path):
            node = self.nodes[source]
            if node.fact is not None and not self.leaves(source, target):
                values[node.fact] &= next(self.values_for(node, edge) for edge in node.next if edge.to == target)
        return values

    def values_for(self, node: Node, edge: Edge) -> frozenset[str]:
        """Values of the fact at `node` that take `edge`: those it names, or those that no edge names."""
        hop = (node.id, edge.to)
        if hop not in self._values:
            rest = () if edge.values else self._declared[node.fact or ""].difference(*(sibling.values for sibling in node.next))
            self._values[hop] = frozenset(edge.values or rest)
        return self._values[hop]

    def work(self, step: Step) -> int:
        """How much there is to look at to go on from `step`: 1, and for each edge its guards, its fact and what is remembered."""
        fixed, edges = self._work[step.node]
        return fixed + edges * (len(step.decisions) + len(step.facts)) // 32

    def _within_bounds(self, step: Step, edge: Edge) -> bool:
        if self.loop[edge.to] != self.loop[step.node]:
            return True
        return (step.visits >> self._shift[edge.to]) % (1 << _BITS) < self.nodes[edge.to].max_visits

    def _allowed(self, step: Step, node: Node, edge: Edge) -> bool:
        if node.fact is not None and not dict(step.facts)[node.fact] & self.values_for(node, edge):
            return False
        if not edge.guards:
            return True
        decided = dict(step.decisions)
        return all(decided.get(guard.hub) in guard.took for guard in edge.guards)

    def _work_of_edges(self, node: Node) -> int:
        values = len(self._declared.get(node.fact or "", ())) // 32
        return sum(1 + len(edge.guards) + values for edge in node.next)

    def _decisions(self, step: Step, node: Node, to: str) -> tuple[Hop, ...]:
        needed, known = self._hubs_ahead[to], step.decisions
        if not needed:
            return ()
        if needed is not self._hubs_ahead[step.node]:
            known = tuple(item for item in known if item[0] in needed)
        if len(node.next) > 1 and node.id in needed and not self.leaves(node.id, to):
            place = bisect_left(known, (node.id,))
            behind = place + 1 if place < len(known) and known[place][0] == node.id else place
            known = (*known[:place], (node.id, to), *known[behind:])
        return known

    def _facts(self, step: Step, node: Node, edge: Edge) -> tuple[tuple[str, frozenset[str]], ...]:
        """Values that the facts ahead of `edge` can still have."""
        needed = self._facts_ahead[edge.to]
        known = dict(step.facts)
        if node.fact is not None and not self.leaves(node.id, edge.to):
            known[node.fact] &= self.values_for(node, edge)
        return tuple(item for item in known.items() if item[0] in needed)

    def _lookahead(self) -> tuple[dict[str, frozenset[str]], dict[str, frozenset[str]]]:
        """For each node, the hubs named by guards ahead of it, and the facts that decide at hubs ahead of it."""
        hubs_ahead: dict[int, frozenset[str]] = {}
        facts_ahead: dict[int, frozenset[str]] = {}
        for loop, members in reversed([*enumerate(self.loops)]):
            nodes = [self.nodes[node] for node in members]
            later = {self.loop[to] for node in members for to in self.drawn[node]} - {loop}
            hubs = {guard.hub for node in nodes for edge in node.next for guard in edge.guards}
            facts = {node.fact for node in nodes if node.fact is not None}
            hubs_ahead[loop] = frozenset(hubs).union(*(hubs_ahead[successor] for successor in later))
            facts_ahead[loop] = frozenset(facts).union(*(facts_ahead[successor] for successor in later))
        by_node = [{node: ahead[loop] for node, loop in self.loop.items()} for ahead in (hubs_ahead, facts_ahead)]
        return by_node[0], by_node[1]
