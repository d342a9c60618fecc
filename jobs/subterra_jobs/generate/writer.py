"""Writes one conversation turn by turn, with whatever teacher there is."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from subterra_api.graph import Graph
from subterra_jobs.common import scripted
from subterra_jobs.common.errors import InvalidInputError
from subterra_jobs.common.scenarios import system_message
from subterra_jobs.common.scripted import Utterance
from subterra_jobs.generate.checks import Checker, conversation_fault
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

    async def close(self) -> None:
        """Gives back connections."""
        ...


@dataclass(frozen=True)
class Conversation:
    """How far a slot is. ``dropped`` says why it is unfit."""

    slot: Slot
    said: tuple[Utterance, ...] = ()
    dropped: str | None = None

    @property
    def finished(self) -> bool:
        return self.dropped is not None or len(self.said) == len(self.slot.path)


Keep = Callable[[Conversation], Awaitable[None]]


class Writer:
    """Takes conversations to their end."""

    def __init__(self, graph: Graph, teacher: Teacher) -> None:
        self._graph, self._teacher = graph, teacher
        self._check = Checker(graph.nodes)

    async def finish(self, conversation: Conversation, keep: Keep) -> Conversation:
        """The finished conversation; ``keep`` is awaited after each turn, so that paid words are never lost."""
        while not conversation.finished:
            position = len(conversation.said)
            try:
                text = await self._turn(conversation.slot, position, conversation.said)
            except BadTurnError as error:
                conversation = replace(conversation, dropped=f"node {conversation.slot.path[position]} {error}")
            else:
                conversation = replace(conversation, said=(*conversation.said, self._utterance(conversation.slot, position, text)))
            if conversation.finished and conversation.dropped is None:
                fault = conversation_fault(messages(self._graph, conversation))
                conversation = replace(conversation, dropped=fault)
            await keep(conversation)
        return conversation

    async def _turn(self, slot: Slot, position: int, said: Sequence[Utterance]) -> str:
        fault = "says nothing"
        for _ in range(1 + REWRITES if self._teacher.paid else 1):
            try:
                text = " ".join((await self._teacher.say(slot, position, said)).split())
            except BadTurnError as error:
                fault = str(error)
                continue
            found = self._check.utterance(text)
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
    return scripted.messages(system_message(graph.spec, slot.values), manner.opener, list(conversation.said), greeted=manner.greeted)
