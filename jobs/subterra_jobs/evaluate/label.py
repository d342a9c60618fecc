"""The rule-based labeller: says which nodes of the procedure an agent's reply utters, and with which values.

Every agent node's wordings become one regular expression, with a group for each variable. Where agent nodes follow each other,
a reply may utter several of them, joined by a space.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from subterra_api.graph import Graph
from subterra_api.template import split
from subterra_api.v1alpha1.procedure import Node
from subterra_jobs.common.errors import InvalidInputError

CHAIN = 4
"""Agent nodes in a row that one reply may utter."""
CHAINS = 2000
SLOT_LIMIT = 80
REPLY_LIMIT = 2000
"""Longer replies are not recognised: the model got stuck, and matching them could take long."""

Slots = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Label:
    """One way to read a reply: the nodes it utters and the values it repeats, in order."""

    nodes: tuple[str, ...]
    slots: Slots


@dataclass(frozen=True)
class _Pattern:
    """One sequence of wordings. ``literal`` is the number of fixed characters: the more, the surer the match."""

    nodes: tuple[str, ...]
    regex: re.Pattern[str]
    variables: tuple[str, ...]
    literal: int


class Labeller:
    """Recognises the agent's wordings of one procedure."""

    def __init__(self, graph: Graph) -> None:
        lengths = [len(value) for variable in graph.spec.variables for value in variable.values]
        limit = max([SLOT_LIMIT, *(2 * length for length in lengths)])
        self._patterns = [pattern for chain in _chains(graph) for pattern in _patterns(graph, chain, limit)]

    def label(self, reply: str) -> list[Label]:
        """The likeliest readings of a reply, several where nodes share a wording; empty when it is not recognised."""
        text = " ".join(reply.split())
        if len(text) > REPLY_LIMIT:
            return []
        found = [(p, match) for p in self._patterns if (match := p.regex.fullmatch(text))]
        best = max((pattern.literal for pattern, _ in found), default=0)
        return [Label(p.nodes, tuple(zip(p.variables, match.groups(), strict=True))) for p, match in found if p.literal == best]


def agent_wordings(node: Node) -> tuple[str, ...]:
    """All wordings of an agent node, those of its branches included."""
    return tuple(dict.fromkeys([*node.examples, *(text for edge in node.next for text in edge.examples)]))


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


def _patterns(graph: Graph, chain: tuple[str, ...], limit: int) -> Iterator[_Pattern]:
    """One pattern per combination of wordings, up to a bound that only strange procedures reach."""
    texts = [""]
    for node_id in chain:
        found = agent_wordings(graph.nodes[node_id])
        if not found:
            raise InvalidInputError(f"node {node_id} has no examples, which the rule judge needs; add some, or use another judge")
        texts = [f"{text} {wording}".strip() for text in texts for wording in found][:CHAINS]
    for text in texts:
        yield _pattern(chain, text, limit)


def _pattern(nodes: tuple[str, ...], text: str, limit: int) -> _Pattern:
    parts = split(" ".join(text.split()))
    literals, variables = parts[::2], tuple(parts[1::2])
    # Values are bounded and lazy, so that a hostile reply cannot make matching slow; (?!\s): no value starts with a space.
    slot = rf"((?!\s).{{1,{limit}}}?)"
    return _Pattern(nodes, re.compile(slot.join(map(re.escape, literals)), re.DOTALL), variables, sum(map(len, literals)))
