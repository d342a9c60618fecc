"""A called procedure's parts under the names that they have in the procedure that calls it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from subterra_api.v1alpha1.procedure import AnywhereEdge, Edge, Guard, Node, Question, Variable
from subterra_core.procedure.template import split

SEPARATOR = "__"
"""Between the id of a call node and the name of a node or variable of the called procedure."""


def node_prefix(call: str) -> str:
    """What the ids of the called procedure's nodes begin with."""
    return call + SEPARATOR


def variable_prefix(call: str) -> str:
    """What the names of the called procedure's own variables begin with; they have no hyphens."""
    return call.replace("-", "_") + SEPARATOR


@dataclass(frozen=True)
class Renaming:
    """New names of nodes and variables, and fixed texts in place of variables; other names stay."""

    nodes: Mapping[str, str]
    variables: Mapping[str, str]
    texts: Mapping[str, str]

    def node(self, node: Node) -> Node:
        """The node with its edges."""
        fact = {"fact": self._variable(node.fact)} if node.fact else {}
        update = {
            "id": self._node(node.id),
            "prompt": self._text(node.prompt),
            "examples": self._all_texts(node.examples),
            "next": tuple(self._edge(edge) for edge in node.next),
            "arguments": tuple(each.model_copy(update={"value": self._text(each.value)}) for each in node.arguments),
            **fact,
        }
        return node.model_copy(update=update)

    def variable(self, variable: Variable) -> Variable:
        """The variable with its bounds."""
        bounds = {"min": variable.min, "max": variable.max, "after": variable.after}
        renamed: dict[str, Any] = {field: self._text(text) for field, text in bounds.items() if text is not None}
        return variable.model_copy(update={"name": self._variable(variable.name), **renamed})

    def anywhere(self, edge: AnywhereEdge) -> AnywhereEdge:
        """The anywhere edge with its exceptions."""
        update = {
            "to": self._node(edge.to),
            "when": self._text(edge.when),
            "examples": self._all_texts(edge.examples),
            "except_": tuple(self._node(node) for node in edge.except_),
        }
        return edge.model_copy(update=update)

    def question(self, question: Question) -> Question:
        """The question with its exceptions; its words have no variables."""
        return question.model_copy(update={"except_": tuple(self._node(node) for node in question.except_)})

    def _edge(self, edge: Edge) -> Edge:
        when = {"when": self._text(edge.when)} if edge.when else {}
        guards = tuple(self._guard(guard) for guard in edge.guards)
        update = {"to": self._node(edge.to), "examples": self._all_texts(edge.examples), "guards": guards, **when}
        return edge.model_copy(update=update)

    def _guard(self, guard: Guard) -> Guard:
        return Guard(hub=self._node(guard.hub), took=tuple(self._node(node) for node in guard.took))

    def _node(self, name: str) -> str:
        return self.nodes.get(name, name)

    def _variable(self, name: str) -> str:
        return self.variables.get(name, name)

    def _all_texts(self, texts: Iterable[str]) -> tuple[str, ...]:
        return tuple(self._text(text) for text in texts)

    def _text(self, text: str) -> str:
        """`text` with its placeholders under their new names, or replaced by their fixed texts."""
        parts = split(text)
        parts[1::2] = [self.texts.get(name) or f"{{{{{self._variable(name)}}}}}" for name in parts[1::2]]
        return "".join(parts)
