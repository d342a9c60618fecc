"""A LangGraph graph as a Procedure. The shape is taken over; what a graph of functions does not say is marked as a gap.

LangGraph's nodes are programs of the agent. It has no turns of the customer, and its branches are decided by code, which a
compiled model does not run. So every branch becomes a turn of the customer after the node that branches, and the author says in
which words the branches show. Nothing is made up: a gap is a text that begins with ``GAP:``, and lint tells each.
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

GAP = "GAP: "
START, END = "__start__", "__end__"


class ImportedError(CommandError):
    """The graph cannot be imported; the message says why and what to do."""


@dataclass(frozen=True)
class Way:
    """One way out of a LangGraph node; ``labels`` are what its routing function may answer to take it."""

    to: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Flow:
    """What a LangGraph graph says about itself. ``unknown``: nodes whose routing function may go anywhere."""

    nodes: dict[str, str]
    """Docstrings by name."""
    ways: dict[str, tuple[Way, ...]]
    unknown: frozenset[str]
    parallel: frozenset[str]
    """Nodes after which several nodes run at once."""


def flow_of(target: str) -> Flow:
    """Reads ``MODULE:GRAPH``, a compiled StateGraph or a function that returns one. Runs the module's code."""
    module, _, name = target.partition(":")
    if not module or not name:
        raise ImportedError(f"{target!r} names no graph; write MODULE:GRAPH, for example shop.agent:graph")
    try:
        from langgraph.graph.state import CompiledStateGraph, StateGraph
    except ModuleNotFoundError:
        raise ImportedError(
            "langgraph is not installed here; run this in the environment of your graph: pip install subterra[cli] langgraph"
        ) from None
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        if callable(found) and not isinstance(found, CompiledStateGraph | StateGraph):
            found = found()
    except Exception as error:
        raise ImportedError(f"{target} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(found, CompiledStateGraph | StateGraph):
        raise ImportedError(f"{target} is of type {type(found).__name__}, no StateGraph; name what compile() returned")
    return _flow(found.builder if isinstance(found, CompiledStateGraph) else found)


def _flow(builder: Any) -> Flow:
    ways: defaultdict[str, dict[str, list[str]]] = defaultdict(dict)
    unknown, parallel = set[str](), set[str]()
    plain = sorted({*builder.edges, *((start, end) for starts, end in builder.waiting_edges for start in starts)})
    for source, to in plain:
        parallel |= {source} if ways[source] else set()
        ways[source].setdefault(to, [])
    for source, branches in builder.branches.items():
        for branch in branches.values():
            unknown |= set() if branch.ends else {source}
            for label, to in (branch.ends or {}).items():
                ways[source].setdefault(to, []).append(str(label))
    for source, node in builder.nodes.items():
        ends = node.ends if isinstance(node.ends, dict) else {end: end for end in node.ends}
        for to, label in ends.items():
            ways[source].setdefault(to, []).append(str(label))
    return Flow(
        {name: _docstring(node.runnable) for name, node in builder.nodes.items()},
        {source: tuple(Way(to, tuple(labels)) for to, labels in found.items()) for source, found in ways.items()},
        frozenset(unknown),
        frozenset(parallel),
    )


def _docstring(runnable: Any) -> str:
    """What the author wrote about a node's function; empty for lambdas and for runnables without a function."""
    function = getattr(runnable, "func", None) or getattr(runnable, "afunc", None)
    return " ".join((getattr(function, "__doc__", None) or "").split())[:3000]


def procedure(flow: Flow, name: str) -> dict[str, Any]:
    """The Procedure as a document, gaps marked."""
    names = _names(flow)
    closing = any(way.to == END for source, ways in flow.ways.items() for way in ways if len(ways) > 1 or source in flow.unknown)
    nodes: list[dict[str, Any]] = []
    start = _only_way(flow, START)
    if start is None:
        nodes.append(_customer(names[START], flow, START, names))
    for node, docstring in flow.nodes.items():
        nodes += _agent(node, docstring, flow, names)
    if closing:
        nodes.append({"id": names[END], "role": "agent", "prompt": f"{GAP}how the agent ends the conversation", **_OUTCOME})
    spec = {"systemPrompt": f"{GAP}one sentence that says who the agent is", "start": names[start or START], "nodes": nodes}
    return {"apiVersion": API_VERSION, "kind": "Procedure", "metadata": {"name": name}, "spec": spec}


_OUTCOME = {"outcome": "success"}


def _agent(node: str, docstring: str, flow: Flow, names: dict[str, str]) -> list[dict[str, Any]]:
    """The agent's turn, and where it branches the customer's that decides."""
    told = f"{GAP}what the agent says at {node!r}; its function says of itself: {docstring}" if docstring else ""
    turn: dict[str, Any] = {"id": names[node], "role": "agent", "prompt": told or f"{GAP}what the agent says at {node!r}"}
    ways, only = flow.ways.get(node, ()), _only_way(flow, node)
    if node in flow.unknown or len(ways) > 1:
        decides = f"{names[node]}_answer"
        return [turn | {"next": [{"to": decides}]}, _customer(decides, flow, node, names)]
    return [turn | ({"next": [{"to": names[only]}]} if only and only != END else _OUTCOME)]


def _customer(node_id: str, flow: Flow, source: str, names: dict[str, str]) -> dict[str, Any]:
    """A turn of the customer that decides what ``source`` decides by code."""
    after = "at the beginning" if source == START else f"after {source!r}"
    prompt = f"{GAP}what the customer says {after}"
    if source in flow.parallel:
        prompt += "; the graph goes several of these ways at once, a conversation goes one: join them"
    if source in flow.unknown:
        prompt += "; the routing function does not say where it may go: add the ways that are missing (next)"
    ways = flow.ways.get(source, ())
    branches = [{"to": names[way.to], "when": _when(way)} for way in ways]
    return {"id": node_id, "role": "user", "prompt": prompt, **({"next": branches} if branches else _OUTCOME)}


def _when(way: Way) -> str:
    labels = [label for label in way.labels if label != way.to]
    answer = f" (the graph calls it {' or '.join(map(repr, labels))})" if labels else ""
    return f"{GAP}what the customer says to get to {'the end' if way.to == END else repr(way.to)}{answer}"[:500]


def _only_way(flow: Flow, source: str) -> str | None:
    ways = flow.ways.get(source, ())
    return ways[0].to if len(ways) == 1 and source not in flow.unknown else None


def _names(flow: Flow) -> dict[str, str]:
    """A node id for each name: LangGraph allows any text."""
    names: dict[str, str] = {}
    for name in (*flow.nodes, START, END):
        plain = re.sub(r"[^a-zA-Z0-9_-]+", "_", name).strip("_")
        plain = (plain if plain[:1].isalpha() else f"node_{plain}".rstrip("_"))[:50]
        names[name] = _unused({START: "opening", END: "closing"}.get(name, plain), names.values())
    return names


def _unused(wanted: str, taken: Iterable[str]) -> str:
    used = {name for each in taken for name in (each, f"{each}_answer")}
    number = 2
    found = wanted
    while found in used or f"{found}_answer" in used:
        found, number = f"{wanted}_{number}", number + 1
    return found


def gaps(document: Any, field: str = "") -> list[str]:
    """Field paths of all texts that the author has to replace."""
    if isinstance(document, str):
        return [field] if document.startswith(GAP) else []
    if isinstance(document, dict):
        return [path for key, value in document.items() for path in gaps(value, f"{field}.{key}" if field else key)]
    if isinstance(document, list):
        return [path for place, value in enumerate(document) for path in gaps(value, f"{field}[{place}]")]
    return []


def document(found: dict[str, Any], target: str) -> str:
    """The Procedure as YAML, with what the author has to do written above it."""
    head = f"""\
# Imported from {target}. LangGraph says how the conversation may go, not what is said in it.
# Write what each GAP asks for ({len(gaps(found))}), set the outcomes that are not success (abandonment, escalation),
# and add examples where the scripted teacher writes. `subterra lint` tells what is left.
"""
    return head + yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=120)
