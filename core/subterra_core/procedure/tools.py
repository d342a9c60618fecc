"""Tools of a procedure: which node calls which, with what, and what is known afterwards. Pure."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from subterra_api.v1alpha1.procedure import Node, ProcedureSpec, Tool, ToolParameter
from subterra_core.procedure.template import variables_of

SUCCESS = "ok"
"""Value of an outcome with which a call returns its results."""
ERROR = "error"
"""The field of a result that names an error."""


def tools_by_name(spec: ProcedureSpec) -> dict[str, Tool]:
    """The procedure's tools."""
    return {tool.name: tool for tool in spec.tools}


def tool_nodes(spec: ProcedureSpec) -> list[Node]:
    """The nodes at which the agent calls a tool."""
    return [node for node in spec.nodes if node.role == "tool"]


def argument_variables(node: Node) -> frozenset[str]:
    """Variables that the arguments of a call hold."""
    return frozenset(name for argument in node.arguments for name in variables_of(argument.value))


def returned_variables(tool: Tool) -> tuple[str, ...]:
    """Variables that a call of the tool makes known if it succeeds."""
    return (*([tool.outcome] if tool.outcome else ()), *tool.results)


def call_variables(spec: ProcedureSpec, node: Node) -> frozenset[str]:
    """Variables that a node's call holds or makes known; none for a node without a call."""
    if node.role != "tool":
        return frozenset()
    tool = tools_by_name(spec).get(node.tool or "")
    return argument_variables(node).union(returned_variables(tool) if tool else ())


def learned_on_edges(spec: ProcedureSpec, node: Node) -> list[frozenset[str]]:
    """For each edge of `node`, the result variables that are known behind it because of a call.

    After a tool with an outcome only the outcome is known, until a hub decides by it that the call succeeded.
    """
    tools = tools_by_name(spec)
    own = tools.get(node.tool or "") if node.role == "tool" else None
    learned = frozenset(([own.outcome] if own.outcome else own.results) if own else ())
    succeeded = frozenset(name for tool in spec.tools if tool.outcome and tool.outcome == node.fact for name in tool.results)
    if node.decided_by != "fact" or not succeeded:
        return [learned] * len(node.next)
    rest = _values_that_no_edge_names(spec, node)
    return [learned | (succeeded if (set(edge.values) or rest) == {SUCCESS} else frozenset()) for edge in node.next]


def _values_that_no_edge_names(spec: ProcedureSpec, node: Node) -> set[str]:
    possible = next((variable.values for variable in spec.variables if variable.name == node.fact), ())
    return set(possible).difference(*(edge.values for edge in node.next))


def function_schema(tool: Tool) -> dict[str, Any]:
    """The tool as an entry of `tools` of an OpenAI-compatible request."""
    properties = {parameter.name: _parameter_schema(parameter) for parameter in tool.parameters}
    required = [parameter.name for parameter in tool.parameters if not parameter.optional]
    schema = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": tool.name, "description": tool.description, "parameters": schema}}


def _parameter_schema(parameter: ToolParameter) -> dict[str, Any]:
    described = {"description": parameter.description} if parameter.description else {}
    return {"type": parameter.type, **described, **({"enum": list(parameter.enum)} if parameter.enum else {})}


def function_schemas(spec: ProcedureSpec) -> list[dict[str, Any]]:
    """All tools, as a client sends them in `tools`."""
    return [function_schema(tool) for tool in spec.tools]


def function_lines(spec: ProcedureSpec) -> str:
    """The tools as a model reads them in its system message, a line each; empty for a procedure without tools."""
    return "\n".join(json.dumps(schema, ensure_ascii=False) for schema in function_schemas(spec))


def call_mark(name: str) -> str:
    """How a call stands among the words of a reply wherever only words are read."""
    return f"⟦{name}⟧"


def without_marks(text: str) -> str:
    """Words of a model in which nothing can pass for a call."""
    return text.replace("⟦", "[").replace("⟧", "]")


def call_text(node: Node) -> str:
    """The call of a node in words, as in `find_order(order_number: {{order}})`."""
    return f"{node.tool}({', '.join(f'{argument.name}: {argument.value}' for argument in node.arguments)})"


def label_text(node: Node) -> str:
    """What a drawing writes into the node's box: its prompt, after the call if there is one."""
    if node.role == "collect":
        return "\n".join(filter(None, (f"collects {', '.join(slot.variable for slot in node.collects)}", node.prompt)))
    if node.role == "call":
        return "\n".join(filter(None, (f"calls procedure {node.procedure}", node.prompt)))
    return node.prompt if node.role != "tool" else "\n".join(filter(None, ("calls " + call_text(node), node.prompt)))


def json_value(kind: str, text: str, numbers: Mapping[str, int] | None = None) -> Any:
    """`text` as a value of this JSON type. Raises ValueError for a text that is none; `numbers` has words for numbers."""
    if kind == "string":
        return text
    if kind == "boolean":
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{text!r} is neither true nor false")
        return text.lower() == "true"
    if numbers and text.lower() in numbers:
        return numbers[text.lower()]
    digits = "".join(_number_letters(text))
    return int(digits) if kind == "integer" or digits.lstrip("-").isdigit() else float(digits)


def _number_letters(text: str) -> Iterator[str]:
    """The number in `text` without grouping commas and units, as in `$1,250`."""
    for index, letter in enumerate(text):
        follows = text[index + 1 : index + 2].isdigit()
        if letter.isdigit() or (follows and (letter == "-" or (letter == "." and text[:index][-1:].isdigit()))):
            yield letter
