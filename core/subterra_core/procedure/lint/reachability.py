"""Checks that every edge can be taken and every walk can reach a terminal."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.counting.closed_edges import closed_edges
from subterra_core.procedure.counting.digraph import components, distances, reversed_edges
from subterra_core.procedure.counting.path_count import PathCount
from subterra_core.procedure.graph import Graph, Hop
from subterra_core.procedure.lint.findings import Finding, error, located_edges, located_nodes, warning

_EFFORT = 100_000
"""Edges to look at for loops that a fact never lets out of, at most; beyond it, the rest is not looked at."""


def check_endless_facts(spec: ProcedureSpec) -> Iterator[Finding]:
    """Errors for loops that some value of a fact never leaves: it is the same at each visit, so such a conversation has no end."""
    graph, spent = Graph(spec), 0
    for members in components({node.id: [edge.to for edge in node.next] for node in spec.nodes}):
        inside = frozenset(members)
        for fact in sorted({graph.nodes[node].fact or "" for node in members} - {""}):
            for value in _distinct_values(graph, members, fact):
                spent += sum(len(graph.nodes[node].next) for node in members)
                if spent > _EFFORT:
                    return
                if stuck := inside - _leaving(_edges_with(graph, members, fact, value), inside):
                    yield from _endless(graph, fact, value, stuck)
                    break


def _distinct_values(graph: Graph, members: Sequence[str], fact: str) -> list[str]:
    """One value of `fact` for each way of deciding at the hubs among `members`."""
    hubs = [graph.nodes[node] for node in members if graph.nodes[node].fact == fact]
    taken: dict[str, tuple[str, ...]] = {}
    for hub in hubs:
        for edge in hub.next:
            for value in graph.values_for(hub, edge):
                taken[value] = (*taken.get(value, ()), edge.to)
    return sorted({way: value for value, way in sorted(taken.items(), reverse=True)}.values())


def _edges_with(graph: Graph, nodes: Iterable[str], fact: str, value: str) -> dict[str, list[str]]:
    """Targets of the edges of `nodes` that `value` leaves open."""
    open_edges = {}
    for node in (graph.nodes[name] for name in nodes):
        decides = node.fact == fact
        open_edges[node.id] = [edge.to for edge in node.next if not decides or value in graph.values_for(node, edge)]
    return open_edges


def _leaving(edges: Mapping[str, Sequence[str]], inside: frozenset[str]) -> set[str]:
    """Nodes of a loop from which some walk leaves it."""
    within = {node: [to for to in edges[node] if to in inside] for node in inside}
    last = [node for node in inside if len(within[node]) < len(edges[node]) or not edges[node]]
    return {*distances(reversed_edges(within), last)}


def _endless(graph: Graph, fact: str, value: str, stuck: frozenset[str]) -> Iterator[Finding]:
    edges = _edges_with(graph, graph.nodes, fact, value)
    for name, leaving in graph.anywhere.items():
        edges[name] += [edge.to for edge in leaving]
    reached = distances(edges, [graph.spec.start])
    for node, _, field in located_nodes(graph.spec):
        if node.fact != fact or node.id not in stuck or node.id not in reached:
            continue
        for edge, name, path in located_edges(node, field):
            if value in graph.values_for(node, edge):
                problem = f"comes back here each time when {fact} is {value!r}, since a fact does not change in a conversation"
                fix = "lead to an end for that value, or limit the attempts at a node with decidedBy: history"
                yield error(name, path, problem, fix)
                return


def check_reachability(spec: ProcedureSpec, count: PathCount) -> Iterator[Finding]:
    """Findings that need all walks: dead ends and edges that are never taken."""
    if not count.paths and not count.truncated:
        yield error("spec.start", "spec.start", "no path reaches a terminal", "raise maxVisits on loops, or loosen guards")
        return
    never = _never_taken(spec, count)
    for node, where, field in located_nodes(spec):
        if node.id in count.stuck:
            problem = "has no open edge in some conversations, because of maxVisits and guards"
            if node.decided_by == "history" and len(node.next) > 1:
                yield error(where, f"{field}.next", problem, "end the list with an edge that is always open")
            else:
                targets = ", ".join(edge.to for edge in node.next)
                yield warning(where, f"{field}.next", problem, f"raise maxVisits of {targets}, loosen guards, or add an edge")
        for edge, name, path in located_edges(node, field):
            if (node.id, edge.to) in never:
                problem = "is never taken: guards, facts or maxVisits always close it"
                yield warning(name, path, problem, "loosen them, or remove the edge")


def _never_taken(spec: ProcedureSpec, count: PathCount) -> frozenset[Hop]:
    """Edges that no walk takes. Where not all walks were counted, only those that are closed whatever the walk."""
    if count.truncated or spec.anywhere:  # walks that leave are never counted one by one
        return closed_edges(Graph(spec)) - count.taken
    return frozenset((node.id, edge.to) for node in spec.nodes for edge in node.next) - count.taken
