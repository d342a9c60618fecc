"""The scripted teacher: agents say the procedure's own examples, customers more than these. Deterministic, free, offline.

Conversations of the pilot keep to the examples, customers too: the blind reader knows nothing else, and what it audits are the
author's words. A composed line is used only where its act or its values tell its branch from the others.
"""

import random
from dataclasses import replace

from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.detours import Detour, DetourKind, draw_detour
from subterra_jobs.dialogue.phrasing.customer_phrasing import CustomerPhrasing
from subterra_jobs.dialogue.questions import question_words
from subterra_jobs.dialogue.scripted import Utterance, scripted_utterances
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.pilot import BranchDecision
from subterra_jobs.generate.write.scripted_reader import RuleReader
from subterra_jobs.generate.write.writer import TeacherReply
from subterra_jobs.generate.written_conversation import Conversation

DETOUR_SHARES: dict[DetourKind, float] = {"off topic": 0.15, "unknown value": 0.12, "after end": 0.14}
"""Share of the conversations with a detour, by its kind."""


class ScriptedTeacher:
    """Draws words by a seed of each conversation, so the order of work does not matter."""

    costs_money = False

    def __init__(self, graph: Graph) -> None:
        self._graph, self._reader = graph, RuleReader(graph)
        self._phrasing = CustomerPhrasing(graph, held_out=False)
        self._id: str | None = None
        self._script: list[Utterance] = []

    async def write_turn(self, conversation: Conversation, attempt: int) -> TeacherReply:
        """The next utterance of the conversation's script."""
        spec = conversation.spec
        if self._id != spec.id:
            rng = random.Random(f"{spec.id}:words")
            phrasing = None if spec.audited else self._phrasing
            self._id, self._script = spec.id, scripted_utterances(self._graph, spec.path, spec.values, rng, phrasing)
        return TeacherReply(self._script[len(conversation.utterances)].text)

    async def write_aside(self, conversation: Conversation, customer: str | None, attempt: int) -> TeacherReply:
        """Never called: plans for the scripted teacher have no challenges."""
        raise InvalidInputError(f"conversation {conversation.spec.id} has a challenge, which the scripted teacher cannot write")

    async def write_question(self, conversation: Conversation, attempt: int) -> TeacherReply:
        """An example of the author, or what a hurried customer makes of it."""
        asked = conversation.spec.asked[len(conversation.questions)]
        rng = random.Random(f"{conversation.spec.id}:question:{asked.name}")
        return TeacherReply(question_words(self._graph.spec, asked.name, rng, held_out=False))

    async def guess_branch(self, conversation: Conversation, decision: BranchDecision) -> TeacherReply:
        """The guess of a `RuleReader`."""
        hub, utterance = conversation.spec.path[decision.position], conversation.utterances[decision.position]
        before = "\n".join(earlier.text for earlier in conversation.utterances[: decision.position])
        said = {name: value for name, value in conversation.spec.values.items() if value in before}
        return TeacherReply(self._reader.guess(hub, decision.options, utterance.text, said))

    def detour(self, spec: ConversationSpec) -> Detour | None:
        """A detour for a share of the conversations, where their paths have a place for it; none in the pilot."""
        rng = random.Random(f"{spec.id}:detour")
        point = rng.random()
        for kind, share in DETOUR_SHARES.items():
            point -= share
            if point < 0 and not spec.audited:
                return draw_detour(self._graph, spec.path, spec.values, kind, rng, held_out=False)
        return None

    async def close(self) -> None:
        """Does nothing."""


def with_typed_openers(graph: Graph, specs: list[ConversationSpec]) -> list[ConversationSpec]:
    """A plan for the scripted teacher: openers as people type them, except in the pilot."""
    phrasing = CustomerPhrasing(graph, held_out=False)

    def typed(spec: ConversationSpec) -> ConversationSpec:
        if spec.customer.opener is None or spec.audited:
            return spec
        opener = phrasing.opener(spec.customer.opener, random.Random(f"{spec.id}:opener"))
        return replace(spec, customer=replace(spec.customer, opener=opener))

    return [typed(spec) for spec in specs]
