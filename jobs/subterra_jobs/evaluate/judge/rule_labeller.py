"""Rule labeller: which nodes of the procedure an agent's reply utters, and with which values.

Each phrasing of an agent node becomes a regular expression with a group per variable. Where agent nodes follow each other, a reply
may utter several of them, joined by a space.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.scripted import agent_templates
from subterra_jobs.dialogue.similarity.closest_examples import MAX_CHAINS, REPLY_LIMIT, may_grow
from subterra_jobs.dialogue.similarity.mentioned_values import Slots
from subterra_jobs.dialogue.wording_patterns import Pattern, compile_pattern, max_value_length
from subterra_jobs.errors import InvalidInputError


@dataclass(frozen=True)
class Label:
    """A label of a reply: the nodes it utters and the values it repeats, in order."""

    nodes: tuple[str, ...]
    slots: Slots


_NodePattern = tuple[tuple[str, ...], Pattern]
"""A sequence of nodes and a pattern of one phrasing of all of them."""


class Labeller(Protocol):
    """Labels the agent's replies in a conversation whose path is known."""

    name: str
    """What the report says labelled the steps."""

    def labels(self, replies: Sequence[str], values: Mapping[str, str]) -> list[list[Label]]:
        """The likeliest labels of each reply; none for one that is not recognized. `values` are the customer's."""
        ...


class RuleLabeller:
    """Recognizes the agent phrasings of one procedure. Raises InvalidInputError for an agent node without examples."""

    name = "rules: words of its own count as unrecognized"

    def __init__(self, graph: Graph) -> None:
        limit = max_value_length(graph.spec)
        self._known = [known for chain in _chains(graph) for known in _patterns(graph, chain, limit)]

    def label(self, reply: str) -> list[Label]:
        """The likeliest labels of a reply, several where nodes share a phrasing; empty when it is not recognized."""
        text = " ".join(reply.split())
        if len(text) > REPLY_LIMIT:
            return []
        found = [(nodes, p, values) for nodes, p in self._known if (values := p.values(text)) is not None]
        best = max((p.literal for _, p, _ in found), default=0)
        sure = [(nodes, zip(p.variables, values, strict=True)) for nodes, p, values in found if p.literal == best]
        return [Label(nodes, tuple(slots)) for nodes, slots in sure]

    def labels(self, replies: Sequence[str], values: Mapping[str, str]) -> list[list[Label]]:
        """See `Labeller`: rules find values by their place in the phrasing."""
        return [self.label(reply) for reply in replies]


def _chains(graph: Graph) -> Iterator[tuple[str, ...]]:
    """Sequences of agent nodes that one reply may utter: each alone, and those that follow each other."""
    waiting: list[tuple[str, ...]] = [(node.id,) for node in graph.spec.nodes if node.speaker == "agent"]
    for _ in range(MAX_CHAINS):
        if not waiting:
            return
        chain = waiting.pop(0)
        yield chain
        following = [edge.to for edge in graph.nodes[chain[-1]].next if graph.nodes[edge.to].speaker == "agent"]
        if may_grow(graph, chain):
            waiting += [(*chain, node) for node in following]


def _patterns(graph: Graph, chain: tuple[str, ...], limit: int) -> Iterator[_NodePattern]:
    """One pattern per combination of phrasings, up to a bound that only unusual procedures reach."""
    texts = [""]
    for node_id in chain:
        found = agent_templates(graph.nodes[node_id])
        if not found:
            raise InvalidInputError(f"node {node_id} has no examples, which the rule judge needs; add some, or use another judge")
        texts = [f"{text} {wording}".strip() for text in texts for wording in found][:MAX_CHAINS]
    for text in texts:
        yield chain, compile_pattern(text, limit)
