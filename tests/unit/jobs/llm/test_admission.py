"""One queue for all workers: who goes next, within limits and money. No test waits for a clock."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from subterra_api.job_contract.messages import Budget
from subterra_jobs.errors import BudgetExceededError
from subterra_jobs.llm.admission import AdmissionQueue
from subterra_jobs.llm.rate_limit import CallOutcome, Limit, RateLimiter
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.runs.generation_inputs import run_input

CENT = Decimal("0.01")


class World:
    """A clock that only sleeping moves, and a queue on it."""

    def __init__(self, tmp_path: Path, calls: int, max_usd: str | None = None) -> None:
        run = run_input(tmp_path)
        guard = BudgetGuard(Ledger(ArtifactStore(run.store), run.run), "generate", Budget(max_usd=max_usd))
        self.now = 0.0
        self.queue = AdmissionQueue(guard, RateLimiter(calls), clock=lambda: self.now, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)

    async def call(self, priority: int = 0, heard: CallOutcome | None = None) -> None:
        reservation = await self.queue.acquire(lambda: CENT, 1000, priority)
        await self.queue.settle(reservation, {"usd": "0.01", "tokens": 700}, heard or CallOutcome())


async def settle_down() -> None:
    """Lets everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_pause_that_one_call_is_asked_for_holds_for_all(tmp_path: Path) -> None:
    world = World(tmp_path, 8)
    await world.call(heard=CallOutcome(refused=True, retry_after=12.0))
    await asyncio.gather(*(world.call() for _ in range(5)))
    assert world.now == 12.0


async def test_who_is_furthest_goes_first(tmp_path: Path) -> None:
    world, order = World(tmp_path, 1), []
    first = await world.queue.acquire(lambda: CENT, 1000, 0)

    async def call(priority: int) -> None:
        await world.call(priority)
        order.append(priority)

    calls = [asyncio.create_task(call(priority)) for priority in (1, 9, 4)]
    await settle_down()
    assert order == []
    await world.queue.settle(first, None, CallOutcome())
    await asyncio.gather(*calls)
    assert order == [9, 4, 1]


async def test_calls_are_spread_over_the_minute(tmp_path: Path) -> None:
    world = World(tmp_path, 8)
    await world.call(heard=CallOutcome(limits={"requests": Limit(60, 0)}))
    await asyncio.gather(*(world.call() for _ in range(30)))
    assert world.now == pytest.approx(30, abs=1)
    figures = await world.queue.stats()
    assert (figures.calls, figures.limit) == (31, 60)
    assert str(figures).startswith("62 calls/min of 60, $0.31")


async def test_what_calls_in_flight_may_cost_is_told(tmp_path: Path) -> None:
    world = World(tmp_path, 2)
    reservations = [await world.queue.acquire(lambda: CENT, 1000, 0) for _ in range(2)]
    assert (await world.queue.stats()).reserved == 2 * CENT
    await world.queue.settle(reservations[0], None, CallOutcome())
    assert (await world.queue.stats()).reserved == CENT


async def test_a_call_that_is_refused_for_money_frees_its_place(tmp_path: Path) -> None:
    world = World(tmp_path, 1, max_usd="0.015")
    await world.call()
    for _ in range(2):
        with pytest.raises(BudgetExceededError):
            await world.call()


async def test_who_gave_up_waiting_takes_no_place(tmp_path: Path) -> None:
    world = World(tmp_path, 1)
    first = await world.queue.acquire(lambda: CENT, 1000, 0)
    gone = asyncio.create_task(world.call(priority=5))
    await settle_down()
    gone.cancel()
    await settle_down()
    await world.queue.settle(first, None, CallOutcome())
    await asyncio.wait_for(world.call(), 5)
