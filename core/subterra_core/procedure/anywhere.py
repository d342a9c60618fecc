"""Edges that the customer may take at any of their turns (`spec.anywhere`), seen from the nodes. Pure.

At a node, an ordinary edge goes before an anywhere edge that leads to the same node, has the same condition or shares an example:
two edges that a customer takes with the same words could not be told apart.
"""

import re
from collections.abc import Iterator, Mapping

from subterra_api.unicode_forms import alike
from subterra_api.v1alpha1.procedure import Edge, Node, ProcedureSpec

LARGEST_SHARE = 0.5
"""Share of the conversations that take an anywhere edge, at most: the others show the procedure as it is drawn."""
_ARTICLES = frozenset({"a", "an", "the"})
_NEGATIONS = frozenset({"not", "no", "never", "without", "nicht", "kein", "keine", "pas"})
Words = tuple[str, ...]
"""What conditions or examples are compared by."""


def without_anywhere(spec: ProcedureSpec) -> ProcedureSpec:
    """The procedure as it is drawn, without its anywhere edges."""
    return spec.model_copy(update={"anywhere": ()})


def anywhere_edges_by_node(spec: ProcedureSpec) -> dict[str, tuple[Edge, ...]]:
    """For each customer's node with open anywhere edges, these edges, in the order of the list."""
    edges = [(each, Edge(to=each.to, when=each.when, examples=each.examples)) for each in spec.anywhere]
    found: dict[str, tuple[Edge, ...]] = {}
    for node, preferred in preferred_edges(spec):
        if open_here := tuple(edge for each, edge in edges if node.id not in each.except_ and each.to not in preferred):
            found[node.id] = open_here
    return found


def preferred_edges(spec: ProcedureSpec) -> Iterator[tuple[Node, dict[str, Edge]]]:
    """Each of the customer's nodes with the ordinary edges that go before anywhere edges there, by the targets of the latter."""
    if not spec.anywhere:
        return
    wanted = [(each.to, condition_words(each.when), frozenset(map(example_words, each.examples))) for each in spec.anywhere]
    for node in spec.nodes:
        if node.role == "user":
            own = _Wordings(node)
            yield node, {to: edge for to, words, said in wanted if (edge := own.like(to, words, said)) is not None}


class _Wordings:
    """What the ordinary edges of a node are known by."""

    def __init__(self, node: Node) -> None:
        self._targets = {edge.to: edge for edge in node.next}
        self._conditions = {condition_words(edge.when): edge for edge in node.next if edge.when}
        self._examples = {example_words(text): edge for edge in node.next for text in edge.examples or node.examples}

    def like(self, to: str, words: Words, said: frozenset[Words]) -> Edge | None:
        """The edge with this target, condition, or one of these examples; `None` if there is none."""
        common = min(said.intersection(self._examples), default=None)
        return self._targets.get(to) or self._conditions.get(words) or (self._examples[common] if common is not None else None)


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


def condition_words(text: str) -> Words:
    """Words by which conditions are compared, ignoring case, articles, punctuation and, unless one of them negates, order."""
    words = tuple(word for word in re.findall(r"\w+", alike(text).lower()) if word not in _ARTICLES)
    return words if _NEGATIONS.intersection(words) else tuple(sorted(set(words)))


def example_words(text: str) -> Words:
    """Words by which examples are compared, ignoring case, spaces, and forms of quotes and digits."""
    return tuple(alike(text).lower().split())
