"""The paid teacher: one call per node."""

from subterra_core.procedure.graph import Graph
from subterra_jobs.generate.conversation import Conversation
from subterra_jobs.generate.plan.pilot import Decision
from subterra_jobs.generate.write.prompts import Prompts, chosen
from subterra_jobs.generate.write.turn_keys import TurnKeys
from subterra_jobs.generate.write.writer import BadTurnError, Words
from subterra_jobs.llm.metered_client import Caller


class PaidTeacher:
    """Asks a provider for every turn."""

    paid = True

    def __init__(self, graph: Graph, caller: Caller) -> None:
        self._prompts, self._keys, self._caller = Prompts(graph), TurnKeys(graph), caller

    async def say(self, so_far: Conversation, attempt: int) -> Words:
        """The teacher's words for the next node. Conversations that are further on go first, so that they end before others begin.

        Raises BadTurnError when they do not come to an end.
        """
        slot, position = so_far.slot, len(so_far.said)
        request = self._prompts.of(slot, position, so_far.said)
        key = self._keys.turn(slot, so_far.keys, request, attempt)
        kept, reused = await self._caller.ask(key, request, {"conversation": slot.id, "node": slot.path[position]}, rank=position)
        if kept.cut is not None:
            raise BadTurnError(f"ended with {kept.cut}")
        return Words(kept.text.strip().strip('"').strip(), key, reused)

    async def guess(self, so_far: Conversation, decision: Decision) -> Words:
        """The option that the model names by its number."""
        slot, position = so_far.slot, decision.position
        request = self._prompts.reading(slot, decision, so_far.said[: position + 1])
        key = self._keys.reading(slot, so_far.keys[position], request)
        kept, reused = await self._caller.ask(key, request, {"conversation": slot.id, "reads": slot.path[position]}, rank=position)
        return Words(chosen(decision, kept.text), key, reused)

    async def close(self) -> None:
        """Closes the connections."""
        await self._caller.close()
