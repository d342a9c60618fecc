"""What writing a dataset will cost, told before it begins: compared with what a fake provider bills."""

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import pytest

from subterra_api.job_contract.messages import RunInput
from subterra_core.pricing import UnknownModelError
from subterra_core.procedure.graph import Graph
from subterra_jobs.generate.cost_estimate import estimate_cost
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.workers.worker import TEACHER_FIELD
from subterra_jobs.generate.write.llm_teacher import LLMTeacher
from subterra_jobs.generate.write.writer import Writer
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.llm.cost_estimate import CostEstimate
from subterra_testkit.runs.evaluation_runs import client_pool, fake_provider
from subterra_testkit.runs.generation_inputs import PAID, example, run_input
from subterra_testkit.servers.fake_llm_api import FakeLLMApi


def expected(run: RunInput) -> CostEstimate:
    return estimate_cost(Graph(run.procedure), run.generation, {})


@pytest.mark.parametrize("name", ["travel", "zoom"])
async def test_a_teacher_is_called_and_paid_as_forecast(name: str, tmp_path: Path) -> None:
    """Every turn is written at the first go, in words of a length between least and most."""
    run = run_input(tmp_path, example(name), teacher=PAID, conversations=20)
    graph = Graph(run.procedure)
    style = run.procedure.style
    tokens = 40 * (1 if style is None else {"short": 1, "medium": 2, "long": 3}[style.turn_length])
    with fake_provider(FakeLLMApi(input_tokens=None, output_tokens=tokens)):
        paying = client_pool(tmp_path)
        writer = Writer(graph, LLMTeacher(graph, paying.client(run.generation.teacher, TEACHER_FIELD, "teacher")))
        plan = plan_conversations(run.procedure, run.generation)
        written = await asyncio.gather(*(writer.finish(Conversation(planned)) for planned in plan))
        await paying.close()
    assert not [each.drop_reason for each in written if each.drop_reason]
    paid = [json.loads(line) for file in (tmp_path / "ledger").rglob("*.jsonl") for line in file.read_text().splitlines()]
    found = expected(run)
    calls = {part.name: part.low.calls for part in found.parts}
    reads = sum("reads" in entry for entry in paid)
    assert calls == {"teacher": len(paid) - reads, "blind reader": reads}
    assert found.low.usd < sum(Decimal(entry["usd"]) for entry in paid) < found.high.usd


def test_a_scripted_teacher_costs_nothing(tmp_path: Path) -> None:
    assert expected(run_input(tmp_path)).parts == ()


def test_a_teacher_without_a_price_is_named_with_its_field(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"generation\.teacher\.model: no price is known"):
        expected(run_input(tmp_path, teacher={"name": "openai", "model": "nobody-1"}))
