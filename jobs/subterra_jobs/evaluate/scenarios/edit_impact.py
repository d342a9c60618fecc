"""What an edit of the procedure changes: a model that was compiled before is not judged by what it never learned. Pure."""

from typing import Any

from pydantic import ValidationError

from subterra_api.v1alpha1.procedure import Node, ProcedureSpec
from subterra_core.procedure.graph import Path
from subterra_core.procedure.template import variables_of


class Edits:
    """The differences between the procedure of a reference and today's. Without the former everything has changed."""

    def __init__(self, before: ProcedureSpec | None, now: ProcedureSpec) -> None:
        self._everything = before is None or _common(before) != _common(now)
        old = before or now
        nodes = {node.id: _node(node) for node in old.nodes}
        self._nodes = {node.id for node in now.nodes if nodes.get(node.id) != _node(node)}
        known = {variable.name: variable for variable in old.variables}
        self._variables = {variable.name for variable in now.variables if known.get(variable.name) != variable}
        self._mentions = {node.id: set(_mentioned(node)) for node in now.nodes}

    def touch(self, path: Path) -> bool:
        """Whether what is right on this path is not what it was: a node, a hub's ways out, a variable that is mentioned, a fact."""
        return self._everything or any(node in self._nodes or self._mentions[node] & self._variables for node in path)


def compiled_from(content: bytes | None) -> ProcedureSpec | None:
    """The procedure in a model's file; none when there is no file, or a version wrote it that wrote otherwise."""
    try:
        return None if content is None else ProcedureSpec.model_validate_json(content)
    except ValidationError:
        return None


def _common(spec: ProcedureSpec) -> tuple[Any, ...]:
    """What concerns every conversation: where it begins, what the agent knows, and what it is told about the customer."""
    told = [variable for variable in spec.variables if variable.visibility == "context"]
    return spec.start, {fact.text for fact in spec.knowledge}, told


def _node(node: Node) -> Node:
    """How often a way is taken in training changes nothing about what is right."""
    return node.model_copy(update={"next": tuple(edge.model_copy(update={"weight": 1}) for edge in node.next)})


def _mentioned(node: Node) -> list[str]:
    texts = [node.prompt, *node.examples]
    texts += [text for edge in node.next for text in (edge.when or "", *edge.examples)]
    return [*(name for text in texts for name in variables_of(text)), *([node.fact] if node.fact else [])]
