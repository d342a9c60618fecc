"""Lint of a procedure: all findings at once, each with its location and fix, and the counts. Pure."""

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.lint.branches import check_hubs
from subterra_core.procedure.lint.findings import Analysis
from subterra_core.procedure.lint.gaps import check_gaps
from subterra_core.procedure.lint.reachability import check_reachability
from subterra_core.procedure.lint.structure import check_nodes, check_size, check_structure
from subterra_core.procedure.lint.unforeseen import check_closed_values, check_otherwise
from subterra_core.procedure.lint.variables import check_known_when_used, check_variables
from subterra_core.procedure.path_count import EFFORT, count_paths

_CHECKS = (
    check_size,
    check_structure,
    check_nodes,
    check_hubs,
    check_variables,
    check_otherwise,
    check_closed_values,
    check_gaps,
)
"""Checks that need no paths."""


def analyse(spec: ProcedureSpec, effort: int = EFFORT) -> Analysis:
    """All findings at once, and the counts; `effort` bounds the work of counting."""
    findings = [finding for check in _CHECKS for finding in check(spec)]
    sizes = (
        len(spec.nodes),
        sum(len(node.next) for node in spec.nodes),
        sum(1 for node in spec.nodes if len(node.next) > 1),
        sum(1 for node in spec.nodes if not node.next),
    )
    if not any(finding.severity == "error" for finding in findings):
        count = count_paths(Graph(spec), effort)
        findings += [*check_known_when_used(spec), *check_reachability(spec, count)]
        if not any(finding.severity == "error" for finding in findings):
            return Analysis(tuple(findings), *sizes, count.paths, count.truncated, count.min_turns, count.max_turns)
    return Analysis(tuple(findings), *sizes)
