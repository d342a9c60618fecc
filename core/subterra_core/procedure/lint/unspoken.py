"""Turns for which a scripted teacher has no words. Checked where the teacher is known: a hosted one needs no examples."""

from collections.abc import Iterator

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.lint.findings import Finding, error, located_anywhere, located_edges, located_nodes, located_questions


def check_examples(spec: ProcedureSpec) -> Iterator[Finding]:
    """An error for each node, branch of a node, or question without examples."""
    for node, where, field in located_nodes(spec):
        if node.examples or node.role == "tool":
            continue
        silent = [(name, path) for edge, name, path in located_edges(node, field) if not edge.examples]
        if len(silent) == len(node.next):
            yield _silent(where, f"{field}.examples")
        else:
            for name, path in silent:
                yield _silent(name, f"{path}.examples")
    for anywhere, name, path in located_anywhere(spec):
        if not anywhere.examples:
            yield _silent(name, f"{path}.examples")
    for question, name, path in located_questions(spec):
        if not question.examples:
            yield _silent(name, f"{path}.examples")


def _silent(where: str, field: str) -> Finding:
    problem = "has no examples, and the scripted teacher says nothing else"
    return error(where, field, problem, "add examples of what is said here, or name a model as generation.teacher of the agent")
