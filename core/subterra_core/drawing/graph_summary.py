"""Content shared by all drawings and tables of a procedure: branch conditions, loops, path endings. Pure."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import networkx as nx

from subterra_api.v1alpha1.procedure import Edge, Node, ProcedureSpec
from subterra_core.procedure.graph import Graph, Hop
from subterra_core.procedure.otherwise import question_name
from subterra_core.procedure.text import decision_texts, guard_texts, order_texts

MAX_LISTED_PATHS = 20_000
"""Maximum number of paths that are listed one by one."""
_UNPRINTABLE = re.compile("[^\t\n\u0020-\u007e\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class FailureCounts:
    """Failed conversations per node visited and edge taken."""

    nodes: Mapping[str, int]
    edges: Mapping[Hop, int]


@dataclass(frozen=True)
class TraversalCounts:
    """Visits to nodes and edges by the conversations of a dataset or, with `failures`, of an evaluation."""

    conversations: int
    nodes: Mapping[str, int]
    edges: Mapping[Hop, int]
    failures: FailureCounts | None = None


def condition_label(node: Node, edge: Edge) -> str:
    """Condition of an edge, phrased as in prompts, with its guards in parentheses; empty if nothing decides."""
    if node.role == "call":
        return f"ends with {edge.outcome}" if edge.outcome else "ends otherwise" if len(node.next) > 1 else ""
    decision = "; ".join(decision_texts(node, edge) or order_texts(node, edge))
    guards = " and ".join(guard_texts(edge))
    return " ".join(part for part in (decision, f"(if {guards})" if guards else "") if part)


def clean(text: str) -> str:
    """`text` with U+FFFD in place of characters that XML cannot hold or a terminal would interpret."""
    return _UNPRINTABLE.sub("\ufffd", text)


def loops(spec: ProcedureSpec) -> list[tuple[str, ...]]:
    """Groups of nodes to which a conversation can return, in the order of the file."""
    drawn: nx.DiGraph[str] = nx.DiGraph([(node.id, edge.to) for node in spec.nodes for edge in node.next])
    tied = [set(group) for group in nx.strongly_connected_components(drawn)]
    tied = [group for group in tied if len(group) > 1 or drawn.has_edge(*group, *group)]
    groups = {tuple(node.id for node in spec.nodes if node.id in group) for group in tied}
    position = {node.id: index for index, node in enumerate(spec.nodes)}
    return sorted(groups, key=lambda group: position[group[0]])


def paths_per_terminal(spec: ProcedureSpec) -> dict[str, int] | None:
    """Number of paths to each terminal; `None` if there are too many to list."""
    paths = list(islice(Graph(spec).paths(), MAX_LISTED_PATHS + 1))
    if len(paths) > MAX_LISTED_PATHS:
        return None
    ends = Counter(path[-1] for path in paths)
    return {node.id: ends[node.id] for node in spec.nodes if not node.next}


def to_dict(spec: ProcedureSpec, visits: TraversalCounts | None) -> dict[str, Any]:
    """Nodes and edges as JSON for scripts."""
    nodes = []
    for node in spec.nodes:
        facts: dict[str, Any] = {"id": node.id, "role": node.role, "outcome": node.outcome, "max_visits": node.max_visits}
        facts |= {"tool": node.tool} if node.tool else {}
        facts |= {"decided_by": node.decided_by} if len(node.next) > 1 else {}
        nodes.append(facts | ({"visits": visits.nodes.get(node.id, 0)} if visits else {}))
    edges = []
    for node in spec.nodes:
        for edge in node.next:
            condition = condition_label(node, edge) or None
            facts = {"from": node.id, "to": edge.to, "when": condition, "weight": edge.weight}
            edges.append(facts | ({"visits": visits.edges.get((node.id, edge.to), 0)} if visits else {}))
    leaving = [{"to": each.to, "when": each.when, "except": each.except_, "percent": each.percent} for each in spec.anywhere]
    asked = [{"name": question_name(each), "question": each.question, "except": each.except_} for each in spec.questions]
    beyond = {"anywhere": leaving, "questions": asked}
    return {"nodes": nodes, "edges": edges, **{name: rows for name, rows in beyond.items() if rows}}
