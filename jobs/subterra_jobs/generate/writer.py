"""Writes one conversation turn by turn, with whatever teacher there is."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from subterra_api.graph import Graph
from subterra_jobs.common import scripted
from subterra_jobs.common.errors import InvalidInputError
from subterra_jobs.common.scenarios import system_message
from subterra_jobs.common.scripted import Utterance
from subterra_jobs.generate.checks import Checker, conversation_fault, form_fault
from subterra_jobs.generate.pilot import Decision
from subterra_jobs.generate.plan import Slot

REWRITES = 2
"""How often a paid teacher may try a bad turn again before the conversation is dropped."""


class BadTurnError(Exception):
    """The teacher answered, but not with a usable turn."""


class Teacher(Protocol):
    """Who writes the words."""

    paid: bool
    """Whether words cost money: then they are saved turn by turn, and bad ones are written again."""

    async def say(self, slot: Slot, position: int, said: Sequence[Utterance]) -> str:
        """The words of the path's node at ``position``. Raises BadTurnError, or a StageError when there is no going on."""
        ...

    async def guess(self, slot: Slot, decision: Decision, said: Sequence[Utterance]) -> str:
        """The node to which a blind reader of what was said so far would go on; empty when the words name no way."""
        ...

    async def close(self) -> None:
        """Gives back connections."""
        ...


@dataclass(frozen=True)
class Conversation:
    """How far a slot is. ``dropped`` says why it is unfit."""

    slot: Slot
    said: tuple[Utterance, ...] = ()
    dropped: str | None = None
    guesses: tuple[str, ...] = ()
    """What the blind reader made of each decision of ``slot.audited``."""

    @property
    def written(self) -> bool:
        return len(self.said) == len(self.slot.path)

    @property
    def finished(self) -> bool:
        return self.dropped is not None or (self.written and len(self.guesses) == len(self.slot.audited))


Keep = Callable[[Conversation], Awaitable[None]]


class Writer:
    """Takes conversations to their end."""

    def __init__(self, graph: Graph, teacher: Teacher) -> None:
        self._graph, self._teacher = graph, teacher
        self._check = Checker(graph)

    async def finish(self, conversation: Conversation, keep: Keep) -> Conversation:
        """The finished conversation; ``keep`` is awaited after each turn, so that paid words are never lost."""
        while not conversation.finished:
            step = self._read if conversation.written else self._write
            conversation = await step(conversation)
            await keep(conversation)
        return conversation

    async def _write(self, conversation: Conversation) -> Conversation:
        """One turn more, or dropped."""
        slot, position = conversation.slot, len(conversation.said)
        try:
            text = await self._turn(slot, position, conversation.said)
        except BadTurnError as error:
            return replace(conversation, dropped=f"node {slot.path[position]} {error}")
        longer = replace(conversation, said=(*conversation.said, self._utterance(slot, position, text)))
        return replace(longer, dropped=conversation_fault(messages(self._graph, longer))) if longer.written else longer

    async def _read(self, conversation: Conversation) -> Conversation:
        """One guess of the blind reader more. It sees nothing of what came after the decision."""
        decision = conversation.slot.audited[len(conversation.guesses)]
        try:
            guess = await self._teacher.guess(conversation.slot, decision, conversation.said[: decision.position + 1])
        except BadTurnError:
            guess = ""
        return replace(conversation, guesses=(*conversation.guesses, guess))

    async def _turn(self, slot: Slot, position: int, said: Sequence[Utterance]) -> str:
        fault = "says nothing"
        for _ in range(1 + REWRITES if self._teacher.paid else 1):
            try:
                text = " ".join((await self._teacher.say(slot, position, said)).split())
            except BadTurnError as error:
                fault = str(error)
                continue
            found = self._check.turn(slot, position, said, text) if self._teacher.paid else form_fault(text)
            if found is None:
                return text
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
