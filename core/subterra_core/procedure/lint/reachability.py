"""Checks that every edge can be taken and every walk can reach a terminal."""

from collections.abc import Iterator

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.counting.closed_edges import closed_edges
from subterra_core.procedure.counting.path_count import PathCount
from subterra_core.procedure.graph import Graph, Hop
from subterra_core.procedure.lint.findings import Finding, error, located_edges, located_nodes, warning


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
