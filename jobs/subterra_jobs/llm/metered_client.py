"""Paid calls: within caps and limits, retried while the provider is overloaded, and never paid twice for one response."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from subterra_core.pricing import call_cost
from subterra_jobs.errors import InfrastructureError
from subterra_jobs.llm.account import Account
from subterra_jobs.llm.admission import Admission
from subterra_jobs.llm.client import Client, RefusedError, Request, Response, Usage
from subterra_jobs.llm.error_policy import classify, unavailable
from subterra_jobs.llm.rate_limit import CallOutcome
from subterra_jobs.llm.response_cache import CachedResponse, CallUsage, ResponseCache
from subterra_jobs.spending.ledger import LedgerEntry

PATIENCE_SECONDS = 300.0
"""Time for retries of one call before the provider counts as unavailable."""
_FRAME_TOKENS = 500
"""Tokens that the provider may add around our text."""
_MAX_WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class RetryPolicy:
    """How long calls are retried. Times in seconds."""

    patience: float = PATIENCE_SECONDS
    first_wait: float = 0.5
    clock: Callable[[], float] = time.monotonic


DEFAULT_RETRIES = RetryPolicy()


class MeteredClient:
    """Calls one model and keeps its responses."""

    def __init__(
        self,
        account: Account,
        client: Client,
        admission: Admission,
        responses: ResponseCache,
        retries: RetryPolicy = DEFAULT_RETRIES,
    ) -> None:
        self._account, self._client, self._admission, self._responses = account, client, admission, responses
        self._retries = retries
        self._rng = random.Random()

    async def complete(self, key: str, request: Request, labels: dict[str, str], priority: int = 0) -> tuple[CachedResponse, bool]:
        """The response, and whether it was paid before. `labels` go into the ledger; calls of higher priority go first.

        Raises a StageError when the stage cannot continue.
        """
        try:
            cached = self._responses.get(key)
        except OSError as error:
            raise InfrastructureError(f"paid responses cannot be read ({error}); check the artifact store") from None
        if cached is not None:
            return cached, True
        return await self._paid_call(key, request, labels, priority), False

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    def worst_case(self, request: Request) -> Decimal:
        """Upper bound of a call's cost: as many tokens as bytes, all written to the cache, and the longest response."""
        price = self._account.price
        input_price = max(price.input, price.cache_write)
        return (input_price * (request.size + _FRAME_TOKENS) + price.output * request.max_tokens) / 1_000_000

    async def _paid_call(self, key: str, request: Request, labels: dict[str, str], priority: int) -> CachedResponse:
        """Tries until there is a response or no point in another try. Every try is admitted before and settled after."""
        deadline: float | None = None
        tries, worst = 0, self.worst_case(request)
        while True:
            reservation = await self._admission.acquire(worst, request.size, priority)
            began = self._retries.clock()
            try:
                response = await self._client.complete(request)
            except RefusedError as error:
                final = classify(error, self._account)
                charge = self._entry(labels, worst, lost=True) if error.maybe_billed else None
                await self._admission.settle(reservation, charge, CallOutcome(True, error.retry_after, error.limits))
                if final is not None:
                    raise final from None
                deadline = deadline or self._retries.clock() + self._retries.patience
                await self._wait(error, tries, deadline)
                tries += 1
            except asyncio.CancelledError:
                await self._admission.settle(reservation, self._entry(labels, worst, lost=True), CallOutcome())
                raise
            else:
                charge = self._charge(labels, worst, response.usage)
                usage = _call_usage(self._retries.clock() - began, response.usage, charge)
                paid = CachedResponse(response.text, response.cut, usage)
                await _gather_both(self._admission.settle(reservation, charge, _call_outcome(response)), self._store(key, paid))
                return paid

    async def _store(self, key: str, response: CachedResponse) -> None:
        try:
            await self._responses.put(key, response)
        except OSError as error:
            raise InfrastructureError(f"a paid response could not be stored ({error}); check the artifact store") from None

    async def _wait(self, error: RefusedError, tries: int, deadline: float) -> None:
        """Sleeps exponentially with jitter, unless the provider names a time: then the rate limiter admits no call before.

        Raises ProviderUnavailableError when patience would run out first.
        """
        backoff = min(_MAX_WAIT_SECONDS, self._retries.first_wait * 2.0**tries) * self._rng.uniform(0.5, 1.0)
        if self._retries.clock() + (backoff if error.retry_after is None else error.retry_after) > deadline:
            raise unavailable(error, self._retries.patience)
        if error.retry_after is None:
            await asyncio.sleep(backoff)

    def _charge(self, labels: dict[str, str], worst: Decimal, usage: Usage | None) -> LedgerEntry:
        """A call whose endpoint reports no usage is booked at the worst case."""
        if usage is None:
            return self._entry(labels, worst)
        counts = {"input": usage.input, "output": usage.output, "cacheWrite": usage.cache_write, "cacheRead": usage.cache_read}
        usd = call_cost(self._account.price, usage.input, usage.output, usage.cache_write, usage.cache_read)
        return self._entry(labels, usd, counts)

    def _entry(
        self, labels: dict[str, str], usd: Decimal, counts: dict[str, int] | None = None, *, lost: bool = False
    ) -> LedgerEntry:
        tokens: dict[str, Any] = {**(counts or {})}
        entry = {"model": self._account.model, "usd": str(usd), "tokens": sum(tokens.values()), **labels, **tokens}
        return entry | ({"lost": True} if lost else {})


async def _gather_both(first: Awaitable[None], second: Awaitable[None]) -> None:
    """Runs both concurrently, each to its end even if the other one fails."""
    for result in await asyncio.gather(first, second, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _call_usage(seconds: float, usage: Usage | None, charge: LedgerEntry) -> CallUsage:
    tokens = usage or Usage(0, 0)
    sent = tokens.input + tokens.cache_write + tokens.cache_read
    return CallUsage(round(seconds, 4), sent, tokens.output, str(charge["usd"]))


def _call_outcome(response: Response) -> CallOutcome:
    """Tokens read from the cache count against no limit (platform.claude.com, rate limits)."""
    if response.usage is None:
        return CallOutcome(limits=response.limits)
    sent, received = response.usage.input + response.usage.cache_write, response.usage.output
    used = {"input-tokens": sent, "output-tokens": received, "tokens": sent + response.usage.cache_read + received}
    return CallOutcome(limits=response.limits, used={name: float(amount) for name, amount in used.items()})
