"""Checks that every node is reached and every walk can end."""

from collections.abc import Iterator

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.lint.findings import Finding, _each_edge, _each_node, _error, _warning
from subterra_core.procedure.path_count import Count


def _flow(spec: ProcedureSpec, found: Count) -> Iterator[Finding]:
    """What only shows when all walks are walked."""
    if not found.paths and not found.truncated:
        yield _error("spec.start", "spec.start", "no path reaches a terminal", "raise maxVisits on loops, or loosen guards")
        return
    for node, where, field in _each_node(spec):
        if node.id in found.stuck:
            problem = "leaves no way on in some conversations, because of maxVisits and guards"
            if node.decided_by == "history" and len(node.next) > 1:
                yield _error(where, f"{field}.next", problem, "end the list with an edge that is always open")
            else:
                yield _warning(where, f"{field}.next", problem, "raise maxVisits of what follows, or add a way out")
        for edge, name, at in () if found.truncated else _each_edge(node, field):
            if (node.id, edge.to) not in found.taken:
                yield _warning(name, at, "is never taken: guards, facts or maxVisits always close it", "loosen them, or remove it")
