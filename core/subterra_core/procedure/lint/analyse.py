"""Lint of a procedure: all findings at once, each with its location and fix, and the counts. Pure.

The work is bounded by the procedure's size and by `EFFORT`, never by time, so the command line and the operator always agree.
`bench/procedures/paths.py` measures the worst cases.
"""

from itertools import islice

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.anywhere import anywhere_edges_by_node, without_anywhere
from subterra_core.procedure.counting.path_count import EFFORT, count_paths
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.lint.anywhere_edges import check_anywhere
from subterra_core.procedure.lint.branches import check_hubs
from subterra_core.procedure.lint.dependent_values import check_dependencies
from subterra_core.procedure.lint.findings import Analysis, Finding
from subterra_core.procedure.lint.gaps import check_gaps
from subterra_core.procedure.lint.reachability import check_endless_facts, check_reachability
from subterra_core.procedure.lint.size import check_size
from subterra_core.procedure.lint.structure import check_nodes, check_structure
from subterra_core.procedure.lint.tool_checks import check_tools
from subterra_core.procedure.lint.unforeseen import check_closed_values, check_otherwise, check_questions
from subterra_core.procedure.lint.variables import check_known_when_used, check_variables, check_written_days

MAX_FINDINGS = 1000
"""Findings of the checks without paths, and again of those with paths. The others appear once these are fixed."""
_CHECKS = (
    check_structure,
    check_nodes,
    check_hubs,
    check_anywhere,
    check_variables,
    check_written_days,
    check_tools,
    check_dependencies,
    check_otherwise,
    check_questions,
    check_closed_values,
    check_gaps,
)
"""Checks that need no paths."""


def analyse(spec: ProcedureSpec, effort: int = EFFORT) -> Analysis:
    """All findings at once, and the counts; `effort` bounds the work of counting. Of a procedure that is too large, only that."""
    sizes = (
        len(spec.nodes),
        sum(len(node.next) for node in spec.nodes),
        sum(1 for node in spec.nodes if len(node.next) > 1),
        sum(1 for node in spec.nodes if not node.next),
    )
    if too_large := tuple(check_size(spec)):
        return Analysis(too_large, *sizes, too_large=True)
    findings = list(islice((finding for check in _CHECKS for finding in check(spec)), MAX_FINDINGS))
    if not _has_errors(findings):
        count = count_paths(Graph(without_anywhere(spec)), effort)
        findings += _first([*check_known_when_used(spec), *check_endless_facts(spec), *check_reachability(spec, count)])
        if not _has_errors(findings):
            counts = (count.paths, count.truncated, count.min_turns, count.max_turns)
            leaving = len(anywhere_edges_by_node(spec)) if spec.anywhere else 0
            return Analysis(tuple(findings), *sizes, *counts, len(spec.anywhere), leaving, len(spec.questions))
    return Analysis(tuple(findings), *sizes)


def _has_errors(findings: list[Finding]) -> bool:
    return any(finding.severity == "error" for finding in findings)


def _first(findings: list[Finding]) -> list[Finding]:
    """`findings`, or the first `MAX_FINDINGS` of them, errors before warnings."""
    if len(findings) <= MAX_FINDINGS:
        return findings
    return sorted(findings, key=lambda finding: finding.severity != "error")[:MAX_FINDINGS]
