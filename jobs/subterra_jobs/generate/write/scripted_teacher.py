"""The scripted teacher: words from the procedure's own examples. Deterministic, free, offline."""

import random

from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue import scripted
from subterra_jobs.dialogue.scripted import Utterance
from subterra_jobs.generate.conversation import Conversation
from subterra_jobs.generate.plan.pilot import Decision
from subterra_jobs.generate.write.scripted_reader import RuleReader
from subterra_jobs.generate.write.writer import Words


class ScriptedTeacher:
    """Chooses among the examples by the slot's own seed, so that the order of work changes no word."""

    paid = False

    def __init__(self, graph: Graph) -> None:
        self._graph, self._reader = graph, RuleReader(graph)
        self._slot: str | None = None
        self._script: list[Utterance] = []

    async def say(self, so_far: Conversation, attempt: int) -> Words:
        """The example that the slot's script has here."""
        slot = so_far.slot
        if self._slot != slot.id:
            rng = random.Random(f"{slot.id}:words")
            self._slot, self._script = slot.id, scripted.write(self._graph, slot.path, slot.values, rng)
        return Words(self._script[len(so_far.said)].text)

    async def guess(self, so_far: Conversation, decision: Decision) -> Words:
        """By rules, see RuleReader."""
        hub, said = so_far.slot.path[decision.position], so_far.said[decision.position]
        return Words(self._reader.guess(hub, decision.options, said.text))

    async def close(self) -> None:
        """Nothing is open."""
