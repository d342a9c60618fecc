"""The broker of paid calls, without Ray's processes: one budget for all workers, and what the death of one costs."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from subterra_api.job_contract.messages import Budget, RunInput
from subterra_jobs.errors import BudgetExceededError
from subterra_jobs.generate.workers.broker import Broker
from subterra_jobs.llm.rate_limit import CallOutcome
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.runs.generation_inputs import PAID, run_input

PAID_ENTRY = {"usd": "0.01", "tokens": 10}
WORST = Decimal("0.05")


@pytest.fixture
def run(tmp_path: Path) -> RunInput:
    return run_input(tmp_path, teacher=PAID)


def broker_of(run: RunInput, *, cap: str | None = None, calls: int = 8) -> Broker:
    return Broker(run, Budget(max_usd=cap), calls, lambda: None)


def booked(run: RunInput) -> Decimal:
    return sum((payment.usd for payment in Ledger(ArtifactStore(run.store), run.run).new_payments()), Decimal(0))


async def test_calls_of_all_workers_are_booked_and_count_against_one_cap(run: RunInput) -> None:
    broker = broker_of(run, cap="0.06")
    first = await broker.acquire("worker-1", WORST, 100, 0)
    await broker.settle(first, PAID_ENTRY, CallOutcome())
    await broker.acquire("worker-2", WORST, 100, 0)
    refused = asyncio.create_task(broker.acquire("worker-1", Decimal("0.06"), 100, 0))
    with pytest.raises(BudgetExceededError):
        await asyncio.wait_for(refused, 5)
    assert booked(run) == Decimal("0.01")


async def test_a_dead_workers_calls_are_booked_at_their_worst_case_once_and_those_of_others_are_not(run: RunInput) -> None:
    broker = broker_of(run)
    lost = await broker.acquire("worker-1", WORST, 100, 0)
    other = await broker.acquire("worker-2", WORST, 100, 0)
    await broker.write_off("worker-1")
    await broker.write_off("worker-1")
    await broker.settle(lost, PAID_ENTRY, CallOutcome())  # it was only out of reach
    assert booked(run) == WORST
    await broker.settle(other, PAID_ENTRY, CallOutcome())
    assert booked(run) == WORST + Decimal("0.01")
    assert (await broker.usage()).reserved == 0


async def test_a_worker_that_dies_while_it_waits_for_admission_holds_no_place(run: RunInput) -> None:
    broker = broker_of(run, calls=1)
    first = await broker.acquire("worker-1", WORST, 100, 0)
    waiting = asyncio.create_task(broker.acquire("worker-2", WORST, 100, 0))
    await asyncio.sleep(0)
    await broker.write_off("worker-2")
    await broker.settle(first, PAID_ENTRY, CallOutcome())
    await asyncio.wait_for(waiting, 5)
    third = await asyncio.wait_for(broker.acquire("worker-1", WORST, 100, 0), 5)
    await broker.settle(third, None, CallOutcome())
    assert booked(run) == Decimal("0.01")
    assert (await broker.usage()).reserved == 0
