"""Checks that every edge can be taken and every walk can reach a terminal."""

from collections.abc import Iterator

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.lint.findings import Finding, error, located_edges, located_nodes, warning
from subterra_core.procedure.path_count import PathCount


def check_reachability(spec: ProcedureSpec, count: PathCount) -> Iterator[Finding]:
    """Findings that need all walks: dead ends and edges that are never taken."""
    if not count.paths and not count.truncated:
        yield error("spec.start", "spec.start", "no path reaches a terminal", "raise maxVisits on loops, or loosen guards")
        return
    for node, where, field in located_nodes(spec):
        if node.id in count.stuck:
            problem = "has no open edge in some conversations, because of maxVisits and guards"
            if node.decided_by == "history" and len(node.next) > 1:
                yield error(where, f"{field}.next", problem, "end the list with an edge that is always open")
            else:
                targets = ", ".join(edge.to for edge in node.next)
                yield warning(where, f"{field}.next", problem, f"raise maxVisits of {targets}, loosen guards, or add an edge")
        for edge, name, path in () if count.truncated else located_edges(node, field):
            if (node.id, edge.to) not in count.taken:
                problem = "is never taken: guards, facts or maxVisits always close it"
                yield warning(name, path, problem, "loosen them, or remove the edge")
