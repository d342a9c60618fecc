"""Admission for workers of several processes: one set of rate limits and one budget, asked through a Ray actor."""

import os
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import ray

from subterra_api.job_contract.messages import Budget, RunInput
from subterra_jobs.errors import InfrastructureError
from subterra_jobs.generate.workers.worker import Worker
from subterra_jobs.llm.admission import AdmissionQueue, UsageStats
from subterra_jobs.llm.rate_limit import CallOutcome, RateLimiter
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.ledger import Ledger, LedgerEntry
from subterra_jobs.stage.tracing import start_tracing
from subterra_jobs.store.artifact_store import ArtifactStore

BROKER_DIED = "the broker of paid calls died, so no call may begin; what was paid is kept, and the next attempt goes on"


class Broker:
    """Admits the calls of all workers. What a dead worker had reserved is booked, since its calls may have been billed."""

    def __init__(self, run: RunInput, budget: Budget, calls: int, check: Callable[[], None]) -> None:
        guard = BudgetGuard(Ledger(ArtifactStore(run.store), run.run), "generate", budget, check=check)
        self._queue = AdmissionQueue(guard, RateLimiter(calls))
        self._in_flight: dict[int, tuple[str, Decimal]] = {}
        """Worker and worst case of each reservation."""
        self._dead: set[str] = set()

    async def acquire(self, worker: str, worst_case: Decimal, size: int, priority: int) -> int:
        """See `Admission`."""
        reservation = await self._queue.acquire(lambda: worst_case, size, priority)
        self._in_flight[reservation] = worker, worst_case
        if worker in self._dead:  # it died while it waited, and so never called
            await self.settle(reservation, None, CallOutcome())
        return reservation

    async def settle(self, reservation: int, entry: LedgerEntry | None, outcome: CallOutcome) -> None:
        """See `Admission`. A reservation that was booked with its worker's death stays so."""
        if self._in_flight.pop(reservation, None) is not None:
            await self._queue.settle(reservation, entry, outcome)

    async def write_off(self, worker: str) -> None:
        """Books the worst case of a dead worker's calls."""
        self._dead.add(worker)
        for reservation, (owner, usd) in list(self._in_flight.items()):
            if owner == worker:
                await self.settle(reservation, {"usd": str(usd), "tokens": 0, "lost": True}, CallOutcome())

    async def usage(self) -> UsageStats:
        """Calls and spending of all workers so far."""
        return await self._queue.stats()


class BrokeredAdmission:
    """The broker as one worker sees it."""

    def __init__(self, broker: Any, worker: str) -> None:
        self._broker, self._worker = broker, worker

    async def acquire(self, worst_case: Callable[[], Decimal], size: int, priority: int) -> int:
        """See `Admission`. The worst case is that of the moment in which the call is asked for."""
        reservation: int = await _answer(self._broker.acquire.remote(self._worker, worst_case(), size, priority))
        return reservation

    async def settle(self, reservation: int, entry: LedgerEntry | None, outcome: CallOutcome) -> None:
        """See `Admission`."""
        await _answer(self._broker.settle.remote(reservation, entry, outcome))


class BrokeredWorker(Worker):
    """One of several workers that pay from one budget."""

    def __init__(self, run: RunInput, concurrency: int, broker: Any, name: str) -> None:
        start_tracing(run.run, os.environ)
        super().__init__(run, concurrency, BrokeredAdmission(broker, name))


async def _answer(reference: Any) -> Any:
    """The broker's answer. Raises the StageError that it raised, without Ray's traceback."""
    try:
        return await reference
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayActorError:
        raise InfrastructureError(BROKER_DIED) from None
