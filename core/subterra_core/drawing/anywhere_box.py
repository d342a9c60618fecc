"""What the customer may do at any turn, in drawings: a box of the anywhere edges and one of the questions, in place of an edge from
each of the customer's nodes. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from subterra_api.v1alpha1.procedure import AnywhereEdge, Edge, Node, ProcedureSpec
from subterra_core.drawing.graph_summary import FailureCounts, TraversalCounts
from subterra_core.procedure.anywhere import anywhere_edges_by_node
from subterra_core.procedure.graph import Hop

BOX = "(anywhere)"
"""Name of the box; no node can have it."""
QUESTIONS_BOX = "(questions)"
"""Name of the box of the questions, which has no edges: the conversation stays where it was."""
PROMPT = "At any turn of the customer."
_QUESTIONS_PROMPT = "At any turn of the customer; the agent answers and asks again."


def drawn_nodes(spec: ProcedureSpec) -> tuple[Node, ...]:
    """The nodes, and after them a box, if there are anywhere edges, and another one, if there are questions."""
    nodes = (*spec.nodes, *_leaving_box(spec), *_questions_box(spec))
    return nodes if len(nodes) > len(spec.nodes) else spec.nodes


def _leaving_box(spec: ProcedureSpec) -> tuple[Node, ...]:
    if not spec.anywhere:
        return ()
    edges = tuple(Edge.model_construct(to=each.to, when=anywhere_label(each), examples=each.examples) for each in spec.anywhere)
    prompt = PROMPT if len(edges) > 1 else f"{PROMPT} {edges[0].when}"
    return (Node.model_construct(id=BOX, role="user", prompt=prompt, next=edges),)


def _questions_box(spec: ProcedureSpec) -> tuple[Node, ...]:
    if not spec.questions:
        return ()
    texts = tuple(each.question + _exceptions(each.except_) for each in spec.questions)
    return (Node.model_construct(id=QUESTIONS_BOX, role="user", prompt=_QUESTIONS_PROMPT, examples=texts),)


def anywhere_label(edge: AnywhereEdge) -> str:
    """The condition of an anywhere edge, with its exceptions."""
    return edge.when + _exceptions(edge.except_)


def _exceptions(nodes: Sequence[str]) -> str:
    return f" (not at {', '.join(nodes)})" if nodes else ""


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
