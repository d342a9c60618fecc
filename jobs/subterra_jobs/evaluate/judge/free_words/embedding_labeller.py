"""Embedding labeller: the steps that free words take, by the most similar examples of the author. Free, and on this machine.

Values are masked in examples and turns, so that similarity is about what is said and not about whom it concerns. A reply that the
rules recognize keeps their label. For the others the similarities are the evidence and the flowchart decides, so that an unlikely
step is believed only when the words are clearly closer to it than to the step that is due.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from subterra_api.v1alpha1.procedure import Role
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import variables_of
from subterra_jobs.dialogue.similarity.closest_examples import (
    FLOORS,
    REPLY_LIMIT,
    CandidateLabel,
    ExampleIndex,
    Similarities,
    Templates,
    near,
    templates_of,
)
from subterra_jobs.dialogue.similarity.mentioned_values import masked, mentioned_values
from subterra_jobs.dialogue.similarity.sentence_encoder import MODEL, Encoder, SentenceEncoder
from subterra_jobs.evaluate.judge.alignment import MISLABELLED_COST, Alignment, LabelledTurn, align
from subterra_jobs.evaluate.judge.free_words.llm_labeller import ROLES, draw_gold_conversations, labelling_accuracy
from subterra_jobs.evaluate.judge.results import Accuracy, JudgingQuality
from subterra_jobs.evaluate.judge.rule_labeller import Label, Labeller, RuleLabeller
from subterra_jobs.evaluate.simulate.vllm_client import ChatMessages

COST_PER_SIMILARITY = 8
"""Cost in an alignment of a label that is less similar than the most similar one, per difference in similarity."""


def make_labeller(graph: Graph, models: Path) -> Labeller:
    """The labeller of agents' free words: by embeddings if the encoder is in the folder `models`, else by rules.

    Raises InvalidInputError for an agent node without examples, and for an encoder whose files are not complete.
    """
    folder = models / MODEL
    return EmbeddingLabeller(graph, SentenceEncoder(folder)) if folder.is_dir() else RuleLabeller(graph)


def labelling_quality(labeller: Labeller, dataset: Path | None, seed: int) -> JudgingQuality:
    """The labeller's name, and its accuracy if it goes by similarity and there is a dataset to measure it on."""
    accuracy = labeller.accuracy(dataset, seed) if dataset is not None and isinstance(labeller, EmbeddingLabeller) else None
    return JudgingQuality(labeller=labeller.name, accuracy=accuracy)


class EmbeddingLabeller:
    """Labels turns of one procedure's conversations. Raises InvalidInputError for an agent node without examples."""

    def __init__(self, graph: Graph, encoder: Encoder) -> None:
        self._graph, self._encoder, self._rules = graph, encoder, RuleLabeller(graph)
        self._variables = {variable.name: variable for variable in graph.spec.variables}
        self._indexes = {role: ExampleIndex(graph, role, encoder) for role in FLOORS}
        self.name = f"rules, and {encoder.name} for words that they do not recognize"

    def label(self, reply: str, values: Mapping[str, str]) -> list[Label]:
        """The likeliest labels of a reply, the most similar first; empty when it is like no example.

        Several steps may be similar; held against a path (`replay`), the reply is wrong only if the due step is not among them.
        """
        return self._rules.label(reply) or self.nearest(reply, values)

    def nearest(self, reply: str, values: Mapping[str, str], without: Templates = frozenset()) -> list[Label]:
        """The labels by similarity alone, without the help of some templates."""
        found = self._similarities("agent", reply, values, without)
        return [Label(label.nodes, self._slots(label, reply, values)) for label in near(found, "agent")]

    def labels(self, replies: Sequence[str], values: Mapping[str, str]) -> list[list[Label]]:
        """See `Labeller`."""
        recognized = {reply: self._rules.label(reply) for reply in replies}
        unknown = [masked(reply[:REPLY_LIMIT], values) for reply, found in recognized.items() if not found]
        self._encoder.encode(unknown)  # one batch; the encoder keeps the vectors
        return [recognized[reply] or self.nearest(reply, values) for reply in replies]

    def align(self, chat: ChatMessages, values: Mapping[str, str], left_out: Sequence[Templates] | None = None) -> Alignment:
        """The cheapest alignment of a conversation whose path is unknown, by similarities alone, without rules.

        `left_out` has templates for each turn that must not help to label it.
        """
        return align(self._graph, values, self.turns(chat, values, left_out))

    def turns(
        self, chat: ChatMessages, values: Mapping[str, str], left_out: Sequence[Templates] | None = None
    ) -> list[LabelledTurn]:
        """The turns with their candidates, each by its own words alone."""
        self._encoder.encode([masked(message["content"][:REPLY_LIMIT], values) for message in chat])
        pairs = zip(chat, left_out or [Templates()] * len(chat), strict=True)
        return [self._turn(message, values, without) for message, without in pairs]

    def accuracy(self, dataset: Path, seed: int) -> Accuracy:
        """Accuracy of the embeddings on held-out conversations of the dataset, whose steps are known.

        Leave-one-out: the phrasing that a turn was made from does not help to label it, since equal words are what rules are for.
        """
        known = draw_gold_conversations(dataset, seed)
        alignments = [self.align(gold.chat, gold.values, self.sources(gold.chat, gold.values)) for gold in known]
        return labelling_accuracy(known, alignments)

    def sources(self, chat: ChatMessages, values: Mapping[str, str]) -> list[Templates]:
        """For each turn the author's templates that it was rendered from; none for words of its own."""
        return [self._indexes[ROLES[message["role"]]].sources(message["content"], values) for message in chat]

    def _turn(self, message: Mapping[str, str], values: Mapping[str, str], without: Templates) -> LabelledTurn:
        role = ROLES[message["role"]]
        return candidates_of(role, self._similarities(role, message["content"], values, without))

    def _similarities(self, role: Role, text: str, values: Mapping[str, str], without: Templates = frozenset()) -> Similarities:
        """Similarity of each label's closest example, the highest first."""
        text = masked(text[:REPLY_LIMIT], values)
        if not text:
            return {}
        return self._indexes[role].similarities(self._encoder.encode([text])[0], without)

    def _slots(self, label: CandidateLabel, reply: str, values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """Values in the reply, of the variables that the label's nodes mention."""
        templates = [text for node in label.nodes for text in templates_of(self._graph, node, None)]
        names = dict.fromkeys(name for text in templates for name in variables_of(text))
        return mentioned_values(reply, [self._variables[name] for name in names if name in self._variables], values)


def candidates_of(role: Role, similarities: Similarities) -> LabelledTurn:
    """The turn with all labels as candidates at the cost of their distance from the most similar one; none below the floor."""
    best = max(similarities.values(), default=-1.0)
    if best < FLOORS[role]:
        return LabelledTurn(role)
    limit = MISLABELLED_COST if role == "user" else math.inf  # however far: no dearer than to overrule the customer's words
    costs = tuple(min(limit, COST_PER_SIMILARITY * (best - similarity)) for similarity in similarities.values())
    return LabelledTurn(role, tuple(similarities), costs)
