"""What every picture and table of a procedure tells: what decides its branches, its loops, how its paths end. Pure."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import networkx as nx

from subterra_api.v1alpha1.procedure import Edge, Node, ProcedureSpec
from subterra_core.procedure.graph import Graph, Hop

LISTED_PATHS = 20_000
"""Up to so many paths are listed one by one; beyond that they are counted only."""
_UNPRINTABLE = re.compile("[^\t\n\u0020-\u007e\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Failures:
    """How many of the conversations that came to nodes and took edges have failed."""

    nodes: Mapping[str, int]
    edges: Mapping[Hop, int]


@dataclass(frozen=True)
class Visits:
    """How often conversations come to nodes and take edges: those of a dataset, or with ``failures`` those of an evaluation."""

    conversations: int
    nodes: Mapping[str, int]
    edges: Mapping[Hop, int]
    failures: Failures | None = None


def condition(node: Node, edge: Edge) -> str:
    """What makes the conversation go this way, and what must have been decided before; empty where there is no choice."""
    guards = " and ".join(f"{guard.hub} led to {' or '.join(guard.took)}" for guard in edge.guards)
    return " ".join(part for part in (_decision(node, edge), f"(if {guards})" if guards else "") if part)


def _decision(node: Node, edge: Edge) -> str:
    if len(node.next) < 2:
        return edge.when or ""
    if node.decided_by == "fact":
        return f"{node.fact} is {' or '.join(edge.values) if edge.values else 'anything else'}"
    if node.decided_by == "history":
        return edge.when or ("first choice" if edge is node.next[0] else "if the ways above are used up or closed")
    return edge.when or ""


def clean(text: str) -> str:
    """``text`` with a mark in place of what XML cannot hold and what a terminal would obey."""
    return _UNPRINTABLE.sub("\ufffd", text)


def loops(spec: ProcedureSpec) -> list[tuple[str, ...]]:
    """Groups of nodes to which a conversation can come back, in the order of the file."""
    drawn: nx.DiGraph[str] = nx.DiGraph([(node.id, edge.to) for node in spec.nodes for edge in node.next])
    tied = [set(group) for group in nx.strongly_connected_components(drawn)]
    tied = [group for group in tied if len(group) > 1 or drawn.has_edge(*group, *group)]
    found = {tuple(node.id for node in spec.nodes if node.id in group) for group in tied}
    place = {node.id: at for at, node in enumerate(spec.nodes)}
    return sorted(found, key=lambda group: place[group[0]])


def endings(spec: ProcedureSpec) -> dict[str, int] | None:
    """Number of paths to each terminal; none when there are too many to list."""
    listed = list(islice(Graph(spec).paths(), LISTED_PATHS + 1))
    if len(listed) > LISTED_PATHS:
        return None
    ends = Counter(path[-1] for path in listed)
    return {node.id: ends[node.id] for node in spec.nodes if not node.next}


def described(spec: ProcedureSpec, visits: Visits | None) -> dict[str, Any]:
    """Nodes and edges for scripts."""
    nodes = []
    for node in spec.nodes:
        facts: dict[str, Any] = {"id": node.id, "role": node.role, "outcome": node.outcome, "max_visits": node.max_visits}
        facts |= {"decided_by": node.decided_by} if len(node.next) > 1 else {}
        nodes.append(facts | ({"visits": visits.nodes.get(node.id, 0)} if visits else {}))
    edges = []
    for node in spec.nodes:
        for edge in node.next:
            way: dict[str, Any] = {"from": node.id, "to": edge.to, "when": condition(node, edge) or None, "weight": edge.weight}
            edges.append(way | ({"visits": visits.edges.get((node.id, edge.to), 0)} if visits else {}))
    return {"nodes": nodes, "edges": edges}
