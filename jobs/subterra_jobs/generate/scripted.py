"""The scripted teacher: words from the procedure's own examples. Deterministic, free, offline."""

import random
from collections.abc import Sequence

from subterra_api.graph import Graph
from subterra_jobs.common import scripted
from subterra_jobs.common.scripted import Utterance
from subterra_jobs.generate.pilot import Decision
from subterra_jobs.generate.plan import Slot
from subterra_jobs.generate.reader import RuleReader


class ScriptedTeacher:
    """Chooses among the examples by the slot's own seed, so that the order of work changes no word."""

    paid = False

    def __init__(self, graph: Graph) -> None:
        self._graph, self._reader = graph, RuleReader(graph)
        self._slot: str | None = None
        self._script: list[Utterance] = []

    async def say(self, slot: Slot, position: int, said: Sequence[Utterance]) -> str:
        """The example that the slot's script has here."""
        if self._slot != slot.id:
            rng = random.Random(f"{slot.id}:words")
            self._slot, self._script = slot.id, scripted.write(self._graph, slot.path, slot.values, rng)
        return self._script[position].text

    async def guess(self, slot: Slot, decision: Decision, said: Sequence[Utterance]) -> str:
        """By rules, see RuleReader."""
        return self._reader.guess(slot.path[decision.position], decision.options, said[-1].text)

    async def close(self) -> None:
        """Nothing is open."""
