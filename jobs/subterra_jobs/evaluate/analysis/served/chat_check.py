"""What one more reply of a served conversation shows: where the customer decided, whether the reply decides the conversation, what
it asserts. Pure but for the encoder.

Each record is judged by itself, up to its reply, and counts only what is new since the reply before it. So every decision and every
outcome counts in one record alone, whichever pod has answered, and a sample of records is a fair sample of all three.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.analysis.served.recorded_chat import Chat
from subterra_jobs.evaluate.analysis.served.turn_reader import TurnReader, is_near
from subterra_jobs.evaluate.judge.alignment import Alignment, LabelledTurn, align
from subterra_jobs.evaluate.judge.conformance import Replay, prescribed_turns, replay
from subterra_jobs.evaluate.judge.fabrication import ReplyReader
from subterra_jobs.evaluate.judge.rule_labeller import Labeller
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.conversation import Conversation

Outcome = Literal["conformant", "violation"]
_REMEMBERED = 512
"""Conversations whose alignment is remembered: the next record of each begins with it."""


@dataclass(frozen=True)
class Assertions:
    """Values in one reply, and how many of them nobody had given."""

    asserted: int = 0
    fabricated: int = 0


@dataclass(frozen=True)
class Finding:
    """What a record's reply, and the customer's turn before it, show. `steps` has the nodes of every turn."""

    steps: tuple[tuple[str, ...], ...] = ()
    hub: str | None = None
    """The hub at which the customer decided before the reply."""
    recognized: bool = True
    """Whether the words there are like an example of a way on."""
    outcome: Outcome | None = None
    """What the reply decided; `None` if nothing, or if it had been decided before."""
    wrong_at: str | None = None
    """The customer's node before the first wrong reply, or `start`."""
    ending: str | None = None
    """The terminal that the reply came to."""
    values: Assertions = Assertions()


@dataclass(frozen=True)
class _Read:
    """A conversation without what the flowchart has no place for, aligned with it."""

    chat: Chat
    turns: Sequence[LabelledTurn]
    alignment: Alignment
    outcome: Outcome | None
    wrong_at: str | None


class ChatCheck:
    """Checks conversations of one procedure. Raises InvalidInputError for an agent node without examples."""

    def __init__(self, graph: Graph, labeller: Labeller) -> None:
        self._graph, self._reader = graph, TurnReader(graph, labeller)
        self._replies = ReplyReader(graph)
        self._dates = [variable.name for variable in graph.spec.variables if variable.type == "dateRange"]
        self._results = {variable.name for variable in graph.spec.variables if variable.visibility == "result"}
        self._known: OrderedDict[tuple[str, ...], _Read] = OrderedDict()

    def check(self, chat: Chat) -> Finding:
        """What the last reply adds."""
        values = self._assertions(chat)
        now, before = self._read(chat), self._read(chat.before)
        labels = now.alignment.turns
        steps = tuple(label.nodes if label else () for label in labels)
        if len(now.chat.turns) == len(before.chat.turns):  # the exchange has no place in the flowchart
            return Finding(steps, values=values)
        hub, recognized = self._decision(now)
        decided = now.outcome if before.outcome is None else None
        return Finding(
            steps=steps,
            hub=hub,
            recognized=recognized,
            outcome=decided,
            wrong_at=now.wrong_at if decided == "violation" else None,
            ending=self._new_ending(steps, len(before.chat.turns)),
            values=values,
        )

    def _read(self, chat: Chat) -> _Read:
        if chat.key not in self._known:
            self._known[chat.key] = self._aligned(self._reader.within_the_procedure(chat))
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return self._known[chat.key]

    def _aligned(self, chat: Chat) -> _Read:
        turns = self._reader.turns(chat)
        alignment = align(self._graph, self._reader.facts(chat), turns)
        replayed = replay(self._graph, alignment.path, {}, alignment.labels)
        outcome, wrong_at = self._outcome(replayed, alignment, chat)
        return _Read(chat, turns, alignment, outcome, wrong_at)

    def _outcome(self, replayed: Replay, alignment: Alignment, chat: Chat) -> tuple[Outcome | None, str | None]:
        """What is decided, and where the first wrong reply was; nothing while every reply so far is right."""
        wrong = replayed.violation
        if wrong is not None and wrong.turn < replayed.labelled:
            return "violation", wrong.hub
        if _has_unlike_reply(chat, alignment):
            due = prescribed_turns(self._graph, alignment.path)
            return "violation", due[min(replayed.labelled, len(due) - 1)].hub if due else "start"
        return ("conformant", None) if replayed.conformant and chat.turns else (None, None)

    def _decision(self, read: _Read) -> tuple[str | None, bool]:
        """The hub at which the customer decided before the last reply, and whether the words are like an example there."""
        asked = len(read.turns) - 2
        if asked < 0 or read.turns[asked].role != "user":
            return None, True
        node = self._customer_node(read.alignment, asked)
        if node is None or len(self._graph.nodes[node].next) < 2:
            return None, True
        leaving = any(self._graph.leaves(label.nodes[-1], label.to) for _, label in read.turns[asked].with_costs()[:1])
        return node, leaving or is_near(read.turns[asked], node)

    def _customer_node(self, alignment: Alignment, index: int) -> str | None:
        """The node of a customer's turn. One that took no step is where the agent's turn before it leads, if that is one node."""
        label = alignment.turns[index]
        if label is not None:
            return label.nodes[-1]
        before = next((each for each in reversed(alignment.turns[:index]) if each is not None), None)
        following = {edge.to for edge in self._graph.nodes[before.nodes[-1]].next} if before else set()
        if len(following) != 1:
            return None
        (only,) = following
        return only if self._graph.nodes[only].speaker == "user" else None

    def _new_ending(self, steps: Sequence[Sequence[str]], known: int) -> str | None:
        """The terminal that turns from `known` on came to, unless the conversation had come to one before."""
        ends = [(index, node) for index, nodes in enumerate(steps) for node in nodes if not self._graph.nodes[node].next]
        return ends[0][1] if ends and ends[0][0] >= known else None

    def _assertions(self, chat: Chat) -> Assertions:
        """Values in the last reply. What a tool has returned is not known here, so its values do not count."""
        said = "\n".join(turn["content"] for turn in chat.turns if turn["role"] == "user")
        known = dict.fromkeys(self._dates, said) | self._reader.context(chat)  # dates are compared by their parts
        scenario = Scenario("", False, (), known, None, (), False)
        last = sum(turn["role"] == "assistant" for turn in chat.turns) - 1
        found = [
            each
            for each in self._replies.assertions(scenario, Conversation(tuple(dict(turn) for turn in chat.turns), ()))
            if each.turn == last and each.variable not in self._results
        ]
        return Assertions(len(found), sum(not each.given for each in found))


def _has_unlike_reply(chat: Chat, alignment: Alignment) -> bool:
    """Whether a reply took no step although the customer's turn before it did."""
    for index, (turn, label) in enumerate(zip(chat.turns, alignment.turns, strict=True)):
        if turn["role"] == "assistant" and label is None and (index == 0 or alignment.turns[index - 1] is not None):
            return True
    return False
