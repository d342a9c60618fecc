"""The LLM teacher: one call to a provider per node."""

import random

from subterra_core.procedure.graph import Graph
from subterra_core.procedure.otherwise import UNKNOWN_QUESTION
from subterra_jobs.dialogue.detours import Detour, DetourKind, draw_detour
from subterra_jobs.dialogue.questions import question_words
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.pilot import BranchDecision
from subterra_jobs.generate.write.prompts import parse_choice
from subterra_jobs.generate.write.styled_prompts import StyledPrompts, prompts_for
from subterra_jobs.generate.write.turn_keys import TurnKeys
from subterra_jobs.generate.write.writer import BadTurnError, HopelessTurnError, TeacherReply
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.llm.behavior.stops import FILTERED, THINKING, explained
from subterra_jobs.llm.client import Request
from subterra_jobs.llm.metered_client import MeteredClient

STYLED_DETOUR_SHARES: dict[DetourKind, float] = {"off topic": 0.08, "after end": 0.08}
"""Share of the conversations of a procedure with a `style` that get a detour, by its kind."""


class LLMTeacher:
    """Writes every turn with a model. Calls for conversations close to their end go first, so these finish before others start."""

    costs_money = True

    def __init__(self, graph: Graph, client: MeteredClient) -> None:
        self._prompts, self._keys, self._client = prompts_for(graph), TurnKeys(graph), client
        self._graph = graph

    async def write_turn(self, conversation: Conversation, attempt: int) -> TeacherReply:
        """The model's words for the next node. Raises BadTurnError if the response was cut off, or the model declined."""
        spec, position = conversation.spec, len(conversation.utterances)
        request = self._prompts.turn(spec, position, conversation.utterances, conversation.detour)
        return await self._reply(conversation, request, attempt)

    async def write_aside(self, conversation: Conversation, customer: str | None, attempt: int) -> TeacherReply:
        """The model's words for the exchange before a challenge. Raises as `write_turn`."""
        assert isinstance(self._prompts, StyledPrompts), "only procedures with a style have challenges"
        spec, position = conversation.spec, len(conversation.utterances)
        request = self._prompts.aside(spec, position, conversation.utterances, customer)
        return await self._reply(conversation, request, attempt)

    async def write_question(self, conversation: Conversation, attempt: int) -> TeacherReply:
        """The model's words for a question that has an answer; one that has none costs nothing. Raises as `write_turn`."""
        spec, asked = conversation.spec, conversation.spec.asked[len(conversation.questions)]
        if asked.name == UNKNOWN_QUESTION:
            rng = random.Random(f"{spec.id}:question:{attempt}")
            return TeacherReply(question_words(self._graph.spec, asked.name, rng, held_out=False))
        request = self._prompts.question(spec, asked, conversation.utterances[: asked.position])
        key = self._keys.question(spec, conversation.turn_keys[: asked.position], request, attempt)
        return await self._paid(key, request, {"conversation": spec.id, "asks": asked.name}, asked.position)

    async def _reply(self, conversation: Conversation, request: Request, attempt: int) -> TeacherReply:
        """The response, which is a turn at the next node or just before it."""
        spec, position = conversation.spec, len(conversation.utterances)
        key = self._keys.turn(spec, conversation.turn_keys, request, attempt)
        return await self._paid(key, request, {"conversation": spec.id, "node": spec.path[position]}, position)

    async def _paid(self, key: str, request: Request, labels: dict[str, str], priority: int) -> TeacherReply:
        response, reused = await self._client.complete(key, request, labels, priority=priority)
        if response.cut is not None:
            kind = HopelessTurnError if response.cut in (FILTERED, THINKING) else BadTurnError
            raise kind(f"ended with {explained(response.cut)}")
        return TeacherReply(response.text.strip().strip('"').strip(), key, reused)

    async def guess_branch(self, conversation: Conversation, decision: BranchDecision) -> TeacherReply:
        """The option that the model names by its number."""
        spec, position = conversation.spec, decision.position
        request = self._prompts.branch_reading(spec, decision, conversation.utterances[: position + 1])
        key = self._keys.reading(spec, conversation.turn_keys[position], request)
        labels = {"conversation": spec.id, "reads": spec.path[position]}
        response, reused = await self._client.complete(key, request, labels, priority=position)
        return TeacherReply(parse_choice(decision, response.text), key, reused)

    def detour(self, spec: ConversationSpec) -> Detour | None:
        """With a `style`, an exchange off the topic or after the end for a share of the conversations; none in the pilot.

        Its words are those of scripted customers and of `otherwise`: they cost nothing, and the agent's are the author's.
        """
        rng = random.Random(f"{spec.id}:detour")
        point = rng.random()
        for kind, share in STYLED_DETOUR_SHARES.items():
            point -= share
            if point < 0 and self._graph.spec.style is not None and not spec.audited:
                return draw_detour(self._graph, spec.path, spec.values, kind, rng, held_out=False)
        return None

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()
