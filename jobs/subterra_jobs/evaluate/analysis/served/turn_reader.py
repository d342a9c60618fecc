"""Which steps the turns of a conversation take whose customer nobody has invented: values and path are unknown.

The author's own words are recognized by their patterns, others by similarity if there is an encoder. Values are guessed from what
was said, so that similarity is not about them; only those of the system message are believed where they decide at a hub.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from subterra_api.unicode_forms import alike
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.detours import otherwise_kind
from subterra_jobs.dialogue.similarity.closest_examples import MARGIN, REPLY_LIMIT, CandidateLabel, templates_of
from subterra_jobs.dialogue.similarity.mentioned_values import mentioned_values
from subterra_jobs.dialogue.wording_patterns import Pattern, compile_pattern, max_value_length
from subterra_jobs.evaluate.analysis.served.recorded_chat import Chat
from subterra_jobs.evaluate.judge.alignment import LabelledTurn
from subterra_jobs.evaluate.judge.free_words.answers import AnswerReader
from subterra_jobs.evaluate.judge.free_words.embedding_labeller import COST_PER_SIMILARITY, EmbeddingLabeller
from subterra_jobs.evaluate.judge.free_words.llm_labeller import ROLES
from subterra_jobs.evaluate.judge.rule_labeller import Labeller, RuleLabeller

NEAR = MARGIN * COST_PER_SIMILARITY
"""Cost of a label that words may have although another one is the most similar."""


class TurnReader:
    """Reads turns of one procedure. Raises InvalidInputError for an agent node without examples."""

    def __init__(self, graph: Graph, labeller: Labeller) -> None:
        self._graph, self._rules, self._answers = graph, RuleLabeller(graph), AnswerReader(graph.spec)
        self._free_words = labeller if isinstance(labeller, EmbeddingLabeller) else None
        self._customers = [*_customer_patterns(graph)]
        self._listed = [variable for variable in graph.spec.variables if variable.values and not variable.open]
        self._context = {
            variable.name: {alike(value): value for value in variable.values}
            for variable in graph.spec.variables
            if variable.visibility == "context"
        }

    def context(self, chat: Chat) -> dict[str, str]:
        """Values that the system message gives, a line each."""
        lines = re.findall(r"^\s*([\w-]+):\s*(.+?)\s*$", chat.context, re.MULTILINE)
        return {name: value for name, value in lines if name in self._context}

    def facts(self, chat: Chat) -> dict[str, str]:
        """Those of them that the procedure lists, so that they can decide at a hub."""
        given = ((name, self._context[name].get(alike(value))) for name, value in self.context(chat).items())
        return {name: value for name, value in given if value is not None}

    def stated_values(self, chat: Chat) -> dict[str, str]:
        """Values that may be told to others: the system message's, those that the agent repeated, listed ones that were said.

        A value that several variables list may be any of theirs, so it counts for none.
        """
        counts = Counter(alike(value).casefold() for variable in self._listed for value in variable.values)
        guessed = self.guessed_values(chat)
        sure = self._repeated(chat) | self.context(chat)
        return {name: value for name, value in guessed.items() if name in sure or counts[alike(value).casefold()] == 1}

    def guessed_values(self, chat: Chat) -> dict[str, str]:
        """Values that the customer seems to have: listed ones that were said, and what the agent repeated in its place."""
        customer = " ".join(turn["content"] for turn in chat.turns if turn["role"] == "user")[: 4 * REPLY_LIMIT]
        said = dict(reversed(mentioned_values(customer, self._listed, {})))
        return said | self._repeated(chat) | self.context(chat)

    def _repeated(self, chat: Chat) -> dict[str, str]:
        """Values in the agent's replies, in their places in the author's words."""
        labelled = (self._rules.label(turn["content"]) for turn in chat.turns if turn["role"] == "assistant")
        return {name: value for labels in labelled if labels for name, value in labels[0].slots}

    def within_the_procedure(self, chat: Chat) -> Chat:
        """Without exchanges in which the agent says, in the author's words, that the flowchart has no place for them."""
        kept, previous = list[int](), ""
        for index, turn in enumerate(chat.turns):
            text = turn["content"]
            if turn["role"] == "assistant" and kept and chat.turns[kept[-1]]["role"] == "user" and self._is_aside(text, previous):
                kept.pop()
                continue
            kept.append(index)
            previous = text if turn["role"] == "assistant" else previous
        return Chat(tuple(chat.turns[index] for index in kept), chat.context)

    def turns(self, chat: Chat) -> list[LabelledTurn]:
        """Each turn with its candidates, by its own words alone."""
        found, values = [self._by_rules(turn) for turn in chat.turns], self.guessed_values(chat)
        if self._free_words is not None:
            unknown = [index for index, turn in enumerate(found) if not turn.candidates]
            free = self._free_words.turns([chat.turns[index] for index in unknown], values)
            for index, turn in zip(unknown, free, strict=True):
                found[index] = turn
        return found

    def _is_aside(self, reply: str, previous: str) -> bool:
        answers = bool(self._graph.spec.questions) and bool(self._answers.read(reply, previous).names)
        return answers or otherwise_kind(self._graph.spec, reply, previous) is not None

    def _by_rules(self, turn: Mapping[str, str]) -> LabelledTurn:
        role, text = ROLES[turn["role"]], turn["content"]
        if role == "agent":
            return LabelledTurn(role, tuple(CandidateLabel(label.nodes) for label in self._rules.label(text)))
        matching = [(pattern.literal, label) for pattern, label in self._customers if _matches(pattern, text)]
        best = max((literal for literal, _ in matching), default=0)
        labels = tuple(dict.fromkeys(label for literal, label in matching if literal == best))
        return LabelledTurn(role, labels, (0,) * len(labels))


def is_near(turn: LabelledTurn, hub: str) -> bool:
    """Whether the words may be a decision at this hub."""
    return any(cost <= NEAR and label.nodes[-1] == hub for cost, label in turn.with_costs())


def _customer_patterns(graph: Graph) -> list[tuple[Pattern, CandidateLabel]]:
    """The author's words for customers, with the way on that they take."""
    limit, found = max_value_length(graph.spec), list[tuple[Pattern, CandidateLabel]]()
    for node in graph.spec.nodes:
        if node.speaker != "user":
            continue
        ways: Sequence[str | None] = [edge.to for edge in (*node.next, *graph.anywhere.get(node.id, ()))] or [None]
        for to in ways:
            label = CandidateLabel((node.id,), to)
            found += [(compile_pattern(text, limit), label) for text in templates_of(graph, node.id, to)]
    return found


def _matches(pattern: Pattern, text: str) -> bool:
    return pattern.literal > 0 and len(text) <= REPLY_LIMIT and pattern.values(text) is not None
