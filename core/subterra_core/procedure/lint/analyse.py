"""What is wrong with a procedure, and what it amounts to: all findings at once, each with its place and its cure. Pure."""

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.lint.branches import _hubs
from subterra_core.procedure.lint.findings import Analysis
from subterra_core.procedure.lint.reachability import _flow
from subterra_core.procedure.lint.structure import _nodes, _size, _structure
from subterra_core.procedure.lint.variables import _knowledge, _variables
from subterra_core.procedure.path_count import EFFORT, count


def analyse(spec: ProcedureSpec, effort: int = EFFORT) -> Analysis:
    """All findings at once, and the counts; ``effort`` bounds the counting."""
    findings = [*_size(spec), *_structure(spec), *_nodes(spec), *_hubs(spec), *_variables(spec)]
    sizes = (
        len(spec.nodes),
        sum(len(node.next) for node in spec.nodes),
        sum(1 for node in spec.nodes if len(node.next) > 1),
        sum(1 for node in spec.nodes if not node.next),
    )
    if not any(finding.severity == "error" for finding in findings):
        found = count(Graph(spec), effort)
        findings += [*_knowledge(spec), *_flow(spec, found)]
        if not any(finding.severity == "error" for finding in findings):
            return Analysis(tuple(findings), *sizes, found.paths, found.truncated, found.min_turns, found.max_turns)
    return Analysis(tuple(findings), *sizes)
