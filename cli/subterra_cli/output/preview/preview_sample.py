"""The conversations that the page of `subterra edit` shows: those of `subterra sample -n 3` with the scripted teacher."""

import asyncio
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from subterra_api.job_contract.defaults import generation_of
from subterra_api.v1alpha1.compilerun import GenerationSettings
from subterra_cli.output.preview.preview_state import ShownConversation, ShownSample, ShownTurn
from subterra_cli.output.sample_text import check_lines, conversation_data, heading
from subterra_core.procedure.graph import Graph
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.generate.sample.sample_run import SampledConversation, SampleRun, planned_sample

CONVERSATIONS = 3
_KINDS = {"assistant": "agent", "user": "customer", "tool": "result"}


def write_sample(graph: Graph) -> ShownSample:
    """The first conversations of a compile with default settings. Raises KeyboardInterrupt when a signal ends the writing."""
    generation = generation_of(GenerationSettings(), "bundled")
    try:
        plan = planned_sample(graph, generation, CONVERSATIONS)
        written = asyncio.run(SampleRun(graph, plan, generation, None, Decimal(1), lambda _: None).write())
    except InvalidInputError as error:
        return ShownSample(problem=str(error))
    if written.interrupted:
        raise KeyboardInterrupt
    shown = tuple(_shown(graph, each, f"{number} of {len(plan)}") for number, each in enumerate(written.conversations, 1))
    return ShownSample(shown, "" if written.failure is None else str(written.failure))


def _shown(graph: Graph, sampled: SampledConversation, number: str) -> ShownConversation:
    data = conversation_data(graph, sampled)
    values = ", ".join(f"{name} = {value}" for name, value in data["values"].items())
    facts = ("path: " + " → ".join(data["path"]), *([f"variables: {values}"] if values else []))
    title, checks = heading(sampled, number, scripted=True), tuple(map(str.strip, check_lines(sampled)))
    return ShownConversation(title, facts, tuple(_turns(data)), checks)


def _turns(data: Mapping[str, Any]) -> Iterator[ShownTurn]:
    """The messages of a conversation without that of the system, with calls and results of tools as turns of their own."""
    said = [message for message in data["messages"] if message["role"] != "system"]
    nodes = data.get("turns") or [[]] * len(said)  # a conversation that was dropped on its way has no labels
    for message, behind in zip(said, nodes, strict=True):
        calls = message.get("tool_calls", ())
        if message["content"]:
            yield ShownTurn(_KINDS[message["role"]], () if calls else tuple(behind), message["content"])
        for call in calls:
            function = call["function"]
            yield ShownTurn("call", tuple(behind), f"{function['name']} {function['arguments']}")
