"""Writes one conversation turn by turn, with whatever teacher there is."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue import scripted
from subterra_jobs.dialogue.sampling import system_message
from subterra_jobs.dialogue.scripted import Utterance
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.generate.check.turn_checks import Checker, conversation_fault, form_fault
from subterra_jobs.generate.conversation import Conversation
from subterra_jobs.generate.plan.pilot import Decision
from subterra_jobs.generate.plan.plan import Slot

REWRITES = 2
"""How often a paid teacher may try a bad turn again before the conversation is dropped."""


class BadTurnError(Exception):
    """The teacher answered, but not with a usable turn."""


@dataclass(frozen=True)
class Words:
    """What a teacher said. ``key`` names them and all that led to them; none where words cost nothing."""

    text: str
    key: str = ""
    reused: bool = False
    """Whether they were paid before."""


class Teacher(Protocol):
    """Who writes the words."""

    paid: bool
    """Whether words cost money: then they are kept for ever, and bad ones are written again."""

    async def say(self, so_far: Conversation, attempt: int) -> Words:
        """The words of the next node on the path. Raises BadTurnError, or a StageError when there is no going on."""
        ...

    async def guess(self, so_far: Conversation, decision: Decision) -> Words:
        """The node to which a blind reader of all up to the decision would go on; empty when the words name no way."""
        ...

    async def close(self) -> None:
        """Gives back connections."""
        ...


GoOn = Callable[[], None]


class Writer:
    """Takes conversations to their end."""

    def __init__(self, graph: Graph, teacher: Teacher) -> None:
        self._graph, self._teacher = graph, teacher
        self._check = Checker(graph)

    async def finish(self, conversation: Conversation, go_on: GoOn = lambda: None) -> Conversation:
        """The finished conversation; ``go_on`` is called before each turn, and may raise."""
        while not conversation.finished:
            go_on()
            step = self._read if conversation.written else self._write
            conversation = await step(conversation)
        return conversation

    async def _write(self, conversation: Conversation) -> Conversation:
        """One turn more, or dropped."""
        slot, position = conversation.slot, len(conversation.said)
        try:
            words = await self._turn(conversation)
        except BadTurnError as error:
            return replace(conversation, dropped=f"node {slot.path[position]} {error}")
        longer = replace(
            conversation, said=(*conversation.said, self._utterance(slot, position, words.text)),
            keys=(*conversation.keys, words.key), reused=conversation.reused + words.reused,
        )  # fmt: skip
        return replace(longer, dropped=conversation_fault(messages(self._graph, longer))) if longer.written else longer

    async def _read(self, conversation: Conversation) -> Conversation:
        """One guess of the blind reader more. It sees nothing of what came after the decision."""
        decision = conversation.slot.audited[len(conversation.guesses)]
        guess = await self._teacher.guess(conversation, decision)
        return replace(conversation, guesses=(*conversation.guesses, guess.text), reused=conversation.reused + guess.reused)

    async def _turn(self, conversation: Conversation) -> Words:
        slot, position, fault = conversation.slot, len(conversation.said), "says nothing"
        for attempt in range(1 + REWRITES if self._teacher.paid else 1):
            try:
                words = await self._teacher.say(conversation, attempt)
            except BadTurnError as error:
                fault = str(error)
                continue
            text = " ".join(words.text.split())
            found = self._check.turn(slot, position, conversation.said, text) if self._teacher.paid else form_fault(text)
            if found is None:
                return replace(words, text=text)
            fault = found
        if not self._teacher.paid:
            raise InvalidInputError(f"node {slot.path[position]}: an example {fault}; correct the examples")
        raise BadTurnError(fault)

    def _utterance(self, slot: Slot, position: int, text: str) -> Utterance:
        node, taken = slot.path[position], slot.path[position + 1 : position + 2]
        return Utterance(node, self._graph.nodes[node].role, text, taken[0] if taken else None)


def messages(graph: Graph, conversation: Conversation) -> list[dict[str, str]]:
    """The chat that is trained on."""
    slot, manner = conversation.slot, conversation.slot.manner
    system = system_message(graph.spec, slot.values)
    return scripted.messages(system, manner.opener, list(conversation.said), greeted=manner.greeted)
