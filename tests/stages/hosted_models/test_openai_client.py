"""The same teacher at the other wire format, by the real SDK; and what caching and prices come to."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from subterra_api.job_contract.environment import ENDPOINTS_VARIABLE, PRICES_VARIABLE
from subterra_api.job_contract.messages import Budget, ExitCode, RunInput
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.workers.worker import BatchResult, Worker
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.llm.admission import AdmissionQueue, UsageStats
from subterra_jobs.llm.rate_limit import RateLimiter
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.runs.generation_inputs import PAID, run_input, travel
from subterra_testkit.servers.fake_llm_api import NO_CREDIT, OVERLOADED, FakeLLMApi, Fault, RateLimit, fake_llm_api

FREE = json.dumps({"qwen": {"input": "0", "output": "0"}})


async def write(run: RunInput, count: int) -> tuple[BatchResult, UsageStats]:
    """The first conversations of the plan, and what they cost."""
    guard = BudgetGuard(Ledger(ArtifactStore(run.store), run.run), "generate", Budget(max_usd="5"))
    queue = AdmissionQueue(guard, RateLimiter(64))
    worker = Worker(run, 8, queue)
    try:
        batch = await worker.write([Conversation(planned) for planned in plan_conversations(run.procedure, run.generation)[:count]])
    finally:
        await worker.close()
    return batch, await queue.stats()


def at(api: FakeLLMApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str) -> RunInput:
    """A run whose teacher is the fake's OpenAI-compatible endpoint."""
    url = f"{api.url}/v1"
    monkeypatch.setenv(ENDPOINTS_VARIABLE, json.dumps([url]))
    return run_input(tmp_path, teacher={"name": "openai", "model": model, "baseURL": url})


async def test_a_server_of_ones_own_needs_no_key_and_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv(PRICES_VARIABLE, FREE)
    with fake_llm_api() as api:
        batch, figures = await write(at(api, monkeypatch, tmp_path, "qwen"), 5)
    assert (batch.failure, len(batch.finished)) == (None, 5)
    assert figures.usd == 0
    assert figures.tokens == 720 * api.paid
    assert all(body["messages"][0]["role"] == "system" for body in api.bodies)


async def test_faults_are_survived_and_calls_booked_at_list_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with fake_llm_api(FakeLLMApi(limits={"requests": RateLimit(6000), "tokens": RateLimit(10_000_000)})) as api:
        api.faults.extend([OVERLOADED, Fault(429, "rate_limit_error", retry_after=0.05), Fault(cut=True)])
        batch, figures = await write(at(api, monkeypatch, tmp_path, "gpt-4.1-mini"), 5)
    assert (batch.failure, len(batch.finished)) == (None, 5)
    assert figures.usd == api.paid * (600 * Decimal("0.4") + 120 * Decimal("1.6")) / 1_000_000
    assert figures.limit == 6000
    assert api.keys == {"sk-test"}


@pytest.mark.parametrize(
    "fault", [NO_CREDIT, Fault(429, "insufficient_quota", "You exceeded your current quota, insufficient_quota.")]
)
async def test_an_account_without_credit_blocks_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with fake_llm_api(FakeLLMApi(after=(0, fault))) as api:
        batch, figures = await write(at(api, monkeypatch, tmp_path, "gpt-4.1"), 1)
    assert batch.failure is not None
    assert (batch.failure.code, api.calls, figures.usd) == (ExitCode.PROVIDER_BLOCKED, 1, 0)


def knowing(facts: int) -> ProcedureSpec:
    """Travel whose agent knows so many facts more."""
    more = [
        {"id": f"hotel-{number}", "text": f"Hotel number {number} has a pool, a garden and breakfast until ten, and takes dogs."}
        for number in range(facts)
    ]
    known = travel().model_dump(mode="json", by_alias=True, exclude_none=True)
    return ProcedureSpec.model_validate(known | {"knowledge": [*known["knowledge"], *more]})


def ledger(store: Path) -> list[dict[str, Any]]:
    """What was booked, call by call."""
    return [json.loads(line) for file in store.rglob("ledger/**/*.jsonl") for line in file.read_text().splitlines()]


@pytest.mark.parametrize(("facts", "cached"), [(20, False), (150, True)])
async def test_the_constant_part_is_written_to_the_cache_once_and_read_ever_after_if_it_is_long_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: int, cached: bool
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    with fake_llm_api(FakeLLMApi(input_tokens=None)) as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        batch, _ = await write(run_input(tmp_path, knowing(facts), teacher=PAID), 3)
    assert batch.failure is None
    marked = [body for body in api.bodies if "cache_control" in body["system"][-1]]
    assert bool(marked) is cached
    assert len({body["system"][0]["text"] for body in marked}) == (1 if cached else 0)  # the agent's; no other is long enough
    entries = ledger(tmp_path)
    assert sum(entry["cacheWrite"] > 0 for entry in entries) == (1 if cached else 0)
    assert sum(entry["cacheRead"] > 0 for entry in entries) == max(0, len(marked) - 1)
