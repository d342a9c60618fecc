"""The scripted teacher: writes with the procedure's own examples. Deterministic, free, offline."""

import random

from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.scripted import Utterance, scripted_utterances
from subterra_jobs.generate.plan.pilot import BranchDecision
from subterra_jobs.generate.write.scripted_reader import RuleReader
from subterra_jobs.generate.write.writer import TeacherReply
from subterra_jobs.generate.written_conversation import Conversation


class ScriptedTeacher:
    """Draws examples by a seed of each conversation, so the order of work does not matter."""

    costs_money = False

    def __init__(self, graph: Graph) -> None:
        self._graph, self._reader = graph, RuleReader(graph)
        self._id: str | None = None
        self._script: list[Utterance] = []

    async def write_turn(self, conversation: Conversation, attempt: int) -> TeacherReply:
        """The next utterance of the conversation's script."""
        spec = conversation.spec
        if self._id != spec.id:
            rng = random.Random(f"{spec.id}:words")
            self._id, self._script = spec.id, scripted_utterances(self._graph, spec.path, spec.values, rng)
        return TeacherReply(self._script[len(conversation.utterances)].text)

    async def guess_branch(self, conversation: Conversation, decision: BranchDecision) -> TeacherReply:
        """The guess of a `RuleReader`."""
        hub, utterance = conversation.spec.path[decision.position], conversation.utterances[decision.position]
        return TeacherReply(self._reader.guess(hub, decision.options, utterance.text))

    async def close(self) -> None:
        """Does nothing."""
