"""Turns that a teacher's provider blocks, refuses or spoils, over the wire: what the stage drops, writes again and counts."""

import json
from pathlib import Path
from typing import Any

import pytest

from subterra_api.job_contract.messages import Budget, RunInput
from subterra_jobs.generate import main as generate
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.workers.worker import Worker
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.llm.admission import AdmissionQueue
from subterra_jobs.llm.rate_limit import RateLimiter
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.stage.runner import execute
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.runs.generation_inputs import PAID, run_input
from subterra_testkit.runs.in_process_pool import InProcessPool
from subterra_testkit.servers.fake_llm_api import FILTERED, FakeLLMApi, plain_answer, role_of
from subterra_testkit.servers.fake_model import FakeModel, Stop

LEAKS = ("<think></think> Hello.", "<tool_call>{}</tool_call>", "As an AI language model, I cannot travel.")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunInput:
    """A small paid dataset, written in this process and without an encoder."""
    monkeypatch.setattr(generate, "RayPool", InProcessPool)
    monkeypatch.setattr(generate, "find_encoder", lambda _: None)
    return run_input(tmp_path, teacher=PAID, conversations=60, audit="Report")


def dataset(run: RunInput) -> tuple[str, dict[str, Any]]:
    """The stage's message, and the counts of its conversations."""
    result = execute("generate", generate.work, run, port=0)
    coverage = ArtifactStore(run.store).read(f"{result.path}/coverage.json")
    assert coverage is not None
    return result.message, json.loads(coverage)["conversations"]


def test_a_filtered_conversation_is_dropped_and_counted_and_the_dataset_is_written(api: FakeLLMApi, run: RunInput) -> None:
    last = plan_conversations(run.procedure, run.generation)[-1]
    said = last.values["destination"]
    api.script = lambda api: FILTERED if said in json.dumps(api.bodies[-1]["messages"], ensure_ascii=False) else None
    message, counts = dataset(run)
    dropped = counts["dropped"]
    assert 0 < dropped < 10
    assert counts["droppedFor"] == {"ended with content_filter": dropped}
    assert counts["train"] + counts["heldOut"] + dropped == 60
    assert message.endswith(f"{dropped} dropped ({dropped} ended with content_filter)")


def test_leaks_of_the_models_frame_are_written_again_and_counted_by_kind(api: FakeLLMApi, run: RunInput) -> None:
    leaks = iter(LEAKS)
    api.answer = lambda body: (next(leaks, None) if role_of(body) == "agent" else None) or plain_answer(body)
    message, counts = dataset(run)
    assert counts["dropped"] == 0
    assert "3 turns written again (2 has a tag of a model's own format, 1 speaks as a language model)" in message


async def written(run: RunInput, planned: ConversationSpec) -> Conversation:
    guard = BudgetGuard(Ledger(ArtifactStore(run.store), run.run), "generate", Budget())
    worker = Worker(run, 1, AdmissionQueue(guard, RateLimiter(8)))
    try:
        (found,) = (await worker.write([Conversation(planned)])).finished
    finally:
        await worker.close()
    return found


@pytest.mark.parametrize(
    ("stop", "cut"), [("refusal", "refusal"), ("tool", "tool_use"), ("pause", "pause_turn"), ("empty", "empty")]
)
async def test_a_turn_that_the_model_never_gives_drops_its_conversation_with_node_stop_and_cure(
    api: FakeLLMApi, run: RunInput, stop: Stop, cut: str
) -> None:
    api.model = FakeModel(shares={stop: 1.0})
    planned = plan_conversations(run.procedure, run.generation)[0]
    reason = (await written(run, planned)).drop_reason or ""
    assert reason.startswith(f"node {planned.path[0]} ended with {cut}: ")
    assert "take another model" in reason
    assert api.calls == 3
