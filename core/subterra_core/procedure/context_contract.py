"""What a client of the served agent must send: the facts of visibility `context`, which node reads each, and their JSON Schema."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

import networkx as nx

from subterra_api.v1alpha1.procedure import Node, ProcedureSpec, Variable
from subterra_core.procedure.anywhere import anywhere_edges_by_node
from subterra_core.procedure.lint.findings import speech
from subterra_core.procedure.template import variables_of
from subterra_core.procedure.tools import argument_variables

_ONE_LINE = r"^[^\r\n]+$"
_SYNTAX = re.compile(r"[\\^$.*+?()\[\]{}|/]")
"""Characters that a regular expression of JSON Schema has to escape; others must stay as they are."""


@dataclass(frozen=True)
class Reader:
    """A node that reads a fact. `message`: the first message of the agent, counted from 1, that can depend on it."""

    node: str
    message: int


@dataclass(frozen=True)
class ContextFact:
    """A fact that the client sends as a line `name: value`, and the nodes that read it, those that come first in front."""

    variable: Variable
    readers: tuple[Reader, ...]

    @property
    def first(self) -> Reader | None:
        """The first reader; `None` if no node names the fact."""
        return self.readers[0] if self.readers else None


def context_facts(spec: ProcedureSpec) -> tuple[ContextFact, ...]:
    """Facts in the order of the procedure, which is the order of the lines in training.

    A node reads a fact if the fact decides there, or if it is the agent's and says `{{name}}`. A conversation may come to a node
    later than counted here, because guards, facts and `maxVisits` are left out of account, but never earlier.
    """
    earliest = _earliest_messages(spec)
    return tuple(
        ContextFact(variable, _readers(spec, variable.name, earliest))
        for variable in spec.variables
        if variable.visibility == "context"
    )


def _readers(spec: ProcedureSpec, name: str, earliest: Mapping[str, int]) -> tuple[Reader, ...]:
    found = [
        Reader(node.id, earliest[node.id] + (node.role == "user"))
        for node in spec.nodes
        if node.id in earliest and _reads(node, name)
    ]
    return tuple(sorted(found, key=lambda reader: reader.message))


def _reads(node: Node, name: str) -> bool:
    says = node.role == "agent" and any(name in variables_of(text) for text in speech(node))
    says = says or name in argument_variables(node)
    return says or node.fact == name


def _earliest_messages(spec: ProcedureSpec) -> dict[str, int]:
    """For each node, the messages that the agent has begun by then, at least. Adjacent turns of the agent are one message."""
    roles = {node.id: node.speaker for node in spec.nodes}
    drawn: nx.DiGraph[str] = nx.DiGraph()
    drawn.add_node(spec.start)
    for node in spec.nodes:
        for edge in node.next:
            drawn.add_edge(node.id, edge.to, weight=int(roles[edge.to] == "agent" and node.speaker == "user"))
    for source, edges in anywhere_edges_by_node(spec).items():
        drawn.add_edges_from(((source, edge.to) for edge in edges), weight=1)
    begun = int(roles[spec.start] == "agent")
    return {node: begun + int(more) for node, more in nx.single_source_dijkstra_path_length(drawn, spec.start).items()}


def context_schema(spec: ProcedureSpec, name: str) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the context: an object with a property for each fact, in the order of the lines.

    `x-readBy`, `x-firstReadBy` and `x-neededForMessage` say which nodes read a fact and when it has to be there.
    """
    facts = context_facts(spec)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Context of {name}",
        "description": "Facts about the customer: lines `name: value` of a system message, in the order of the properties.",
        "type": "object",
        "properties": {fact.variable.name: _property(fact) for fact in facts},
        "required": [fact.variable.name for fact in facts],
        "additionalProperties": False,
    }


def _property(fact: ContextFact) -> dict[str, Any]:
    variable, first = fact.variable, fact.first
    described = {"description": variable.description} if variable.description else {}
    when = {"x-firstReadBy": first.node, "x-neededForMessage": first.message} if first else {}
    return {**described, **_value_schema(variable), "x-readBy": [reader.node for reader in fact.readers], **when}


def _value_schema(variable: Variable) -> dict[str, Any]:
    if variable.type == "integer":
        return _integer_schema(variable)
    if variable.type == "dateRange":
        formats = {"x-formats": list(variable.formats)} if variable.formats else {}
        return {"type": "string", "pattern": _ONE_LINE, "x-from": variable.from_, "x-to": variable.to, **formats}
    if variable.open:
        return {"type": "string", "pattern": _ONE_LINE, "examples": list(variable.values)}
    return {"type": "string", "enum": list(variable.values)}


def _integer_schema(variable: Variable) -> dict[str, Any]:
    """A number, or the text that the formats make of it; the range of a text is in `x-minimum` and `x-maximum`."""
    limits = {"minimum": variable.minimum, "maximum": variable.maximum}
    if not variable.formats:
        first = variable.minimum or 0
        on_steps = variable.step > 1 and first % variable.step == 0 and not variable.min and not variable.max
        step = {"multipleOf": variable.step} if on_steps else {}
        return {"type": "integer", **limits, **step}
    patterns = "|".join(_pattern(text) for text in variable.formats)
    described = {f"x-{key}": value for key, value in limits.items()} | {"x-step": variable.step}
    return {"type": "string", "pattern": f"^({patterns})$", **described}


def _pattern(text: str) -> str:
    """Regular expression of what a format of an integer makes."""
    parts = []
    for literal, field, form, _ in Formatter().parse(text):
        parts.append(_SYNTAX.sub(r"\\\g<0>", literal))
        if field is not None:
            parts.append(r"-?[0-9]{1,3}(,[0-9]{3})*" if form == "," else "-?[0-9]+")
    return "".join(parts)
