"""Reads the structure of a LangGraph graph: subgraphs in their place, tools of tool nodes, nodes that wait for a person."""

import importlib
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import CodeType
from typing import Any

from subterra_cli.errors import CommandError

START, END = "__start__", "__end__"


class GraphImportError(CommandError):
    """The graph cannot be imported; the message says why and what to do."""


@dataclass(frozen=True)
class Route:
    """An edge out of a LangGraph node; ``labels`` are the return values of the routing function that select it."""

    to: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class GraphTool:
    """A tool of a tool node; `parameters` are names with their JSON type and whether a call may leave them out."""

    name: str
    description: str
    parameters: tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True)
class LangGraphFlow:
    """The structure of a LangGraph graph. ``unknown``: nodes whose routing function declares no targets."""

    nodes: dict[str, str]
    """Docstrings by name."""
    routes: dict[str, tuple[Route, ...]]
    unknown: frozenset[str] = frozenset()
    parallel: frozenset[str] = frozenset()
    """Nodes after which several nodes run in parallel."""
    waits: frozenset[str] = frozenset()
    """Nodes that call `interrupt()`: a person answers before they go on."""
    tools: dict[str, tuple[GraphTool, ...]] = field(default_factory=dict)
    """What tool nodes call."""


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
    flow = _level(builder)
    for name, node in builder.nodes.items():
        if hasattr(node.runnable, "builder"):
            flow = _expanded(flow, name, _flow(node.runnable.builder))
    return flow


def _level(builder: Any) -> LangGraphFlow:
    """The structure of one graph, with subgraphs as nodes."""
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
    called = {name: set(_names(_function(node.runnable))) for name, node in builder.nodes.items()}
    unknown |= {name for name, names in called.items() if "Command" in names and not routes.get(name)}
    return LangGraphFlow(
        {name: _docstring(node.runnable) for name, node in builder.nodes.items()},
        {source: tuple(Route(to, tuple(labels)) for to, labels in targets.items()) for source, targets in routes.items()},
        frozenset(unknown),
        frozenset(parallel),
        frozenset(name for name, names in called.items() if "interrupt" in names),
        {name: tools for name, node in builder.nodes.items() if (tools := tuple(_tools(node.runnable)))},
    )


def _expanded(flow: LangGraphFlow, name: str, inner: LangGraphFlow) -> LangGraphFlow:
    """`flow` with the nodes of a subgraph in its node's place; a node stays where the subgraph's beginning or its end branches."""
    entries, behind = inner.routes.get(START, ()), flow.routes.get(name, ())
    branches, leaves = len(entries) != 1 or START in inner.unknown, len(behind) != 1 or name in flow.unknown
    exit_name = f"{name}/end" if leaves else behind[0].to
    entry = name if branches else f"{name}/{entries[0].to}"

    def outward(to: str) -> str:
        return exit_name if to == END else f"{name}/{to}"

    def inward(route: Route) -> Route:
        return replace(route, to=entry, labels=route.labels or (name,)) if route.to == name else route

    routes = {source: tuple(map(inward, each)) for source, each in flow.routes.items() if source != name}
    routes |= {
        f"{name}/{node}": tuple(replace(to, to=outward(to.to)) for to in each)
        for node, each in inner.routes.items()
        if node != START
    }
    routes |= {name: tuple(replace(to, to=outward(to.to)) for to in entries)} if branches else {}
    routes |= {exit_name: tuple(map(inward, behind))} if leaves else {}
    kept = ({name: flow.nodes[name]} if branches else {}), ({exit_name: ""} if leaves else {})
    inside = {f"{name}/{node}": text for node, text in inner.nodes.items()}
    nodes = dict[str, str]()
    for node, text in flow.nodes.items():
        nodes |= {node: text} if node != name else {**kept[0], **inside, **kept[1]}

    def both(outer: frozenset[str], below: frozenset[str]) -> frozenset[str]:
        begins = {name} if branches and START in below else set()
        ends = {exit_name} if name in outer and leaves else set()
        return (outer - {name}) | begins | ends | {f"{name}/{node}" for node in below - {START}}

    return LangGraphFlow(
        nodes,
        routes,
        both(flow.unknown, inner.unknown),
        both(flow.parallel, inner.parallel),
        both(flow.waits, inner.waits),
        {node: each for node, each in flow.tools.items() if node != name}
        | {f"{name}/{node}": each for node, each in inner.tools.items()},
    )


def _function(runnable: Any) -> Any:
    return getattr(runnable, "func", None) or getattr(runnable, "afunc", None)


def _names(function: Any) -> Iterator[str]:
    """Global names and attributes that a function's code uses."""
    waiting = [getattr(function, "__code__", None)]
    while waiting:
        code = waiting.pop()
        if isinstance(code, CodeType):
            yield from code.co_names
            waiting += [each for each in code.co_consts if isinstance(each, CodeType)]


def _tools(runnable: Any) -> Iterator[GraphTool]:
    """The tools of a tool node."""
    found = getattr(runnable, "tools_by_name", None)
    for name, tool in (found if isinstance(found, dict) else {}).items():
        schema = getattr(tool, "args", {}) or {}
        parameters = [(each, str(about.get("type", "string")), "default" in about) for each, about in schema.items()]
        yield GraphTool(str(name), " ".join(str(getattr(tool, "description", "")).split())[:1000], tuple(parameters))


def _docstring(runnable: Any) -> str:
    """Docstring of a node's function; empty for lambdas and for runnables without a function."""
    return " ".join((getattr(_function(runnable), "__doc__", None) or "").split())[:3000]
