"""Converts a LangGraph graph to a Procedure. The structure is kept; what a graph of functions does not specify becomes a gap.

LangGraph's nodes are functions of the agent. Only `interrupt()` waits for the customer, and code decides its branches, which a
compiled model does not run. So each node that branches or waits is followed by a customer turn, and the author writes what the
customer says there. Nothing is invented: a gap is a text that begins with ``GAP:``, and lint refuses the procedure until each is
filled in.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import yaml

from subterra_api.v1alpha1 import API_VERSION
from subterra_cli.imports.gap_count import find_gaps
from subterra_cli.imports.langgraph_reader import END, START, GraphTool, LangGraphFlow, Route
from subterra_core.procedure.lint.gaps import GAP

_NEXT = "__next__"
_OUTCOME = {"outcome": "success"}
_TYPES = ("string", "integer", "number", "boolean")


def to_procedure(flow: LangGraphFlow, name: str, *, per_message: bool = False) -> dict[str, Any]:
    """The Procedure as a document, with its gaps marked.

    With `per_message` the graph is run once for each message of the customer: where it ends, the customer goes on or is done.
    """
    return _Writer(_with_single_tools(flow), per_message=per_message).write(name)


def _with_single_tools(flow: LangGraphFlow) -> LangGraphFlow:
    """`flow` with a node for each tool of a tool node, and a turn of the agent behind those that do not lead to one."""
    parts = {node: [node] if len(tools) == 1 else [f"{node}/{tool.name}" for tool in tools] for node, tools in flow.tools.items()}
    result = {node: f"{node}/result" for node in parts if (_only_target(flow, node) or END) in {*flow.tools, END}}

    def spread(routes: tuple[Route, ...]) -> tuple[Route, ...]:
        return tuple(replace(route, to=part) for route in routes for part in parts.get(route.to, [route.to]))

    nodes, routes = dict[str, str](), {node: spread(each) for node, each in flow.routes.items() if node not in parts}
    tools = dict[str, tuple[GraphTool, ...]]()
    for node, text in flow.nodes.items():
        nodes |= dict.fromkeys(parts.get(node, ()), "") if node in parts else {node: text}
        for part, tool in zip(parts.get(node, ()), flow.tools.get(node, ()), strict=True):
            tools[part] = (tool,)
            routes[part] = (Route(result[node]),) if node in result else spread(flow.routes.get(node, ()))
        if node in result:
            nodes[result[node]], routes[result[node]] = "", spread(flow.routes.get(node, ()))

    def moved(names: frozenset[str]) -> frozenset[str]:
        return frozenset(result.get(name, name) for name in names)

    return LangGraphFlow(nodes, routes, moved(flow.unknown), moved(flow.parallel), flow.waits, tools)


class _Writer:
    """Writes the nodes of a graph."""

    def __init__(self, flow: LangGraphFlow, *, per_message: bool) -> None:
        self.flow, self.per_message = flow, per_message
        self.names = _node_ids(flow)
        only = _only_target(flow, START)
        self.start = self.names[START if only is None or only in flow.tools else only]
        self.closes = self.goes_on = False

    def write(self, name: str) -> dict[str, Any]:
        nodes: list[dict[str, Any]] = []
        if self.start == self.names[START]:
            nodes.append(self._customer_node(self.start, START))
        for node, docstring in self.flow.nodes.items():
            nodes += [self._call(node)] if node in self.flow.tools else self._agent_nodes(node, docstring)
        if self.goes_on:
            prompt = f"{GAP}what the customer says next"
            nodes.append({"id": self.names[_NEXT], "role": "user", "prompt": prompt, "next": self._endings("")})
        if self.closes:
            closing = {"id": self.names[END], "role": "agent", "prompt": f"{GAP}how the agent ends the conversation"}
            nodes.append(closing | _OUTCOME)
        spec = {"systemPrompt": f"{GAP}one sentence that says who the agent is", "start": self.start, "nodes": nodes}
        if tools := {tool.name: _declared(tool) for (tool,) in self.flow.tools.values()}:
            spec["tools"] = list(tools.values())
        return {"apiVersion": API_VERSION, "kind": "Procedure", "metadata": {"name": name}, "spec": spec}

    def _agent_nodes(self, node: str, docstring: str) -> list[dict[str, Any]]:
        """The agent's turn and, if it branches or waits, the customer's turn that decides."""
        hint = f"; its function's docstring: {docstring}" if docstring else ""
        node_id = self.names[node]
        turn: dict[str, Any] = {"id": node_id, "role": "agent", "prompt": f"{GAP}what the agent says at {node!r}{hint}"}
        routes, only = self.flow.routes.get(node, ()), _only_target(self.flow, node)
        if node in self.flow.unknown or len(routes) > 1 or node in self.flow.waits:
            return [turn | {"next": [{"to": f"{node_id}_answer"}]}, self._customer_node(f"{node_id}_answer", node)]
        if only and only != END:
            return [turn | {"next": [{"to": self.names[only]}]}]
        self.goes_on |= self.per_message
        return [turn | ({"next": [{"to": self.names[_NEXT]}]} if self.per_message else _OUTCOME)]

    def _call(self, node: str) -> dict[str, Any]:
        """The call of a tool, whose arguments are gaps: a model writes them at run time."""
        (tool,) = self.flow.tools[node]
        arguments = [{"name": name, "value": f"{GAP}the value of {name}"} for name, _, optional in tool.parameters if not optional]
        only = _only_target(self.flow, node)
        assert only is not None
        call = {"id": self.names[node], "role": "tool", "tool": tool.name} | ({"arguments": arguments} if arguments else {})
        return call | {"next": [{"to": self.names[only]}]}

    def _customer_node(self, node_id: str, source: str) -> dict[str, Any]:
        """A customer turn that decides what code decides at ``source``."""
        after = "at the beginning" if source == START else f"after {source!r}"
        prompt = f"{GAP}what the customer says {after}"
        if source in self.flow.parallel:
            prompt += "; the graph runs several of these branches in parallel, a conversation takes one: merge them"
        if source in self.flow.unknown:
            prompt += "; the routing function does not declare its targets: add the missing edges (next)"
        routes = self.flow.routes.get(source, ()) or ((Route(END),) if source in self.flow.waits else ())
        branches = [branch for route in routes for branch in self._branches(route, alone=len(routes) == 1)]
        return {"id": node_id, "role": "user", "prompt": prompt, **({"next": branches} if branches else {})}

    def _branches(self, route: Route, *, alone: bool) -> list[dict[str, Any]]:
        if route.to == END:
            return self._endings(_when(route, self.flow), alone=alone)
        return [{"to": self.names[route.to]} | ({} if alone else {"when": _when(route, self.flow)})]

    def _endings(self, when: str, *, alone: bool = False) -> list[dict[str, Any]]:
        """The ways out of the graph: to its beginning with the next message, and to the end of the conversation."""
        self.closes = True
        if not self.per_message:
            return [{"to": self.names[END]} | ({} if alone else {"when": when})]
        over = {"to": self.names[END], "when": f"{GAP}what the customer says when the conversation is over"}
        return [{"to": self.start, "when": f"{GAP}what the customer says to go on"}, over]


def _declared(tool: GraphTool) -> dict[str, Any]:
    parameters = [
        {"name": name, "type": kind if kind in _TYPES else "string"} | ({"optional": True} if optional else {})
        for name, kind, optional in tool.parameters
    ]
    described = tool.description or f"{GAP}what this tool does"
    return {"name": tool.name, "description": described} | ({"parameters": parameters} if parameters else {})


def _when(route: Route, flow: LangGraphFlow) -> str:
    if route.to in flow.tools and (does := flow.tools[route.to][0].description):
        return f"The answer needs a tool that does this: {does}"[:500]
    labels = [label for label in route.labels if label != route.to]
    answer = f" (the graph calls it {' or '.join(map(repr, labels))})" if labels else ""
    return f"{GAP}what the customer says to get to {'the end' if route.to == END else repr(route.to)}{answer}"[:500]


def _only_target(flow: LangGraphFlow, source: str) -> str | None:
    routes = flow.routes.get(source, ())
    return routes[0].to if len(routes) == 1 and source not in flow.unknown else None


def _node_ids(flow: LangGraphFlow) -> dict[str, str]:
    """A valid node id for each name: LangGraph allows any string."""
    names: dict[str, str] = {}
    for name in (*flow.nodes, START, END, _NEXT):
        plain = re.sub(r"[^a-zA-Z0-9_-]+", "_", name).strip("_")
        plain = (plain if plain[:1].isalpha() else f"node_{plain}".rstrip("_"))[:50]
        names[name] = _unused({START: "opening", END: "closing", _NEXT: "next_message"}.get(name, plain), names.values())
    return names


def _unused(preferred: str, taken: Iterable[str]) -> str:
    used = {name for node_id in taken for name in (node_id, f"{node_id}_answer")}
    candidates = (preferred, *(f"{preferred}_{number}" for number in range(2, len(used) + 3)))
    return next(name for name in candidates if name not in used and f"{name}_answer" not in used)


def to_yaml(procedure: dict[str, Any], target: str) -> str:
    """The Procedure as YAML, below a comment that says what is left to do."""
    head = f"""\
# Imported from {target}. LangGraph defines the flow of a conversation, not what is said in it: prompts and routing inside of
# functions are not here. At each branch the customer decides; where your program knows it, write `decidedBy: fact` instead.
# Replace each GAP with what it asks for ({len(find_gaps(procedure))}), set the outcomes that are not success (abandonment,
# escalation), and add examples if the scripted teacher writes. `subterra lint` lists what is left.
"""
    return head + yaml.safe_dump(procedure, sort_keys=False, allow_unicode=True, width=120)
