"""Writes one conversation turn by turn with any teacher."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.detours import Detour, DetourKind, with_detours
from subterra_jobs.dialogue.questions import question_detour
from subterra_jobs.dialogue.sampling import system_message
from subterra_jobs.dialogue.scripted import Utterance, chat_messages, tool_utterance
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.generate.check.turn_checks import TurnChecker, conversation_problem, form_problem
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.pilot import BranchDecision
from subterra_jobs.generate.written_conversation import Conversation

MAX_REWRITES = 2
"""How often an LLM teacher may rewrite a bad turn before the conversation is dropped."""


class BadTurnError(Exception):
    """The teacher's response is not a usable turn."""


class HopelessTurnError(BadTurnError):
    """Writing the turn again would end in the same way, and may cost as much."""


@dataclass(frozen=True)
class TeacherReply:
    """A teacher's response."""

    text: str
    key: str = ""
    """Cache key of the response; empty if it costs nothing."""
    reused: bool = False
    """True if the response comes from the cache."""
    refused: tuple[str, ...] = ()
    """Problems of the replies that this one replaces."""


class Teacher(Protocol):
    """Writes turns and, as a blind reader, guesses branches."""

    costs_money: bool
    """True if responses are paid for: they are then cached, and bad turns are rewritten."""

    async def write_turn(self, conversation: Conversation, attempt: int) -> TeacherReply:
        """The words of the next node on the path. Raises BadTurnError, or a StageError if the stage cannot continue."""
        ...

    async def write_aside(self, conversation: Conversation, customer: str | None, attempt: int) -> TeacherReply:
        """The customer's words before a turn with a challenge, or what the agent asks once these are given. Raises as above."""
        ...

    async def write_question(self, conversation: Conversation, attempt: int) -> TeacherReply:
        """The customer's words for the next question in between. Raises as `write_turn`."""
        ...

    async def guess_branch(self, conversation: Conversation, decision: BranchDecision) -> TeacherReply:
        """The branch that a reader of the conversation up to the decision chooses; empty if the words name none."""
        ...

    def detour(self, spec: ConversationSpec) -> Detour | None:
        """An exchange beyond the flowchart for this conversation, if it gets one."""
        ...

    async def close(self) -> None:
        """Closes connections."""
        ...


class Writer:
    """Finishes conversations."""

    def __init__(self, graph: Graph, teacher: Teacher) -> None:
        self._graph, self._teacher = graph, teacher
        self._checker = TurnChecker(graph)

    async def finish(self, conversation: Conversation, raise_if_cancelled: Callable[[], None] = lambda: None) -> Conversation:
        """The finished conversation. ``raise_if_cancelled`` is called before each turn."""
        while not conversation.finished:
            raise_if_cancelled()
            conversation = await self._step(conversation)(conversation)
        return conversation

    def _step(self, conversation: Conversation) -> Callable[[Conversation], Awaitable[Conversation]]:
        if conversation.needs_question:
            return self._write_question
        if conversation.written:
            return self._guess_next
        return self._write_aside if conversation.needs_aside else self._write_next

    async def _write_next(self, conversation: Conversation) -> Conversation:
        """The conversation with one more turn, or dropped."""
        spec, position = conversation.spec, len(conversation.utterances)
        try:
            reply = await self._usable_reply(conversation) if self._speaks(spec, position) else _called(conversation)
        except BadTurnError as error:
            return replace(conversation, drop_reason=f"node {spec.path[position]} {error}")
        longer = replace(
            conversation,
            utterances=(*conversation.utterances, self._utterance(spec, position, reply.text)),
            turn_keys=(*conversation.turn_keys, reply.key),
            reused=conversation.reused + reply.reused,
            rewritten=(*conversation.rewritten, *_at_node(spec.path[position], reply)),
        )
        if not longer.written:
            return longer
        whole = replace(longer, detour=longer.detour or self._teacher.detour(spec))
        return replace(whole, drop_reason=conversation_problem(messages(self._graph, whole)))

    async def _write_aside(self, conversation: Conversation) -> Conversation:
        """The conversation with the exchange before its challenge, or dropped."""
        challenge, path = conversation.spec.customer.challenge, conversation.spec.path
        assert challenge is not None, "only a challenge has an aside"
        try:
            customer = await self._usable_aside(conversation, None)
            agent = await self._usable_aside(conversation, customer.text)
        except BadTurnError as error:
            return replace(conversation, drop_reason=f"node {path[challenge.position]} {error}")
        roles = [self._graph.nodes[node].role for node in path[: challenge.position]]
        at = sum(role == "user" and before != "user" for before, role in pairwise(["", *roles]))
        kind: DetourKind = "ambiguity" if challenge.kind == "ambiguity" else "contradiction"
        reused = conversation.reused + customer.reused + agent.reused
        rewritten = (*conversation.rewritten, *_at_node(path[challenge.position], customer, agent))
        detour = Detour(kind, at, customer.text, agent.text)
        return replace(conversation, detour=detour, reused=reused, rewritten=rewritten)

    async def _write_question(self, conversation: Conversation) -> Conversation:
        """The conversation with one more question in between, or dropped. The answer is the author's, whoever the teacher is."""
        spec, asked = conversation.spec, conversation.spec.asked[len(conversation.questions)]

        def write(attempt: int) -> Awaitable[TeacherReply]:
            return self._teacher.write_question(conversation, attempt)

        problem_of = self._checker.utterance if self._teacher.costs_money else form_problem
        try:
            reply = await _first_usable(write, problem_of, 1 + MAX_REWRITES)
        except BadTurnError as error:
            return replace(conversation, drop_reason=f"node {spec.path[asked.position]} {error}")
        rng = random.Random(f"{spec.id}:answer:{asked.name}")
        exchange = question_detour(self._graph, spec.path, asked, reply.text, rng)
        longer = replace(
            conversation,
            questions=(*conversation.questions, exchange),
            reused=conversation.reused + reply.reused,
            rewritten=(*conversation.rewritten, *_at_node(spec.path[asked.position], reply)),
        )
        return replace(longer, drop_reason=conversation_problem(messages(self._graph, longer)))

    async def _usable_aside(self, conversation: Conversation, customer: str | None) -> TeacherReply:
        """The first reply of the right form. Raises BadTurnError."""

        def write(attempt: int) -> Awaitable[TeacherReply]:
            return self._teacher.write_aside(conversation, customer, attempt)

        return await _first_usable(write, self._checker.utterance, 1 + MAX_REWRITES)

    async def _guess_next(self, conversation: Conversation) -> Conversation:
        """The conversation with one more guess of the blind reader, who sees nothing beyond the decision."""
        decision = conversation.spec.audited[len(conversation.guesses)]
        guess = await self._teacher.guess_branch(conversation, decision)
        return replace(conversation, guesses=(*conversation.guesses, guess.text), reused=conversation.reused + guess.reused)

    async def _usable_reply(self, conversation: Conversation) -> TeacherReply:
        """The first reply without a problem. Raises BadTurnError, or InvalidInputError for an author's own example."""

        def write(attempt: int) -> Awaitable[TeacherReply]:
            return self._teacher.write_turn(conversation, attempt)

        def problem(text: str) -> str | None:
            return self._problem(conversation, text)

        try:
            return await _first_usable(write, problem, 1 + MAX_REWRITES if self._teacher.costs_money else 1)
        except HopelessTurnError:
            raise
        except BadTurnError as error:
            if self._teacher.costs_money:
                raise
            node = conversation.spec.path[len(conversation.utterances)]
            raise InvalidInputError(f"node {node}: an example {error}; correct the examples") from None

    def _problem(self, conversation: Conversation, text: str) -> str | None:
        """The problem with the next turn; authors of examples may say what models may not."""
        if not self._teacher.costs_money:
            return form_problem(text)
        return self._checker.turn(conversation.spec, len(conversation.utterances), conversation.utterances, text)

    def _utterance(self, spec: ConversationSpec, position: int, text: str) -> Utterance:
        node, following = spec.path[position], spec.path[position + 1 : position + 2]
        taken = following[0] if following else None
        if not self._speaks(spec, position):
            return tool_utterance(self._graph, node, spec.values, taken)
        return Utterance(node, self._graph.nodes[node].speaker, text, taken)

    def _speaks(self, spec: ConversationSpec, position: int) -> bool:
        """Whether somebody says something there: calls of tools come from the plan, whoever writes the words."""
        return self._graph.nodes[spec.path[position]].role != "tool"


def _called(conversation: Conversation) -> TeacherReply:
    """In place of a reply where a tool is called. Later turns have the call in their prompts, and so in their keys."""
    return TeacherReply("", next(iter(conversation.turn_keys[-1:]), ""))


async def _first_usable(
    write: Callable[[int], Awaitable[TeacherReply]], problem_of: Callable[[str], str | None], attempts: int
) -> TeacherReply:
    """The first reply without a problem, on one line. Raises BadTurnError with the last problem."""
    problems: list[str] = []
    for attempt in range(attempts):
        try:
            reply = await write(attempt)
        except HopelessTurnError:
            raise
        except BadTurnError as error:
            problems.append(str(error))
            continue
        text = " ".join(reply.text.split())
        problem = problem_of(text)
        if problem is None:
            return replace(reply, text=text, refused=tuple(problems))
        problems.append(problem)
    raise BadTurnError(problems[-1])


def _at_node(node: str, *replies: TeacherReply) -> list[str]:
    """What was refused before these replies, in the form of drop reasons."""
    return [f"node {node} {problem}" for reply in replies for problem in reply.refused]


def messages(graph: Graph, conversation: Conversation) -> list[dict[str, str]]:
    """The conversation as chat messages for training."""
    spec, customer = conversation.spec, conversation.spec.customer
    system = system_message(graph.spec, spec.values)
    chat = chat_messages(system, customer.opener, list(conversation.utterances), greeted=customer.greeted)
    return with_detours(chat, conversation.detours, before_path=int(customer.opener is not None))
