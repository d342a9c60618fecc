"""Converts a LangGraph graph to a Procedure. The structure is kept; what a graph of functions does not specify becomes a gap.

LangGraph's nodes are functions of the agent. It has no customer turns, and code decides its branches, which a compiled model does
not run. So each branching node is followed by a customer turn that decides, and the author writes what the customer says there.
Nothing is invented: a gap is a text that begins with ``GAP:``, and lint refuses the procedure until each is filled in.
"""

import importlib
import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from subterra_api.v1alpha1 import API_VERSION
from subterra_cli.errors import CommandError
from subterra_cli.imports.gap_count import find_gaps
from subterra_core.procedure.lint.gaps import GAP

START, END = "__start__", "__end__"


class GraphImportError(CommandError):
    """The graph cannot be imported; the message says why and what to do."""


@dataclass(frozen=True)
class Route:
    """An edge out of a LangGraph node; ``labels`` are the return values of the routing function that select it."""

    to: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class LangGraphFlow:
    """The structure of a LangGraph graph. ``unknown``: nodes whose routing function declares no targets."""

    nodes: dict[str, str]
    """Docstrings by name."""
    routes: dict[str, tuple[Route, ...]]
    unknown: frozenset[str]
    parallel: frozenset[str]
    """Nodes after which several nodes run in parallel."""


def load_flow(target: str) -> LangGraphFlow:
    """Reads ``MODULE:GRAPH``, a compiled StateGraph or a function that returns one. Runs the module's code.

    Raises GraphImportError.
    """
    module, _, name = target.partition(":")
    if not module or not name:
        raise GraphImportError(f"{target!r} is not MODULE:GRAPH; write for example shop.agent:graph")
    try:
        from langgraph.graph.state import CompiledStateGraph, StateGraph
    except ModuleNotFoundError:
        raise GraphImportError(
            "langgraph is not installed; run this command in your graph's environment, with Subterra in it: in a checkout of "
            "Subterra, pip install '.[cli]' langgraph"
        ) from None
    sys.path.insert(0, str(Path.cwd()))
    try:
        graph: Any = importlib.import_module(module)
        for part in name.split("."):
            graph = getattr(graph, part)
        if callable(graph) and not isinstance(graph, CompiledStateGraph | StateGraph):
            graph = graph()
    except Exception as error:
        raise GraphImportError(f"{target} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(graph, CompiledStateGraph | StateGraph):
        raise GraphImportError(f"{target} has type {type(graph).__name__}, not StateGraph; pass what compile() returned")
    return _flow(graph.builder if isinstance(graph, CompiledStateGraph) else graph)


def _flow(builder: Any) -> LangGraphFlow:
    routes: defaultdict[str, dict[str, list[str]]] = defaultdict(dict)
    unknown, parallel = set[str](), set[str]()
    plain = sorted({*builder.edges, *((start, end) for starts, end in builder.waiting_edges for start in starts)})
    for source, to in plain:
        parallel |= {source} if routes[source] else set()
        routes[source].setdefault(to, [])
    for source, branches in builder.branches.items():
        for branch in branches.values():
            unknown |= set() if branch.ends else {source}
            for label, to in (branch.ends or {}).items():
                routes[source].setdefault(to, []).append(str(label))
    for source, node in builder.nodes.items():
        ends = node.ends if isinstance(node.ends, dict) else {end: end for end in node.ends}
        for to, label in ends.items():
            routes[source].setdefault(to, []).append(str(label))
    return LangGraphFlow(
        {name: _docstring(node.runnable) for name, node in builder.nodes.items()},
        {source: tuple(Route(to, tuple(labels)) for to, labels in targets.items()) for source, targets in routes.items()},
        frozenset(unknown),
        frozenset(parallel),
    )


def _docstring(runnable: Any) -> str:
    """Docstring of a node's function; empty for lambdas and for runnables without a function."""
    function = getattr(runnable, "func", None) or getattr(runnable, "afunc", None)
    return " ".join((getattr(function, "__doc__", None) or "").split())[:3000]


def to_procedure(flow: LangGraphFlow, name: str) -> dict[str, Any]:
    """The Procedure as a document, with its gaps marked."""
    names = _node_ids(flow)
    branching = {source: routes for source, routes in flow.routes.items() if len(routes) > 1 or source in flow.unknown}
    closing = any(route.to == END for routes in branching.values() for route in routes)
    nodes: list[dict[str, Any]] = []
    start = _only_target(flow, START)
    if start is None:
        nodes.append(_customer_node(names[START], flow, START, names))
    for node, docstring in flow.nodes.items():
        nodes += _agent_nodes(node, docstring, flow, names)
    if closing:
        nodes.append({"id": names[END], "role": "agent", "prompt": f"{GAP}how the agent ends the conversation", **_OUTCOME})
    spec = {"systemPrompt": f"{GAP}one sentence that says who the agent is", "start": names[start or START], "nodes": nodes}
    return {"apiVersion": API_VERSION, "kind": "Procedure", "metadata": {"name": name}, "spec": spec}


_OUTCOME = {"outcome": "success"}


def _agent_nodes(node: str, docstring: str, flow: LangGraphFlow, names: dict[str, str]) -> list[dict[str, Any]]:
    """The agent's turn and, if it branches, the customer's turn that decides."""
    hint = f"; its function's docstring: {docstring}" if docstring else ""
    turn: dict[str, Any] = {"id": names[node], "role": "agent", "prompt": f"{GAP}what the agent says at {node!r}{hint}"}
    routes, only = flow.routes.get(node, ()), _only_target(flow, node)
    if node in flow.unknown or len(routes) > 1:
        decides = f"{names[node]}_answer"
        return [turn | {"next": [{"to": decides}]}, _customer_node(decides, flow, node, names)]
    return [turn | ({"next": [{"to": names[only]}]} if only and only != END else _OUTCOME)]


def _customer_node(node_id: str, flow: LangGraphFlow, source: str, names: dict[str, str]) -> dict[str, Any]:
    """A customer turn that decides what code decides at ``source``."""
    after = "at the beginning" if source == START else f"after {source!r}"
    prompt = f"{GAP}what the customer says {after}"
    if source in flow.parallel:
        prompt += "; the graph runs several of these branches in parallel, a conversation takes one: merge them"
    if source in flow.unknown:
        prompt += "; the routing function does not declare its targets: add the missing edges (next)"
    routes = flow.routes.get(source, ())
    branches = [{"to": names[route.to], "when": _when(route)} for route in routes]
    return {"id": node_id, "role": "user", "prompt": prompt, **({"next": branches} if branches else {})}


def _when(route: Route) -> str:
    labels = [label for label in route.labels if label != route.to]
    answer = f" (the graph calls it {' or '.join(map(repr, labels))})" if labels else ""
    return f"{GAP}what the customer says to get to {'the end' if route.to == END else repr(route.to)}{answer}"[:500]


def _only_target(flow: LangGraphFlow, source: str) -> str | None:
    routes = flow.routes.get(source, ())
    return routes[0].to if len(routes) == 1 and source not in flow.unknown else None


def _node_ids(flow: LangGraphFlow) -> dict[str, str]:
    """A valid node id for each name: LangGraph allows any string."""
    names: dict[str, str] = {}
    for name in (*flow.nodes, START, END):
        plain = re.sub(r"[^a-zA-Z0-9_-]+", "_", name).strip("_")
        plain = (plain if plain[:1].isalpha() else f"node_{plain}".rstrip("_"))[:50]
        names[name] = _unused({START: "opening", END: "closing"}.get(name, plain), names.values())
    return names


def _unused(preferred: str, taken: Iterable[str]) -> str:
    used = {name for node_id in taken for name in (node_id, f"{node_id}_answer")}
    candidates = (preferred, *(f"{preferred}_{number}" for number in range(2, len(used) + 3)))
    return next(name for name in candidates if name not in used and f"{name}_answer" not in used)


def to_yaml(procedure: dict[str, Any], target: str) -> str:
    """The Procedure as YAML, below a comment that says what is left to do."""
    head = f"""\
# Imported from {target}. LangGraph defines the flow of a conversation, not what is said in it.
# Replace each GAP with what it asks for ({len(find_gaps(procedure))}), set the outcomes that are not success (abandonment,
# escalation), and add examples if the scripted teacher writes. `subterra lint` lists what is left.
"""
    return head + yaml.safe_dump(procedure, sort_keys=False, allow_unicode=True, width=120)
