"""Estimates the cost of writing a dataset by building every request for a dummy version of every conversation. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from subterra_api.job_contract.messages import Generation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_core.pricing import TokenPrice
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.otherwise import UNKNOWN_QUESTION
from subterra_jobs.dialogue.dummy import dummy_utterances
from subterra_jobs.dialogue.scripted import Utterance
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.write.styled_prompts import StyledPrompts, prompts_for
from subterra_jobs.llm.cost_estimate import (
    CHOICE_TOKENS,
    CostEstimate,
    OutputAssumptions,
    PlannedCall,
    cost_item,
    priced_model,
    text_tokens,
)

_TIMES_SHORT = {"short": 1, "medium": 2, "long": 3}
"""Assumed mean length of turns by `style.turnLength`, against one to three sentences."""
TEACHER, READER = "teacher", "blind reader"


def estimate_cost(
    graph: Graph, generation: Generation, prices: Mapping[str, TokenPrice], specs: Sequence[ConversationSpec] | None = None
) -> CostEstimate:
    """The cost of teacher and blind reader when no response is cached; `specs` is the plan, if the caller has it.

    Raises UnknownModelError for a model without a price, and InvalidInputError for a procedure that cannot be planned.
    """
    if generation.teacher.name == "scripted":
        return CostEstimate()
    planned = plan_conversations(graph.spec, generation) if specs is None else specs
    return cost_of_writing(graph, planned, generation.teacher, prices)


def cost_of_writing(
    graph: Graph, specs: Sequence[ConversationSpec], teacher: Provider, prices: Mapping[str, TokenPrice]
) -> CostEstimate:
    """The cost of these planned conversations with a teacher that is paid. Raises UnknownModelError."""
    prompts, model = prompts_for(graph), priced_model(teacher, "generation.teacher", prices)
    scale = 1 if graph.spec.style is None else _TIMES_SHORT[graph.spec.style.turn_length]

    def turns(assumed: OutputAssumptions) -> Iterator[PlannedCall]:
        for spec in specs:
            utterances = dummy_utterances(graph, spec.path, spec.values, assumed.turn_length * scale)
            for position, utterance in ((at, each) for at, each in enumerate(utterances) if not each.call):
                yield prompts.turn(spec, position, utterances[:position]), text_tokens(utterance.text)
            yield from asides(spec, utterances)
            for asked in (each for each in spec.asked if each.name != UNKNOWN_QUESTION):
                words = utterances[asked.position].text
                yield prompts.question(spec, asked, utterances[: asked.position]), text_tokens(words)

    def asides(spec: ConversationSpec, utterances: Sequence[Utterance]) -> Iterator[PlannedCall]:
        challenge = spec.customer.challenge
        if isinstance(prompts, StyledPrompts) and challenge is not None and challenge.has_aside and not spec.audited:
            words = utterances[challenge.position].text
            for customer in (None, words):
                yield prompts.aside(spec, challenge.position, utterances[: challenge.position], customer), text_tokens(words)

    def readings(assumed: OutputAssumptions) -> Iterator[PlannedCall]:
        for spec in specs:
            if not spec.audited:
                continue
            utterances = dummy_utterances(graph, spec.path, spec.values, assumed.turn_length * scale)
            for decision in spec.audited:
                yield prompts.branch_reading(spec, decision, utterances[: decision.position + 1]), CHOICE_TOKENS

    return CostEstimate((cost_item(TEACHER, model, turns), cost_item(READER, model, readings)))
