"""How long a call is retried: an account that is at its limits is not one that does not answer."""

from decimal import Decimal
from pathlib import Path

import pytest

from subterra_api.job_contract.messages import Budget, RunIdentity
from subterra_core.pricing import TokenPrice
from subterra_jobs.errors import ProviderUnavailableError
from subterra_jobs.llm.account import Account
from subterra_jobs.llm.admission import AdmissionQueue
from subterra_jobs.llm.client import RefusedError, Request, Response, Usage, single_message
from subterra_jobs.llm.error_policy import unavailable
from subterra_jobs.llm.metered_client import PATIENCE_SECONDS, MeteredClient, RetryPolicy
from subterra_jobs.llm.openai_client import OpenAIClient
from subterra_jobs.llm.rate_limit import RateLimiter
from subterra_jobs.llm.response_cache import ResponseCache
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.store.artifact_store import ArtifactStore

ACCOUNT = Account("generation.teacher", "openai", "m", TokenPrice(Decimal(1), Decimal(1), Decimal(1), Decimal(1)), "sk-secret")
UNLUCKY = single_message("You play the agent.", "unlucky")


class BusyProvider:
    """Refuses one call with `status` so many times, 200 seconds apart, and answers another one before each time."""

    def __init__(self, folder: Path, status: int, refusals: int) -> None:
        self.status, self.refusals, self.now = status, refusals, 0.0
        store = ArtifactStore(str(folder))
        guard = BudgetGuard(Ledger(store, RunIdentity(name="run-1", namespace="demo", uid="1")), "generate", Budget())
        retries = RetryPolicy(PATIENCE_SECONDS, first_wait=0.001, clock=lambda: self.now)
        self.caller = MeteredClient(ACCOUNT, self, AdmissionQueue(guard, RateLimiter(8)), ResponseCache(store, "turns"), retries)

    async def complete(self, request: Request) -> Response:
        if request.messages != UNLUCKY.messages or not self.refusals:
            return Response("Hello.", None, Usage(1, 1))
        self.refusals -= 1
        await self.caller.complete(f"other {self.refusals}", single_message("You play the agent.", "Hi"), {})
        self.now += 200
        raise RefusedError("slow down", kind="RateLimitError", status=self.status)

    async def close(self) -> None:
        pass


async def test_a_call_waits_for_an_accounts_limits_as_long_as_others_are_answered(tmp_path: Path) -> None:
    provider = BusyProvider(tmp_path, 429, refusals=5)
    response, _ = await provider.caller.complete("unlucky", UNLUCKY, {})
    assert (response.text, provider.now) == ("Hello.", 1000)


async def test_a_call_that_fails_at_each_try_ends_the_stage_although_others_are_answered(tmp_path: Path) -> None:
    provider = BusyProvider(tmp_path, 500, refusals=5)
    with pytest.raises(ProviderUnavailableError, match="did not answer for 300 s"):
        await provider.caller.complete("unlucky", UNLUCKY, {})
    assert provider.now == 600


async def test_a_provider_that_cannot_be_reached_is_named_with_host_and_cause() -> None:
    client = OpenAIClient("m", "sk-secret", "http://llm.invalid:8000/v1")
    with pytest.raises(RefusedError) as refused:
        await client.complete(UNLUCKY)
    await client.close()
    failure = unavailable(refused.value, ACCOUNT, PATIENCE_SECONDS)
    assert "Cannot connect to host llm.invalid:8000" in str(failure)
    assert not refused.value.maybe_billed


def test_no_message_about_a_provider_has_the_key() -> None:
    failure = unavailable(RefusedError("no quota for sk-secret", "RateLimitError", 503), ACCOUNT, PATIENCE_SECONDS)
    assert "(last: HTTP 503: no quota for ***)" in str(failure)
