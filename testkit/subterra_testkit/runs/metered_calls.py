"""Metered calls to one fake provider, and what was booked for them."""

import json
import os
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from subterra_api.job_contract.messages import Budget, RunIdentity
from subterra_api.v1alpha1.compilerun import Provider
from subterra_jobs.errors import StageError
from subterra_jobs.llm.account import make_client, resolve_account
from subterra_jobs.llm.admission import AdmissionQueue
from subterra_jobs.llm.client import single_message
from subterra_jobs.llm.metered_client import MeteredClient, RetryPolicy
from subterra_jobs.llm.rate_limit import RateLimiter
from subterra_jobs.llm.response_cache import CachedResponse, ResponseCache
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.servers.fake_llm_api import FakeLLMApi

FIELD = "generation.teacher"


@dataclass
class Setup:
    """A client of one fake provider, with its ledger."""

    api: FakeLLMApi
    folder: Path
    provider: Provider
    max_usd: str = "100"
    patience: float = 5.0
    clients: list[MeteredClient] = field(default_factory=list)

    def client(self) -> MeteredClient:
        """A fresh one, as after a restart."""
        store = ArtifactStore(str(self.folder))
        identity = RunIdentity(name="run-1", namespace="demo", uid="1")
        guard = BudgetGuard(Ledger(store, identity), "generate", Budget(max_usd=self.max_usd))
        account = resolve_account(self.provider, FIELD, StageEnvironment.parse(os.environ))
        client = MeteredClient(
            account,
            make_client(account),
            AdmissionQueue(guard, RateLimiter(8)),
            ResponseCache(store, "turns"),
            RetryPolicy(self.patience, first_wait=0.001),
        )
        self.clients.append(client)
        return client

    async def ask(self, text: str = "Hello?", client: MeteredClient | None = None) -> CachedResponse:
        """The response to one message."""
        client = client or (self.clients[-1] if self.clients else self.client())
        return (await client.complete(f"key of {text}", single_message("You play the agent.", text), {"node": "ask"}))[0]

    async def failure(self, kind: type[StageError]) -> str:
        """The message of the failure that one call ends with."""
        try:
            await self.ask()
        except kind as error:
            message = str(error)
            assert "Traceback" not in message and "\x1b" not in message and "\n" not in message
            return message
        raise AssertionError(f"the call did not end with {kind.__name__}")

    async def close(self) -> None:
        """Closes all clients."""
        for client in self.clients:
            await client.close()

    def ledger(self) -> list[dict[str, Any]]:
        """What was booked, call by call."""
        files = self.folder.rglob("ledger/**/*.jsonl")
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def booked(self) -> Decimal:
        """USD of all calls."""
        return sum((Decimal(entry["usd"]) for entry in self.ledger()), Decimal(0))
