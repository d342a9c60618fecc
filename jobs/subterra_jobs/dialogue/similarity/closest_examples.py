"""Similarity of words to the author's examples of each step, by sentence vectors.

Values are masked in examples and words, so that similarity is about what is said and not about whom it concerns.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import TYPE_CHECKING

from subterra_api.unicode_forms import alike
from subterra_api.v1alpha1.procedure import Role
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import render, split, variables_of
from subterra_jobs.dialogue.scripted import agent_templates

if TYPE_CHECKING:  # the command line, which has no numpy, reads labels too
    from subterra_jobs.dialogue.similarity.sentence_encoder import Encoder, Vectors

MARGIN = 0.15
"""Words may be any step whose similarity is at most this much below the highest."""
FLOORS: Mapping[Role, float] = {"agent": 0.35, "user": 0.25}
"""Similarity of the closest example below which a turn takes no step."""
MAX_CHAIN = 4
"""Agent nodes in a row that one reply may utter."""
MAX_CHAINS = 2000
REPLY_LIMIT = 2000
"""Longer replies are not recognized: the model got stuck, and matching them could be slow."""
_MAX_COMBINATIONS = 64
"""Combinations of examples of a sequence of nodes."""

Nodes = tuple[str, ...]


@dataclass(frozen=True)
class CandidateLabel:
    """A candidate label of a turn: the nodes it utters, and where a customer's decision leads, or `None` if unstated."""

    nodes: Nodes
    to: str | None = None


Similarities = Mapping[CandidateLabel, float]
Templates = frozenset[str]


def near(similarities: Similarities, role: Role) -> list[CandidateLabel]:
    """The labels that the words may have, the most similar first; none for words that are like no example."""
    best = max(similarities.values(), default=-1.0)
    return [label for label, similarity in similarities.items() if best >= FLOORS[role] and similarity >= best - MARGIN]


@dataclass(frozen=True)
class _Example:
    """Words of the author that take the label's steps: a template per node."""

    label: CandidateLabel
    templates: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.templates)


class ExampleIndex:
    """The examples of one speaker and their vectors."""

    def __init__(self, graph: Graph, role: Role, encoder: "Encoder") -> None:
        self._examples, self._encoder = [*_examples(graph, role)], encoder
        self._vectors: Vectors | None = None

    def similarities(self, vector: "Vectors", without: Templates = frozenset()) -> Similarities:
        """Similarity of each label's closest example, the highest first, without examples that have one of these templates."""
        if self._vectors is None:
            self._vectors = self._encoder.encode([_masked_template(example.text) for example in self._examples])
        found: dict[CandidateLabel, float] = {}
        for example, similarity in zip(self._examples, self._vectors @ vector, strict=True) if len(self._vectors) else ():
            if not without.intersection(example.templates):
                found[example.label] = max(float(similarity), found.get(example.label, -1.0))
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def sources(self, text: str, values: Mapping[str, str]) -> Templates:
        """Templates of the examples that this text was rendered from."""
        return frozenset(
            template for example in self._examples if _is_rendered(example.text, values, text) for template in example.templates
        )


def templates_of(graph: Graph, node_id: str, taken: str | None) -> tuple[str, ...]:
    """The author's words for a node on the way to `taken`; the prompt of an agent's node too, since its examples are few."""
    node, edge = graph.nodes[node_id], graph.edge(node_id, taken)
    if node.role == "tool":
        return agent_templates(node)
    if node.role == "agent":
        return (*agent_templates(node), node.prompt)
    if edge is not None and graph.leaves(node_id, taken):
        return edge.examples or (edge.when or "",)
    return (edge.examples if edge else ()) or node.examples or ((edge.when if edge else None) or node.prompt,)


def _is_rendered(template: str, values: Mapping[str, str], text: str) -> bool:
    return all(name in values for name in variables_of(template)) and render(template, values) == text


def _masked_template(template: str) -> str:
    """The template with the names of variables as words, as `masked` leaves a turn."""
    return " ".join(alike("".join(split(template))).split())


def _examples(graph: Graph, role: Role) -> Iterator[_Example]:
    """Examples of all nodes of a speaker, and of sequences that one turn may utter."""
    for chain in islice(_chains(graph, role), MAX_CHAINS):
        ways = [edge.to for edge in graph.nodes[chain[-1]].next if graph.nodes[edge.to].speaker != role]
        ways += [edge.to for edge in graph.anywhere.get(chain[-1], ())]
        ends: Sequence[str | None] = ways or [None] if role == "user" else [None]
        for to in ends:
            texts = [templates_of(graph, node, taken) for node, taken in zip(chain, [*chain[1:], to], strict=True)]
            for combination in islice(product(*texts), _MAX_COMBINATIONS):
                yield _Example(CandidateLabel(chain, to), combination)


def may_grow(graph: Graph, chain: Nodes) -> bool:
    """Whether one reply may utter a further node after these. Calls of tools are no utterances; they have a limit too."""
    spoken = sum(graph.nodes[node].role != "tool" for node in chain)
    return spoken < MAX_CHAIN and len(chain) < 2 * MAX_CHAIN


def _chains(graph: Graph, role: Role) -> Iterator[tuple[str, ...]]:
    waiting: list[tuple[str, ...]] = [(node.id,) for node in graph.spec.nodes if node.speaker == role]
    for chain in waiting:
        yield chain
        if may_grow(graph, chain):
            waiting += [(*chain, edge.to) for edge in graph.nodes[chain[-1]].next if graph.nodes[edge.to].speaker == role]
