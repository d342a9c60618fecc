"""Anywhere edges in drawings: one box with its edges, in place of an edge from each of the customer's nodes. Pure."""

from collections.abc import Mapping
from dataclasses import replace

from subterra_api.v1alpha1.procedure import AnywhereEdge, Edge, Node, ProcedureSpec
from subterra_core.drawing.graph_summary import FailureCounts, TraversalCounts
from subterra_core.procedure.anywhere import anywhere_edges_by_node
from subterra_core.procedure.graph import Hop

BOX = "(anywhere)"
"""Name of the box; no node can have it."""
PROMPT = "At any turn of the customer."


def drawn_nodes(spec: ProcedureSpec) -> tuple[Node, ...]:
    """The nodes, and after them the box, if there are anywhere edges."""
    if not spec.anywhere:
        return spec.nodes
    edges = tuple(Edge.model_construct(to=each.to, when=anywhere_label(each), examples=each.examples) for each in spec.anywhere)
    prompt = PROMPT if len(edges) > 1 else f"{PROMPT} {edges[0].when}"
    return (*spec.nodes, Node.model_construct(id=BOX, role="user", prompt=prompt, next=edges))


def anywhere_label(edge: AnywhereEdge) -> str:
    """The condition of an anywhere edge, with its exceptions."""
    return edge.when + (f" (not at {', '.join(edge.except_)})" if edge.except_ else "")


def with_box(spec: ProcedureSpec, counts: TraversalCounts | None) -> TraversalCounts | None:
    """The counts with those of the box: for each of its edges, the sum over the nodes."""
    if counts is None or not spec.anywhere:
        return counts
    hops = {(node, edge.to) for node, edges in anywhere_edges_by_node(spec).items() for edge in edges}
    boxed = replace(counts, edges=_with_sums(counts.edges, hops), nodes={**counts.nodes, BOX: _total(counts.edges, hops)})
    if counts.failures is None:
        return boxed
    failed = counts.failures
    failures = FailureCounts({**failed.nodes, BOX: _total(failed.edges, hops)}, _with_sums(failed.edges, hops))
    return replace(boxed, failures=failures)


def _with_sums(counts: Mapping[Hop, int], hops: set[Hop]) -> dict[Hop, int]:
    found = dict(counts)
    for source, target in hops:
        found[BOX, target] = found.get((BOX, target), 0) + found.get((source, target), 0)
    return found


def _total(counts: Mapping[Hop, int], hops: set[Hop]) -> int:
    return sum(counts.get(hop, 0) for hop in hops)
