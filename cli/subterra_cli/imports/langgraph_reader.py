"""Reads the structure of a LangGraph graph: subgraphs in their place, tools of tool nodes, nodes that wait for a person."""

import importlib
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
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
            flow = _Expansion(flow, name, _flow(node.runnable.builder)).flow()
    return flow


def _level(builder: Any) -> LangGraphFlow:
    """The structure of one graph, with subgraphs as nodes."""
    plain = sorted({*builder.edges, *((start, end) for starts, end in builder.waiting_edges for start in starts)})
    routes = _labelled_routes(builder, plain)
    starts = Counter(source for source, _ in plain)
    called = {name: set(_names(_function(node.runnable))) for name, node in builder.nodes.items()}
    unknown = {source for source, branches in builder.branches.items() if not all(each.ends for each in branches.values())}
    unknown |= {name for name, names in called.items() if "Command" in names and not routes.get(name)}
    return LangGraphFlow(
        {name: _docstring(node.runnable) for name, node in builder.nodes.items()},
        {source: tuple(Route(to, tuple(labels)) for to, labels in targets.items()) for source, targets in routes.items()},
        frozenset(unknown),
        frozenset(source for source, count in starts.items() if count > 1),
        frozenset(name for name, names in called.items() if "interrupt" in names),
        {name: tools for name, node in builder.nodes.items() if (tools := tuple(_tools(node.runnable)))},
    )


def _labelled_routes(builder: Any, plain: Iterable[tuple[str, str]]) -> dict[str, dict[str, list[str]]]:
    """The targets of each node with the labels that select them: of plain edges, routing functions and declared Commands."""
    routes: defaultdict[str, dict[str, list[str]]] = defaultdict(dict)
    for source, to in plain:
        routes[source].setdefault(to, [])
    for source, branches in builder.branches.items():
        for label, to in (end for branch in branches.values() for end in (branch.ends or {}).items()):
            routes[source].setdefault(to, []).append(str(label))
    for source, node in builder.nodes.items():
        ends = node.ends if isinstance(node.ends, dict) else {end: end for end in node.ends}
        for to, label in ends.items():
            routes[source].setdefault(to, []).append(str(label))
    return dict(routes)


class _Expansion:
    """A subgraph in its node's place; a node stays where the subgraph's beginning or its end branches."""

    def __init__(self, flow: LangGraphFlow, name: str, inner: LangGraphFlow) -> None:
        self._outer, self._name, self._inner = flow, name, inner
        self._entries, self._after = inner.routes.get(START, ()), flow.routes.get(name, ())
        self._begins = len(self._entries) != 1 or START in inner.unknown
        self._ends = len(self._after) != 1 or name in flow.unknown
        self._entry = name if self._begins else self._inside(self._entries[0].to)
        self._exit = f"{name}/end" if self._ends else self._after[0].to

    def flow(self) -> LangGraphFlow:
        """The graph with the nodes of the subgraph."""
        outer, inner = self._outer, self._inner
        tools = {node: each for node, each in outer.tools.items() if node != self._name}
        return LangGraphFlow(
            self._nodes(),
            self._routes(),
            self._marked(outer.unknown, inner.unknown),
            self._marked(outer.parallel, inner.parallel),
            self._marked(outer.waits, inner.waits),
            tools | {self._inside(node): each for node, each in inner.tools.items()},
        )

    def _inside(self, node: str) -> str:
        return f"{self._name}/{node}"

    def _nodes(self) -> dict[str, str]:
        nodes = dict[str, str]()
        for node, text in self._outer.nodes.items():
            if node != self._name or self._begins:
                nodes[node] = text
            if node == self._name:
                nodes |= {self._inside(each): of_each for each, of_each in self._inner.nodes.items()}
                nodes |= {self._exit: ""} if self._ends else {}
        return nodes

    def _routes(self) -> dict[str, tuple[Route, ...]]:
        routes = {source: self._into(each) for source, each in self._outer.routes.items() if source != self._name}
        routes |= {self._inside(node): self._out_of(each) for node, each in self._inner.routes.items() if node != START}
        routes |= {self._name: self._out_of(self._entries)} if self._begins else {}
        return routes | ({self._exit: self._into(self._after)} if self._ends else {})

    def _into(self, routes: tuple[Route, ...]) -> tuple[Route, ...]:
        """Routes of the outer graph, which enter the subgraph where they led to its node."""
        return tuple(
            replace(each, to=self._entry, labels=each.labels or (self._name,)) if each.to == self._name else each for each in routes
        )

    def _out_of(self, routes: tuple[Route, ...]) -> tuple[Route, ...]:
        """Routes of the subgraph, which leave it where they led to its end."""
        return tuple(replace(each, to=self._exit if each.to == END else self._inside(each.to)) for each in routes)

    def _marked(self, outer: frozenset[str], inner: frozenset[str]) -> frozenset[str]:
        """The nodes of a mark, from those of both graphs."""
        begin = {self._name} if self._begins and START in inner else set()
        end = {self._exit} if self._ends and self._name in outer else set()
        return (outer - {self._name}) | begin | end | {self._inside(node) for node in inner - {START}}


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
