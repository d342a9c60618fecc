"""One filled prompt of each kind that a hosted teacher gets for a procedure. Pure."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.dummy import dummy_utterances
from subterra_jobs.dialogue.scripted import Utterance, scripted_utterances
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.customer_style import ChallengeKind
from subterra_jobs.generate.write.prompts import Prompts
from subterra_jobs.generate.write.styled_prompts import StyledPrompts, prompts_for
from subterra_jobs.llm.client import Request

KINDS = (
    "agent turn",
    "customer turn",
    "customer turn with a decision",
    "customer turn with a digression",
    "customer turn with a correction",
    "customer turn with several facts",
    "customer turn with a change of mind",
    "customer turn that is ambiguous",
    "agent turn that asks what is meant",
    "customer turn that contradicts",
    "agent turn that asks what is right",
    "blind reader",
)
_ASIDES: dict[ChallengeKind, tuple[str, str]] = {
    "ambiguity": ("customer turn that is ambiguous", "agent turn that asks what is meant"),
    "contradiction": ("customer turn that contradicts", "agent turn that asks what is right"),
}
_TALK = 2
"""Utterances that should come before, so that the prompt shows how a conversation is passed on."""


@dataclass(frozen=True)
class ExamplePrompt:
    """A request for one turn of a planned conversation."""

    kind: str
    conversation: str
    node: str
    request: Request


def example_prompts(graph: Graph, plan: Sequence[ConversationSpec]) -> list[ExamplePrompt]:
    """The first prompt of each kind in the plan, with some conversation before it if there is one like that.

    What was said before are the procedure's own examples, where it has any.
    """
    first: dict[str, tuple[ConversationSpec, int]] = {}
    with_talk: dict[str, tuple[ConversationSpec, int]] = {}
    for kind, spec, position in _places(graph, plan):
        first.setdefault(kind, (spec, position))
        if position >= _TALK:
            with_talk.setdefault(kind, (spec, position))
        if len(with_talk) == len(KINDS):
            break
    chosen = first | with_talk
    prompts = prompts_for(graph)
    return [_example(graph, prompts, kind, *chosen[kind]) for kind in KINDS if kind in chosen]


def _places(graph: Graph, plan: Sequence[ConversationSpec]) -> Iterator[tuple[str, ConversationSpec, int]]:
    """Every turn of the plan with its kind."""
    for spec in plan:
        challenge = spec.customer.challenge
        aside = challenge if challenge is not None and challenge.has_aside else None
        for position in (at for at, node in enumerate(spec.path) if graph.nodes[node].role != "tool"):
            # The turn after an aside answers a question that only a teacher writes.
            if aside is None or aside.position != position:
                yield _kind(graph, spec, position), spec, position
        if aside is not None and not spec.audited:
            for kind in _ASIDES[aside.kind]:
                yield kind, spec, aside.position
        for decision in spec.audited:
            yield "blind reader", spec, decision.position


def _kind(graph: Graph, spec: ConversationSpec, position: int) -> str:
    node, twist = graph.nodes[spec.path[position]], spec.customer.twist
    if node.role == "agent":
        return "agent turn"
    challenge = spec.customer.challenge
    if challenge is not None and challenge.position == position and not challenge.has_aside:
        return "customer turn with a change of mind"
    if twist is not None and twist.position == position:
        return f"customer turn with {'several facts' if twist.kind == 'several facts' else f'a {twist.kind}'}"
    edge = graph.edge(node.id, spec.path[position + 1]) if position + 1 < len(spec.path) else None
    return "customer turn with a decision" if edge is not None and edge.when else "customer turn"


def _example(graph: Graph, prompts: Prompts, kind: str, spec: ConversationSpec, position: int) -> ExamplePrompt:
    said = _utterances(graph, spec)
    asides = [aside for kinds in _ASIDES.values() for aside in kinds]
    if kind in asides:
        assert isinstance(prompts, StyledPrompts), "only a plan under a style has such turns"
        customer = None if kind.startswith("customer") else "(the customer's words)"
        request = prompts.aside(spec, position, said[:position], customer)
    elif kind == "blind reader":
        decision = next(each for each in spec.audited if each.position == position)
        request = prompts.branch_reading(spec, decision, said[: position + 1])
    else:
        request = prompts.turn(spec, position, said[:position])
    return ExamplePrompt(kind, spec.id, spec.path[position], request)


def _utterances(graph: Graph, spec: ConversationSpec) -> list[Utterance]:
    """The words of the examples; for a procedure without them what the forecast assumes."""
    try:
        return scripted_utterances(graph, spec.path, spec.values, random.Random(spec.id))
    except InvalidInputError:
        return dummy_utterances(graph, spec.path, spec.values, 0)
