"""The LLM teacher: one call to a provider per node."""

from subterra_core.procedure.graph import Graph
from subterra_jobs.generate.plan.pilot import BranchDecision
from subterra_jobs.generate.plan.plan import ConversationSpec
from subterra_jobs.generate.write.prompts import Prompts, parse_choice
from subterra_jobs.generate.write.turn_keys import TurnKeys
from subterra_jobs.generate.write.writer import BadTurnError, HopelessTurnError, TeacherReply
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.llm.behavior.stops import FILTERED, THINKING, explained
from subterra_jobs.llm.metered_client import MeteredClient


class LLMTeacher:
    """Writes every turn with a model. Calls for conversations close to their end go first, so these finish before others start."""

    costs_money = True

    def __init__(self, graph: Graph, client: MeteredClient) -> None:
        self._prompts, self._keys, self._client = Prompts(graph), TurnKeys(graph), client

    async def write_turn(self, conversation: Conversation, attempt: int) -> TeacherReply:
        """The model's words for the next node. Raises BadTurnError if the response was cut off, or the model declined."""
        spec, position = conversation.spec, len(conversation.utterances)
        request = self._prompts.turn(spec, position, conversation.utterances)
        key = self._keys.turn(spec, conversation.turn_keys, request, attempt)
        labels = {"conversation": spec.id, "node": spec.path[position]}
        response, reused = await self._client.complete(key, request, labels, priority=position)
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

    def detour(self, spec: ConversationSpec) -> None:
        """None: the model's own conversations stay as they are."""

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()
