"""Paid calls: within caps and limits, retried while the provider is overloaded, and never paid twice for one response."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Any, Protocol

from subterra_jobs.errors import ContextExceededError, InfrastructureError
from subterra_jobs.llm.account import Account
from subterra_jobs.llm.admission import Admission
from subterra_jobs.llm.behavior.call_span import answered, call_span, refused
from subterra_jobs.llm.behavior.stops import FILTERED, THINKING
from subterra_jobs.llm.client import UNEXPECTED_ANSWER, Client, RefusedError, Request, Response, Usage
from subterra_jobs.llm.error_policy import classify, filtered, filtered_throughout, unavailable, unreadable
from subterra_jobs.llm.rate_limit import CallOutcome
from subterra_jobs.llm.response_cache import CachedResponse, CallUsage, ResponseCache, cache_key
from subterra_jobs.spending.ledger import LedgerEntry
from subterra_jobs.stage.span import Span

PATIENCE_SECONDS = 300.0
"""Time for retries of one call before the provider counts as unavailable. While an account is at its limits and answers others, a
call may wait longer."""
_AT_ITS_LIMITS = frozenset({429, 503, 529})
MAX_FILTERED = 20
"""Calls in a row that a content filter refuses, with no response in between, before the stage ends."""
MAX_UNEXPECTED = 5
"""Tries of one call whose responses are not of the API's form before the stage ends."""
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


class Caller(Protocol):
    """What answers calls, or notes them."""

    async def complete(self, key: str, request: Request, labels: dict[str, str], priority: int = 0) -> tuple[CachedResponse, bool]:
        """See `MeteredClient`."""
        ...

    async def close(self) -> None:
        """Closes the connections."""
        ...


@dataclass(frozen=True)
class Call:
    """A request with its cache key, its labels in the ledger and its priority."""

    key: str
    request: Request
    labels: dict[str, str]
    priority: int

    def with_room(self, tokens: int) -> "Call":
        """The call with room for thinking."""
        return replace(self, request=replace(self.request, thinking_tokens=tokens))

    def again(self, tokens: int) -> "Call":
        """The call once more, with another room for thinking; its response is kept next to the first one."""
        return replace(self.with_room(tokens), key=cache_key(self.key, "more room for thinking"))


Payer = Callable[[Call], Awaitable[CachedResponse]]
"""Gets the response to a call that the cache lacks."""


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
        self.account, self.responses = account, responses
        self._client, self._admission = client, admission
        self._retries = retries
        self._rng = random.Random()
        self._room = account.thinking.room
        self._largest_output = 0
        self._filtered_in_a_row = 0
        self._answered_at = float("-inf")

    async def complete(
        self, key: str, request: Request, labels: dict[str, str], priority: int = 0, *, pay: Payer | None = None
    ) -> tuple[CachedResponse, bool]:
        """The response, and whether it was paid before. `labels` go into the ledger; calls of higher priority go first.

        A response that was cut while the model was thinking is asked for once more, with more room. `pay` gets a response that the
        cache lacks; by default from the provider. Raises a StageError when the stage cannot continue.
        """
        pay = pay or self._paid_call
        call, least = Call(key, request, labels, priority), self.account.thinking.room
        (response, reused), room = await self._first_that_fits(
            (call.with_room(room) for room in sorted({self._room, least})[::-1]), pay
        )
        if response.cut != THINKING:
            return response, reused
        try:
            more = _halves(self.account.thinking.more(room), above=room)
            (again, also_reused), room = await self._first_that_fits((call.again(tokens) for tokens in more), pay)
        except ContextExceededError:
            return response, reused  # the context has no more room
        if not least:
            self._room = max(self._room, room)  # it thinks, although nobody said so
        return again, reused and also_reused

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    def worst_case(self, request: Request, *, batched: bool = False) -> Decimal:
        """Upper bound of a call's cost: as many tokens as bytes, all written to the cache, and the longest response.

        An endpoint that has ignored the limit on a response may do so again.
        """
        output, tariff = max(request.output_limit, self._largest_output), self.account.tariff
        most = tariff.most(request.size + _FRAME_TOKENS, output, cached_for_an_hour=batched)
        return most * (self.account.batch_factor if batched else 1)

    async def _first_that_fits(self, calls: Iterable[Call], pay: Payer) -> tuple[tuple[CachedResponse, bool], int]:
        """The first call's response that the model's context allows, and its room for thinking. Refused calls cost nothing."""
        refused = ContextExceededError("no room")
        for call in calls:
            try:
                return await self._once(call, pay), call.request.thinking_tokens
            except ContextExceededError as error:
                refused = error
        raise refused

    async def _once(self, call: Call, pay: Payer) -> tuple[CachedResponse, bool]:
        """The response from the cache or else from `pay`, and whether it was paid before."""
        try:
            cached = self.responses.get(call.key)
        except OSError as error:
            raise InfrastructureError(f"paid responses cannot be read ({error}); check the artifact store") from None
        if cached is not None:
            return cached, True
        return await pay(call), False

    async def _paid_call(self, call: Call) -> CachedResponse:
        """A call with its span."""
        with call_span(self.account, call.request, call.labels) as span:
            return await self._tries(call, span)

    async def _tries(self, call: Call, span: Span) -> CachedResponse:
        """Tries until there is a response or no point in another try. Every try is admitted before and settled after."""
        refused_since: float | None = None
        tries, request = 0, call.request
        while True:
            reservation = await self._admission.acquire(partial(self.worst_case, request), request.size, call.priority)
            worst = self.worst_case(request)
            began = self._retries.clock()
            span.begin()
            try:
                response = await self._client.complete(request)
            except RefusedError as error:
                refused(span, error)
                await self._settle_refusal(reservation, call.labels, worst, error)
                if filtered(error):
                    return self._filtered(error)
                refused_since = self._retries.clock() if refused_since is None else refused_since
                await self._wait(error, tries, self._deadline(error, refused_since))
                tries += 1
            except asyncio.CancelledError:
                await self._admission.settle(reservation, self._entry(call.labels, worst, lost=True), CallOutcome())
                raise
            else:
                charge = self.charge(call.labels, worst, response.usage)
                answered(span, response, str(charge["usd"]))
                return await self._keep(reservation, call, charge, response, self._retries.clock() - began)

    async def _settle_refusal(self, reservation: int, labels: dict[str, str], worst: Decimal, error: RefusedError) -> None:
        """Books a call without a response, if it costs anything. A filter's refusal says nothing about the account's limits."""
        charge = self._entry(labels, worst, lost=True) if error.maybe_billed else None
        if error.usage is not None:
            charge = self.charge(labels, worst, error.usage)
        for_good = classify(error, self.account) is not None
        retry_after = None if for_good else error.retry_after
        outcome = CallOutcome(not filtered(error), for_good=for_good, retry_after=retry_after, limits=error.limits)
        await self._admission.settle(reservation, charge, outcome)

    def _filtered(self, error: RefusedError) -> CachedResponse:
        """The empty response to a conversation that a filter refused. Raises InvalidInputError when it refuses all."""
        self._filtered_in_a_row += 1
        if self._filtered_in_a_row >= MAX_FILTERED:
            raise filtered_throughout(error, self.account, self._filtered_in_a_row)
        return CachedResponse("", FILTERED)

    async def _keep(self, reservation: int, call: Call, charge: LedgerEntry, response: Response, seconds: float) -> CachedResponse:
        """Books and stores a response."""
        self._filtered_in_a_row, self._answered_at = 0, self._retries.clock()
        self._largest_output = max(self._largest_output, response.usage.output if response.usage else 0)
        paid = kept_response(response, seconds, charge)
        await _gather_both(self._admission.settle(reservation, charge, _call_outcome(response)), self._store(call.key, paid))
        return paid

    async def _store(self, key: str, response: CachedResponse) -> None:
        try:
            await self.responses.put(key, response)
        except OSError as error:
            raise InfrastructureError(f"a paid response could not be stored ({error}); check the artifact store") from None

    def _deadline(self, error: RefusedError, refused_since: float) -> float:
        """When patience with a call ends. One refused for the account's limits has a queue of others before its next try."""
        since = max(refused_since, self._answered_at) if error.status in _AT_ITS_LIMITS else refused_since
        return since + self._retries.patience

    async def _wait(self, error: RefusedError, tries: int, deadline: float) -> None:
        """Sleeps exponentially with jitter, unless the provider names a time: then the rate limiter admits no call before.

        Raises a StageError when another try cannot help, or patience would run out first.
        """
        if (final := classify(error, self.account)) is not None:
            raise final from None
        if error.kind == UNEXPECTED_ANSWER and tries + 1 >= MAX_UNEXPECTED:
            raise unreadable(error, self.account) from None
        backoff = min(_MAX_WAIT_SECONDS, self._retries.first_wait * 2.0**tries) * self._rng.uniform(0.5, 1.0)
        if self._retries.clock() + (backoff if error.retry_after is None else error.retry_after) > deadline:
            raise unavailable(error, self.account, self._retries.patience)
        if error.retry_after is None:
            await asyncio.sleep(backoff)

    def charge(self, labels: dict[str, str], worst: Decimal, usage: Usage | None) -> LedgerEntry:
        """A call whose endpoint reports no usage is booked at the worst case."""
        if usage is None:
            return self._entry(labels, worst)
        counts = {"input": usage.input, "output": usage.output, "cacheWrite": usage.cache_write, "cacheRead": usage.cache_read}
        counts |= {"cacheWrite1h": usage.cache_write_1h} if usage.cache_write_1h else {}
        entry = self._entry(labels, self.account.tariff.cost(usage), counts)
        return {**entry, **({"thinking": usage.thinking} if usage.thinking else {})}

    def _entry(
        self, labels: dict[str, str], usd: Decimal, counts: dict[str, int] | None = None, *, lost: bool = False
    ) -> LedgerEntry:
        tokens: dict[str, Any] = {**(counts or {})}
        entry = {"model": self.account.model, "usd": str(usd), "tokens": sum(tokens.values()), **labels, **tokens}
        return entry | ({"lost": True} if lost else {})


def _halves(room: int, above: int) -> list[int]:
    """`room` and its halves, down to a sixteenth, that are larger than `above`."""
    return [tokens for power in range(5) if (tokens := room >> power) > above]


async def _gather_both(first: Awaitable[None], second: Awaitable[None]) -> None:
    """Runs both concurrently, each to its end even if the other one fails."""
    for result in await asyncio.gather(first, second, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def kept_response(response: Response, seconds: float, charge: LedgerEntry) -> CachedResponse:
    """A paid response as the cache keeps it; `seconds` is how long it took."""
    tokens = response.usage or Usage(0, 0)
    usage = CallUsage(round(seconds, 4), tokens.sent, tokens.output, str(charge["usd"]), tokens.cache_read)
    return CachedResponse(response.text, response.cut, usage)


def _call_outcome(response: Response) -> CallOutcome:
    """Tokens read from the cache count against no limit (platform.claude.com, rate limits)."""
    if response.usage is None:
        return CallOutcome(limits=response.limits)
    sent, received = response.usage.sent - response.usage.cache_read, response.usage.output
    used = {"input-tokens": sent, "output-tokens": received, "tokens": sent + response.usage.cache_read + received}
    return CallOutcome(limits=response.limits, used={name: float(amount) for name, amount in used.items()})
