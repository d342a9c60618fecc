"""All paid clients of a stage: one budget, and one admission queue per account."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from subterra_api.digest import sha256, short
from subterra_api.job_contract.artifacts import Stage
from subterra_api.job_contract.messages import RunIdentity
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.judging import JudgingSettings
from subterra_jobs.llm.account import Account, make_client, resolve_account
from subterra_jobs.llm.admission import AdmissionQueue, UsageStats
from subterra_jobs.llm.batches.batch_api import BatchApi
from subterra_jobs.llm.batches.batch_record import BatchRecords
from subterra_jobs.llm.batches.batch_runner import DEFAULT_TIMES, BatchAccount, BatchRunner, BatchTimes
from subterra_jobs.llm.behavior.thinking import request_fields
from subterra_jobs.llm.metered_client import MeteredClient
from subterra_jobs.llm.rate_limit import RateLimiter
from subterra_jobs.llm.response_cache import ResponseCache
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.caps import CapExceeded
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.store.artifact_store import ArtifactStore

log = logging.getLogger("subterra")

MAX_IN_FLIGHT = 256
"""Concurrent calls to one account; its limits may allow fewer."""


class ClientPool:
    """Clients of a stage. Responses are kept in the store under `folder`."""

    def __init__(
        self,
        store: ArtifactStore,
        run: RunIdentity,
        stage: Stage,
        environment: StageEnvironment,
        folder: str,
        *,
        check: Callable[[], None] = lambda: None,
        batch_times: BatchTimes = DEFAULT_TIMES,
    ) -> None:
        """`check` raises a StageError when the stage must stop paying."""
        self._batch_times = batch_times
        self._store, self._run, self._stage = store, run, stage
        self._environment, self._folder, self._check = environment, folder, check
        self._budget: BudgetGuard | None = None
        self._queues: dict[str, AdmissionQueue] = {}
        self._clients: dict[str, MeteredClient] = {}
        self._accounts: dict[str, str] = {}
        """Digest of the provider's settings by use."""
        self.batches: BatchRunner | None = None
        self._responses: dict[str, ResponseCache] = {}

    def client(self, provider: Provider, field: str, use: str) -> MeteredClient:
        """Client of a model for one `use`, whose responses are kept apart from other uses'. Raises InvalidInputError."""
        account = resolve_account(provider, field, self._environment)
        name = short(sha256(request_fields(provider)), 16)
        if name not in self._queues:
            self._queues[name] = AdmissionQueue(self._budget_guard(), RateLimiter(MAX_IN_FLIGHT))
        responses = self._responses[use] = ResponseCache(self._store, f"{self._folder}/{use}-{name}")
        self._accounts[use] = name
        self._clients[use] = MeteredClient(account, make_client(account), self._queues[name], responses)
        return self._clients[use]

    def batch_runner(self, uses: Sequence[str], judging: JudgingSettings) -> BatchRunner:
        """Batches for the clients of these uses; closed with the pool."""
        accounts: dict[str, BatchAccount] = {}
        for use in uses:
            client, name = self._clients[use], self._accounts[use]
            if name in accounts:
                accounts[name] = replace(accounts[name], clients={**accounts[name].clients, use: client})
            elif (api := make_batch_api(client.account)) is not None:
                accounts[name] = BatchAccount(api, {use: client})
            elif judging.mode == "Batch":
                log.info("%s: %s has no batches; its calls go one by one", client.account.field, client.account.model)
        records = BatchRecords(self._store, f"{self._folder}/batches")
        times = replace(self._batch_times, wait=timedelta(minutes=judging.wait_minutes))
        self.batches = BatchRunner(
            self._run,
            records,
            self._budget_guard(),
            accounts,
            times,
            creates=judging.mode == "Batch",
            check=self._check_may_pay,
        )
        return self.batches

    def cached_responses(self, use: str) -> int:
        """Number of responses for this use when the stage began. Raises OSError."""
        return self._responses[use].count()

    async def cap_exceeded(self, usd: Decimal) -> CapExceeded | None:
        """The cap that paying `usd` would exceed; `None` when it fits."""
        return await self._budget_guard().cap_exceeded(usd)

    async def stats(self) -> UsageStats | None:
        """Calls and spending over all accounts; `None` when the stage pays none."""
        stats = [await queue.stats() for queue in self._queues.values()]
        if not stats:
            return None
        limit = stats[0].limit if len(stats) == 1 else None
        calls, per_minute = sum(each.calls for each in stats), sum(each.per_minute for each in stats)
        if self.batches is not None:
            calls += self.batches.answered
        return replace(stats[0], calls=calls, per_minute=per_minute, limit=limit)

    async def close(self) -> None:
        """Closes all connections."""
        if self.batches is not None:
            await self.batches.close()
        for client in self._clients.values():
            await client.close()

    def _budget_guard(self) -> BudgetGuard:
        """One for all accounts, since the caps are for all; made for the first client."""
        if self._budget is None:
            self._store.reserve_headroom()
            ledger = Ledger(self._store, self._run)
            self._budget = BudgetGuard(ledger, self._stage, self._environment.budget, check=self._check_may_pay)
        return self._budget

    def _check_may_pay(self) -> None:
        self._check()
        self._store.require_headroom()


def make_batch_api(account: Account) -> BatchApi | None:
    """The account's batches; `None` for an endpoint or a model without them."""
    if account.batch_factor >= 1:
        return None
    if account.provider == "anthropic":
        from subterra_jobs.llm.batches.anthropic_batches import AnthropicBatches

        return AnthropicBatches(account)
    from subterra_jobs.llm.batches.openai_batches import OpenAIBatches

    return OpenAIBatches(account)
