"""What is known at each node of an imported procedure: what tools are called with, and which of them returns what. Pure."""

import re
from collections.abc import Callable, Iterable
from typing import Any

Node = dict[str, Any]
_NAMED = re.compile(r"\{\{ *(\w+) *\}\}")
_MOST = 20


def always_before(nodes: list[Node], start: str, gives: Callable[[Node], set[str]]) -> dict[str, set[str]]:
    """By node, what the nodes on every way to it give. A node's own gifts are not counted."""
    every = set().union(*(gives(node) for node in nodes))
    known = {node["id"]: set(every) for node in nodes}
    known[start] = set()
    by_id = {node["id"]: node for node in nodes}
    waiting = [start]
    seen = set[str]()
    while waiting:
        node = by_id[waiting.pop()]
        behind = known[node["id"]] | gives(node)
        for edge in node.get("next", []):
            left = known[edge["to"]] & behind
            if left != known[edge["to"]] or edge["to"] not in seen:
                known[edge["to"]] = left
                seen.add(edge["to"])
                waiting.append(edge["to"])
    return known


def named_in(value: Any) -> set[str]:
    """Variables that a text, or the texts in a node, name."""
    return set(_NAMED.findall(str(value)))


def settle_values(spec: dict[str, Any], *, pass_known: bool) -> None:
    """Decides who knows the variables that the source does not say it of.

    Those without a `visibility` are returned by a tool if one was called on every way to where they are used, and else sent by the
    client. A fact that the customer may not have said yet is sent, too. With `pass_known` tools are called with all that the
    customer has said by then, as the source's own actions are.
    """
    nodes, start = spec["nodes"], spec["start"]
    variables = {variable["name"]: variable for variable in spec.get("variables", [])}
    customers = {name for name, variable in variables.items() if variable.get("visibility") == "customer"}
    said = always_before(nodes, start, lambda node: named_in(node) & customers if node["role"] == "user" else set())
    called = always_before(nodes, start, lambda node: {node["tool"]} if node["role"] == "tool" else set())
    for node in nodes:
        here = said[node["id"]] | (named_in(node) if node["role"] == "user" else set())
        if node.get("fact") in customers - here:
            variables[node["fact"]]["visibility"] = "context"
    tools = {tool["name"]: tool for tool in spec.get("tools", [])}
    for variable in variables.values():
        if "visibility" not in variable:
            _settle(variable, nodes, called, tools)
    if pass_known:
        _pass(nodes, tools, said, [name for name in variables if variables[name]["visibility"] == "customer"])


def _settle(variable: dict[str, Any], nodes: list[Node], called: dict[str, set[str]], tools: dict[str, dict[str, Any]]) -> None:
    name = variable["name"]
    places = [node for node in nodes if node.get("fact") == name or name in named_in(node)]
    sources = [called[node["id"]] | ({node["tool"]} if node["role"] == "tool" else set()) for node in places]
    common = set.intersection(*sources) if sources else set[str]()
    latest = [node["tool"] for node in nodes if node["role"] == "tool" and node["tool"] in common]
    variable["visibility"] = "result" if latest else "context"
    if latest:
        own = [node["tool"] for node in places if node["role"] == "tool" and node["tool"] in common]
        results = tools[(own or latest[-1:])[0]].setdefault("results", [])
        results += [] if name in results else [name]


def _pass(nodes: list[Node], tools: dict[str, dict[str, Any]], said: dict[str, set[str]], names: Iterable[str]) -> None:
    for name, tool in tools.items():
        calls = [node for node in nodes if node.get("tool") == name and "arguments" not in node]
        if not calls or "parameters" in tool:
            continue
        known = [[each for each in names if each in said[node["id"]]][-_MOST:] for node in calls]
        parameters = list(dict.fromkeys(each for one in known for each in one))[:_MOST]
        for node, one in zip(calls, known, strict=True):
            node["arguments"] = [{"name": each, "value": f"{{{{{each}}}}}"} for each in one if each in parameters]
            if not node["arguments"]:
                del node["arguments"]
        if parameters:
            optional = [each for each in parameters if not all(each in one for one in known)]
            tool["parameters"] = [{"name": each} | ({"optional": True} if each in optional else {}) for each in parameters]
