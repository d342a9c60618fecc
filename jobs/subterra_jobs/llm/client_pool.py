"""Callers for everyone whom one stage pays: one purse, and for each account a broker that keeps to its limits."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

from subterra_api.digest import meaning, sha256, short
from subterra_api.job_contract.artifacts import Stage
from subterra_api.job_contract.messages import Budget, RunIdentity
from subterra_api.v1alpha1.compilerun import Provider
from subterra_jobs.llm.account import account_of, client_of
from subterra_jobs.llm.admission import Figures, StageBroker
from subterra_jobs.llm.metered_client import Caller
from subterra_jobs.llm.rate_limit import Rates
from subterra_jobs.llm.response_cache import AnswerStore
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.caps import Refusal
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.store.artifacts import ArtifactStore

IN_FLIGHT = 256
"""Calls at once to one account; its limits may let through fewer."""


class ClientPool:
    """Answers are kept under ``folder``, in the store. ``check`` raises a StageError when there must be no more spending."""

    def __init__(
        self, store: ArtifactStore, run: RunIdentity, stage: Stage, budget: Budget, folder: str, *,
        check: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._store, self._run, self._stage, self._budget, self._folder, self._check = store, run, stage, budget, folder, check
        self._purse: BudgetGuard | None = None
        self._brokers: dict[str, StageBroker] = {}
        self._callers: list[Caller] = []
        self._answers: dict[str, AnswerStore] = {}

    def caller(self, provider: Provider, field: str, use: str) -> Caller:
        """Who asks this model; what it answers to other uses is not mixed in. Raises InvalidInputError."""
        account, name = account_of(provider, field), short(sha256(meaning(provider)), 16)
        if name not in self._brokers:
            self._brokers[name] = StageBroker(self._paying(), Rates(IN_FLIGHT))
        answers = self._answers[use] = AnswerStore(self._store, f"{self._folder}/{use}-{name}")
        self._callers.append(Caller(account, client_of(account), self._brokers[name], answers))
        return self._callers[-1]

    def cached_responses(self, use: str) -> int:
        """How many answers there were for this use when the stage began. Raises OSError."""
        return self._answers[use].count()

    async def refusal(self, usd: Decimal) -> Refusal | None:
        """Why the caps do not leave so much; none when they do."""
        return await self._paying().refusal(usd)

    async def figures(self) -> Figures | None:
        """How far the stage is with all of them together; none when it pays nobody."""
        found = [await broker.figures() for broker in self._brokers.values()]
        if not found:
            return None
        limit = found[0].limit if len(found) == 1 else None
        return replace(found[0], calls=sum(each.calls for each in found), per_minute=sum(f.per_minute for f in found), limit=limit)

    async def close(self) -> None:
        """Gives back connections."""
        for caller in self._callers:
            await caller.close()

    def _paying(self) -> BudgetGuard:
        """One for all, since the caps are for all; made when the first is paid."""
        if self._purse is None:
            self._store.set_room_aside()
            self._purse = BudgetGuard(Ledger(self._store, self._run), self._stage, self._budget, check=self._may_pay)
        return self._purse

    def _may_pay(self) -> None:
        self._check()
        self._store.require_room()
