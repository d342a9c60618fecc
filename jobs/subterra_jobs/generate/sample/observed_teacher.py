"""A teacher that also records which of its turns were refused by the checks, and why."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.detours import Detour
from subterra_jobs.generate.check.frame_leaks import FrameChecker
from subterra_jobs.generate.check.grounding import procedure_texts
from subterra_jobs.generate.check.turn_checks import TurnChecker
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.pilot import BranchDecision
from subterra_jobs.generate.write.writer import BadTurnError, Teacher, TeacherReply
from subterra_jobs.generate.written_conversation import Conversation


@dataclass(frozen=True)
class RefusedTurn:
    """Words of a teacher that the checks refused, so that the turn was written again or its conversation dropped."""

    node: str
    attempt: int
    """From 1."""
    problem: str
    text: str
    """Empty if the response held no usable text."""
    frame_leak: bool
    """True if the model spoke about itself or in its own format."""


class ObservedTeacher:
    """The same words as those of `teacher`. Checks are pure, so they find here what they found in the writer."""

    def __init__(self, graph: Graph, teacher: Teacher, on_reply: Callable[[], None]) -> None:
        """`on_reply` is called after every reply."""
        self.costs_money = teacher.costs_money
        self._teacher, self._on_reply = teacher, on_reply
        self._checker, self._frame = TurnChecker(graph), FrameChecker(" ".join(procedure_texts(graph.spec)))
        self._refused: defaultdict[str, list[RefusedTurn]] = defaultdict(list)

    def refused(self, conversation_id: str) -> tuple[RefusedTurn, ...]:
        """What the checks refused in a conversation, in the order of writing."""
        return tuple(self._refused[conversation_id])

    async def write_turn(self, conversation: Conversation, attempt: int) -> TeacherReply:
        """See `Teacher`."""
        try:
            reply = await self._teacher.write_turn(conversation, attempt)
        except BadTurnError as error:
            self._record(conversation, attempt, str(error), "")
            raise
        text = " ".join(reply.text.split())
        if self.costs_money and (problem := self._problem(conversation, text)):
            self._record(conversation, attempt, problem, text)
        self._on_reply()
        return reply

    async def write_aside(self, conversation: Conversation, customer: str | None, attempt: int) -> TeacherReply:
        """See `Teacher`."""
        reply = await self._teacher.write_aside(conversation, customer, attempt)
        self._on_reply()
        return reply

    async def write_question(self, conversation: Conversation, attempt: int) -> TeacherReply:
        """See `Teacher`."""
        reply = await self._teacher.write_question(conversation, attempt)
        self._on_reply()
        return reply

    async def guess_branch(self, conversation: Conversation, decision: BranchDecision) -> TeacherReply:
        """See `Teacher`."""
        reply = await self._teacher.guess_branch(conversation, decision)
        self._on_reply()
        return reply

    def detour(self, spec: ConversationSpec) -> Detour | None:
        """See `Teacher`."""
        return self._teacher.detour(spec)

    async def close(self) -> None:
        """See `Teacher`."""
        await self._teacher.close()

    def _problem(self, conversation: Conversation, text: str) -> str | None:
        return self._checker.turn(conversation.spec, len(conversation.utterances), conversation.utterances, text)

    def _record(self, conversation: Conversation, attempt: int, problem: str, text: str) -> None:
        node = conversation.spec.path[len(conversation.utterances)]
        leak = self._frame.problem(text) is not None
        self._refused[conversation.spec.id].append(RefusedTurn(node, attempt + 1, problem, text, leak))
