"""Edges that the customer may take at any of their turns (`spec.anywhere`), seen from the nodes. Pure.

At a node, an ordinary edge goes before an anywhere edge that leads to the same node, has the same condition or shares an example:
two edges that a customer takes with the same words could not be told apart.
"""

import re
from collections.abc import Mapping

from subterra_api.v1alpha1.procedure import AnywhereEdge, Edge, Node, ProcedureSpec

LARGEST_SHARE = 0.5
"""Share of the conversations that take an anywhere edge, at most: the others show the procedure as it is drawn."""
_ARTICLES = frozenset({"a", "an", "the"})


def without_anywhere(spec: ProcedureSpec) -> ProcedureSpec:
    """The procedure as it is drawn, without its anywhere edges."""
    return spec.model_copy(update={"anywhere": ()})


def anywhere_edges_by_node(spec: ProcedureSpec) -> dict[str, tuple[Edge, ...]]:
    """For each customer's node with open anywhere edges, these edges, in the order of the list."""
    edges = [(each, Edge(to=each.to, when=each.when, examples=each.examples)) for each in spec.anywhere]
    found = {node.id: tuple(edge for each, edge in edges if is_open(each, node)) for node in spec.nodes if node.role == "user"}
    return {node: open_edges for node, open_edges in found.items() if open_edges}


def is_open(anywhere: AnywhereEdge, node: Node) -> bool:
    """Whether the customer may take the edge at this node: no exception, and no ordinary edge that goes before it."""
    return node.role == "user" and node.id not in anywhere.except_ and preferred_edge(anywhere, node) is None


def preferred_edge(anywhere: AnywhereEdge, node: Node) -> Edge | None:
    """The ordinary edge of `node` that goes before the anywhere edge: same target, condition or example. `None` without one."""
    words, said = condition_words(anywhere.when), set(map(example_words, anywhere.examples))
    for edge in node.next:
        same_condition = edge.when is not None and condition_words(edge.when) == words
        if edge.to == anywhere.to or same_condition or said.intersection(map(example_words, edge.examples or node.examples)):
            return edge
    return None


def anywhere_shares(spec: ProcedureSpec) -> Mapping[str, float]:
    """For each target of an anywhere edge, the share of the conversations that take it; scaled down to `LARGEST_SHARE` in all."""
    total = sum(each.percent for each in spec.anywhere) / 100
    scale = min(1.0, LARGEST_SHARE / total) if total else 1.0
    return {each.to: each.percent / 100 * scale for each in spec.anywhere}


def anywhere_texts(spec: ProcedureSpec) -> tuple[str, ...]:
    """All that the author wrote about anywhere edges: conditions and examples."""
    return tuple(text for each in spec.anywhere for text in (each.when, *each.examples))


def reached_only_by_leaving(spec: ProcedureSpec) -> frozenset[str]:
    """Nodes to which the edges of nodes do not lead: only conversations that took an anywhere edge come there."""
    if not spec.anywhere:
        return frozenset()
    nodes, waiting = {node.id: node for node in spec.nodes}, [spec.start]
    seen = {spec.start}
    for name in waiting:
        new = [edge.to for edge in nodes[name].next if edge.to not in seen]
        seen.update(new)
        waiting += dict.fromkeys(new)
    return frozenset(nodes).difference(seen)


def condition_words(text: str) -> frozenset[str]:
    """Words by which conditions are compared, ignoring order, case, articles and punctuation."""
    return frozenset(re.findall(r"\w+", text.lower())) - _ARTICLES


def example_words(text: str) -> tuple[str, ...]:
    """Words by which examples are compared, ignoring case and spaces."""
    return tuple(text.lower().split())
