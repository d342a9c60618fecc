"""A dataset by a model that thinks 300 to 2,000 tokens before each turn: turns cut, ledger against bill, forecast against bill.

The real SDK against the fake Messages API over HTTP, in this process, without Ray.
"""

import asyncio
import json
import os
import tempfile
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from subterra_api.job_contract.messages import Budget
from subterra_core.procedure.graph import Graph
from subterra_jobs.generate.cost_estimate import estimate_cost
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.workers.worker import Worker
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.llm.admission import AdmissionQueue
from subterra_jobs.llm.rate_limit import RateLimiter
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.runs.generation_inputs import run_input
from subterra_testkit.servers.fake_llm_api import FakeLLMApi, fake_llm_api
from subterra_testkit.servers.fake_model import FakeModel

TEACHER = {"name": "anthropic", "model": "claude-sonnet-5-5"}
CONVERSATIONS = 120
THINKS = (300, 2000)
TOKEN_FACTOR = 1.75 / 1.35
"""Tokens of a text relative to models before Claude 5."""


@dataclass(frozen=True)
class Written:
    """A dataset and what it cost."""

    conversations: list[Conversation]
    booked: Decimal
    forecast: Decimal
    """Middle of the forecast."""

    @property
    def dropped(self) -> list[str]:
        """Reasons of the dropped conversations."""
        return [each.drop_reason for each in self.conversations if each.drop_reason]


async def write(folder: Path, api: FakeLLMApi, conversations: int) -> Written:
    """A dataset of the travel example by a teacher that thinks. The environment names the provider's address and key."""
    run = run_input(folder, teacher=TEACHER, conversations=conversations)
    guard = BudgetGuard(Ledger(ArtifactStore(run.store), run.run), "generate", Budget())
    worker = Worker(run, 32, AdmissionQueue(guard, RateLimiter(64)))
    plan = plan_conversations(run.procedure, run.generation)
    try:
        batch = await worker.write([Conversation(planned) for planned in plan])
    finally:
        await worker.close()
    if batch.failure is not None:
        raise batch.failure.error()
    lines = [line for file in (folder / "ledger").rglob("*.jsonl") for line in file.read_text().splitlines()]
    booked = sum((Decimal(json.loads(line)["usd"]) for line in lines), Decimal(0))
    forecast = estimate_cost(Graph(run.procedure), run.generation, {})
    return Written(list(batch.finished), booked, (forecast.low.usd + forecast.high.usd) / 2)


def thinking_api() -> FakeLLMApi:
    """A provider whose model thinks first."""
    return FakeLLMApi(model=FakeModel(thinks=THINKS, token_factor=TOKEN_FACTOR), input_tokens=None, output_tokens=40)


def measure() -> dict[str, Any]:
    """The figures."""
    with fake_llm_api(thinking_api()) as api, tempfile.TemporaryDirectory() as folder:
        os.environ |= {"ANTHROPIC_BASE_URL": api.url, "ANTHROPIC_API_KEY": "none"}
        written = asyncio.run(write(Path(folder), api, CONVERSATIONS))
    return {
        "thinking_conversations": len(written.conversations),
        "thinking_dropped": len(written.dropped),
        "thinking_bill_usd": str(api.bill),
        "thinking_booked_minus_bill_usd": str(written.booked - api.bill),
        "thinking_forecast_to_bill": round(float(written.forecast / api.bill), 3),
    }
