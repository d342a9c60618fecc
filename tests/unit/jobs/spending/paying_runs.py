"""A store that runs pay from, and a clock that is set forward."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from subterra_api.job_contract.artifacts import Stage
from subterra_api.job_contract.messages import Budget, RunIdentity
from subterra_jobs.spending.budget import BudgetGuard, Clocks
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.store.artifact_store import ArtifactStore


@dataclass
class PayingRuns:
    """The runs of a namespace, which share its store."""

    uri: str
    now: datetime
    seconds: float = 0.0

    def ledger_of(self, run: RunIdentity) -> Ledger:
        return Ledger(ArtifactStore(self.uri), run)

    def guard_of(
        self, run: RunIdentity, budget: Budget, stage: Stage = "generate", check: Callable[[], None] = lambda: None
    ) -> BudgetGuard:
        return BudgetGuard(self.ledger_of(run), stage, budget, check=check, clocks=Clocks(lambda: self.now, lambda: self.seconds))

    def wait(self, **time: float) -> None:
        self.now += timedelta(**time)
        self.seconds += timedelta(**time).total_seconds()


async def pay(guard: BudgetGuard, usd: str, reserved: str | None = None) -> None:
    """Pays `usd`, of `reserved` or as much as that."""
    reservation = await guard.reserve(Decimal(reserved or usd))
    await guard.commit(reservation, {"usd": usd, "tokens": 10})
