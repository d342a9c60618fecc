"""A teacher under a `style`, over the wire: challenges, the exchanges before them, and what they cost."""

from pathlib import Path

from subterra_api.v1alpha1.procedure import Style
from subterra_core.procedure.graph import Graph
from subterra_jobs.generate.cost_estimate import cost_of_writing
from subterra_jobs.generate.dataset import label_row
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.write.writer import messages
from subterra_testkit.runs.generation_inputs import PAID, run_input, travel
from subterra_testkit.runs.generation_runs import write_hosted
from subterra_testkit.servers.fake_llm_api import FakeLLMApi

SPEC = travel().model_copy(update={"style": Style()})
GRAPH = Graph(SPEC)


def challenged(folder: Path, each: int = 2) -> list[ConversationSpec]:
    """The first conversations outside the pilot with each kind of challenge."""
    run = run_input(folder, SPEC, teacher=PAID, conversations=150)
    chosen: dict[str, list[ConversationSpec]] = {}
    for planned in plan_conversations(run.procedure, run.generation):
        if planned.customer.challenge is not None and not planned.audited:
            chosen.setdefault(planned.customer.challenge.kind, []).append(planned)
    assert len(chosen) == 3
    return [planned for found in chosen.values() for planned in found[:each]]


async def test_before_an_ambiguous_or_contradicting_turn_the_agent_asks_back_and_the_dataset_says_where(
    api: FakeLLMApi, tmp_path: Path
) -> None:
    for written in await write_hosted(tmp_path, SPEC, challenged(tmp_path)):
        challenge, row, chat = written.spec.customer.challenge, label_row(written), messages(GRAPH, written)
        assert written.drop_reason is None
        assert challenge is not None
        assert row["challenge"]["kind"] == challenge.kind
        assert len(row["turns"]) == len(chat) - 1
        assert [message["role"] for message in chat[1:3]] in (["assistant", "user"], ["user", "assistant"])
        if challenge.has_aside:
            assert row["detour"] == challenge.kind
            place = next(index for index, nodes in enumerate(row["turns"]) if index and not nodes)
            assert row["turns"][place : place + 2] == [[], []]
            assert row["turns"][place + 2][0] == written.spec.path[challenge.position]
            assert written.detour is not None
            assert [message["content"] for message in chat[place + 1 : place + 3]] == [
                written.detour.customer,
                written.detour.agent,
            ]


async def test_each_exchange_costs_two_calls_as_the_forecast_says_and_nothing_when_it_is_found_again(
    api: FakeLLMApi, tmp_path: Path
) -> None:
    plan = challenged(tmp_path)
    await write_hosted(tmp_path, SPEC, plan)
    asides = sum(planned.customer.challenge is not None and planned.customer.challenge.has_aside for planned in plan)
    run = run_input(tmp_path, SPEC, teacher=PAID)
    assert api.paid == sum(len(planned.path) for planned in plan) + 2 * asides
    assert api.paid == cost_of_writing(GRAPH, plan, run.generation.teacher, {}).low.calls
    before = api.paid
    await write_hosted(tmp_path, SPEC, plan)
    assert api.paid == before
