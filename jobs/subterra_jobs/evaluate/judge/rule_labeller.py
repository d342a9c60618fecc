"""The rule-based labeller: says which nodes of the procedure an agent's reply utters, and with which values.

Every agent node's wordings become one regular expression, with a group for each variable. Where agent nodes follow each other,
a reply may utter several of them, joined by a space.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.scripted import agent_wordings
from subterra_jobs.dialogue.wording_patterns import Pattern, longest_value, pattern
from subterra_jobs.errors import InvalidInputError

CHAIN = 4
"""Agent nodes in a row that one reply may utter."""
CHAINS = 2000
REPLY_LIMIT = 2000
"""Longer replies are not recognised: the model got stuck, and matching them could take long."""

Slots = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Label:
    """One way to read a reply: the nodes it utters and the values it repeats, in order."""

    nodes: tuple[str, ...]
    slots: Slots


_Known = tuple[tuple[str, ...], Pattern]
"""A sequence of nodes, and one way to say all of them."""


class Labeller:
    """Recognises the agent's wordings of one procedure."""

    def __init__(self, graph: Graph) -> None:
        limit = longest_value(graph.spec)
        self._known = [known for chain in _chains(graph) for known in _patterns(graph, chain, limit)]

    def label(self, reply: str) -> list[Label]:
        """The likeliest readings of a reply, several where nodes share a wording; empty when it is not recognised."""
        text = " ".join(reply.split())
        if len(text) > REPLY_LIMIT:
            return []
        found = [(nodes, p, match) for nodes, p in self._known if (match := p.regex.fullmatch(text))]
        best = max((p.literal for _, p, _ in found), default=0)
        sure = [(nodes, zip(p.variables, match.groups(), strict=True)) for nodes, p, match in found if p.literal == best]
        return [Label(nodes, tuple(slots)) for nodes, slots in sure]


def _chains(graph: Graph) -> Iterator[tuple[str, ...]]:
    """Agent nodes one reply may utter: each alone, and those that follow each other."""
    waiting: list[tuple[str, ...]] = [(node.id,) for node in graph.spec.nodes if node.role == "agent"]
    for _ in range(CHAINS):
        if not waiting:
            return
        chain = waiting.pop(0)
        yield chain
        following = [edge.to for edge in graph.nodes[chain[-1]].next if graph.nodes[edge.to].role == "agent"]
        if len(chain) < CHAIN:
            waiting += [(*chain, node) for node in following]


def _patterns(graph: Graph, chain: tuple[str, ...], limit: int) -> Iterator[_Known]:
    """One pattern per combination of wordings, up to a bound that only strange procedures reach."""
    texts = [""]
    for node_id in chain:
        found = agent_wordings(graph.nodes[node_id])
        if not found:
            raise InvalidInputError(f"node {node_id} has no examples, which the rule judge needs; add some, or use another judge")
        texts = [f"{text} {wording}".strip() for text in texts for wording in found][:CHAINS]
    for text in texts:
        yield chain, pattern(text, limit)
