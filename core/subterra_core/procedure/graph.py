"""The procedure as a graph that can be walked. docs/procedures.md defines the terms.

A *path* runs from the start to a terminal, visits no node more often than its ``maxVisits``, keeps to guards, and contradicts no
fact. A *turn* is one node's utterance, so a path has as many turns as nodes. A *hub* has several ways out.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import networkx as nx

from subterra_api.v1alpha1.procedure import Edge, Node, ProcedureSpec

Path = tuple[str, ...]
Hop = tuple[str, str]
_BITS = 4
"""Per node of a loop, enough for the largest ``maxVisits``."""


class Step(NamedTuple):
    """Where a walk is, and of its past only what still matters: equal steps have equal futures."""

    node: str
    visits: int = 0
    """How often each node of the present loop was visited, packed; a loop that was left is never entered again."""
    decisions: tuple[Hop, ...] = ()
    """What hubs decided last, for guards that are still ahead."""
    facts: tuple[tuple[str, frozenset[str]], ...] = ()
    """The values that facts can still have, for hubs that are still ahead."""


class Graph:
    """A procedure ready to be walked. Expects one without errors, see `lint.analyse`."""

    def __init__(self, spec: ProcedureSpec) -> None:
        self.spec = spec
        self.nodes: dict[str, Node] = {node.id: node for node in spec.nodes}
        self._declared = {variable.name: frozenset(variable.values) for variable in spec.variables}
        drawn: nx.DiGraph[str] = nx.DiGraph()
        drawn.add_nodes_from(self.nodes)
        drawn.add_edges_from((node.id, edge.to) for node in spec.nodes for edge in node.next)
        condensed: nx.DiGraph[Any] = nx.condensation(drawn)
        self.loops: tuple[int, ...] = tuple(nx.topological_sort(condensed))
        """Groups of nodes that can be left and come back to, in the order in which walks meet them; most hold one node."""
        self.loop: dict[str, int] = condensed.graph["mapping"]
        """The group of each node."""
        members = [sorted(condensed.nodes[loop]["members"]) for loop in self.loops]
        self._shift = {node: _BITS * place for nodes in members for place, node in enumerate(nodes)}
        self._guarding, self._resting = self._ahead(condensed)

    def begin(self, values: Mapping[str, str] | None = None) -> Step:
        """The walk's first step. With a scenario's ``values``, facts decide; without, every value is still possible."""
        known = values or {}
        facts = {name: frozenset({known[name]}) if name in known else self._declared[name] for name in self.facts}
        return Step(self.spec.start, 1 << self._shift[self.spec.start], (), tuple(facts.items()))

    @property
    def facts(self) -> tuple[str, ...]:
        """Names of the variables that decide hubs."""
        return tuple(sorted(self._resting[self.spec.start]))

    def open_edges(self, step: Step) -> list[Edge]:
        """The ways out that bounds, guards and facts leave open. Where history decides, the first of them is the only one."""
        node = self.nodes[step.node]
        found = [edge for edge in node.next if self._within_bounds(step, edge) and self._allowed(step, node, edge)]
        return found[:1] if node.decided_by == "history" else found

    def edge(self, source: str, target: str | None) -> Edge | None:
        """The way from one node to another; none when there is none, or no further node."""
        return next((edge for edge in self.nodes[source].next if edge.to == target), None)

    def take(self, step: Step, edge: Edge) -> Step:
        """The step after ``edge``."""
        node, to = self.nodes[step.node], edge.to
        visits = (step.visits if self.loop[to] == self.loop[step.node] else 0) + (1 << self._shift[to])
        return Step(to, visits, self._decisions(step, node, to), self._facts(step, node, edge))

    def paths(self) -> Iterator[Path]:
        """All paths, depth first in the order of the edges."""
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
        """A path along the edges that ``choose`` takes; starts over where bounds leave no way on."""
        for _ in range(attempts):
            step, path = self.begin(values), [self.spec.start]
            while edges := self.open_edges(step):
                step = self.take(step, choose(self.nodes[step.node], edges))
                path.append(step.node)
            if not self.nodes[step.node].next:
                return tuple(path)
        raise ValueError(f"no path to a terminal found in {attempts} walks; raise maxVisits or loosen guards")

    def facts_on(self, path: Path) -> dict[str, frozenset[str]]:
        """The values that facts may have where a conversation takes ``path``."""
        found = {name: self._declared[name] for name in self.facts}
        for source, target in pairwise(path):
            node = self.nodes[source]
            if node.fact is not None:
                found[node.fact] &= next(self.values_for(node, edge) for edge in node.next if edge.to == target)
        return found

    def values_for(self, node: Node, edge: Edge) -> frozenset[str]:
        """The values of the fact at ``node`` that lead along ``edge``: those it names, or those that no edge names."""
        if edge.values:
            return frozenset(edge.values)
        return self._declared[node.fact or ""].difference(*(each.values for each in node.next))

    def _within_bounds(self, step: Step, edge: Edge) -> bool:
        if self.loop[edge.to] != self.loop[step.node]:
            return True
        return (step.visits >> self._shift[edge.to]) % (1 << _BITS) < self.nodes[edge.to].max_visits

    def _allowed(self, step: Step, node: Node, edge: Edge) -> bool:
        if node.fact is not None and not dict(step.facts)[node.fact] & self.values_for(node, edge):
            return False
        return all(dict(step.decisions).get(guard.hub) in guard.took for guard in edge.guards)

    def _decisions(self, step: Step, node: Node, to: str) -> tuple[Hop, ...]:
        wanted = self._guarding[to]
        if not wanted:
            return ()
        known = dict(step.decisions) | ({node.id: to} if len(node.next) > 1 else {})
        return tuple(sorted(item for item in known.items() if item[0] in wanted))

    def _facts(self, step: Step, node: Node, edge: Edge) -> tuple[tuple[str, frozenset[str]], ...]:
        wanted = self._resting[edge.to]
        if not wanted:
            return ()
        known = dict(step.facts)
        if node.fact is not None:
            known[node.fact] &= self.values_for(node, edge)
        return tuple(item for item in known.items() if item[0] in wanted)

    def _ahead(self, condensed: "nx.DiGraph[Any]") -> tuple[dict[str, frozenset[str]], dict[str, frozenset[str]]]:
        """For each node, the hubs that guards from there on ask for, and the facts that hubs from there on rest on."""
        guarding: dict[int, frozenset[str]] = {}
        resting: dict[int, frozenset[str]] = {}
        for loop in reversed(self.loops):
            nodes, later = [self.nodes[node] for node in condensed.nodes[loop]["members"]], list(condensed.successors(loop))
            hubs = {guard.hub for node in nodes for edge in node.next for guard in edge.guards}
            facts = {node.fact for node in nodes if node.fact is not None}
            guarding[loop] = frozenset(hubs).union(*(guarding[each] for each in later))
            resting[loop] = frozenset(facts).union(*(resting[each] for each in later))
        by_node = [{node: ahead[loop] for node, loop in self.loop.items()} for ahead in (guarding, resting)]
        return by_node[0], by_node[1]
