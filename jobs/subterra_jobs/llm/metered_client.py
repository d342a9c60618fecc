"""Calls that are paid: within caps and limits, patient with an overloaded provider, and never twice for one answer."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from subterra_core.pricing import call_cost
from subterra_jobs.errors import InfrastructureError
from subterra_jobs.llm.account import Account
from subterra_jobs.llm.admission import Broker
from subterra_jobs.llm.client import Answer, Client, RefusedError, Request, Usage
from subterra_jobs.llm.error_policy import judge, unavailable
from subterra_jobs.llm.rate_limit import Heard
from subterra_jobs.llm.response_cache import AnswerStore, Kept, Took
from subterra_jobs.spending.ledger import Entry

PATIENCE_SECONDS = 300.0
"""How long one call is tried again before the provider counts as unavailable."""
_FRAME_TOKENS = 500
"""What the provider may add around our text."""
_LONGEST_WAIT = 30.0


class Caller:
    """Asks one model, and keeps what it answers."""

    def __init__(
        self, account: Account, client: Client, broker: Broker, answers: AnswerStore, *,
        patience: float = PATIENCE_SECONDS, first_wait: float = 0.5, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._account, self._client, self._broker, self._answers = account, client, broker, answers
        self._patience, self._first_wait, self._clock = patience, first_wait, clock
        self._rng = random.Random()

    async def ask(self, key: str, request: Request, about: dict[str, str], rank: int = 0) -> tuple[Kept, bool]:
        """The answer, and whether it was paid before. ``about`` goes into the ledger; calls of a higher rank go first.

        Raises a StageError when there is no going on.
        """
        try:
            known = self._answers.get(key)
        except OSError as error:
            raise InfrastructureError(f"paid answers cannot be read ({error}); see to the artifact store") from None
        if known is not None:
            return known, True
        return await self._paid_call(key, request, about, rank), False

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    def worst_case(self, request: Request) -> Decimal:
        """More than the call can cost: as many tokens as bytes, all written to the cache, and the longest answer."""
        price = self._account.price
        dearest = max(price.input, price.cache_write)
        return (dearest * (request.size + _FRAME_TOKENS) + price.output * request.max_tokens) / 1_000_000

    async def _paid_call(self, key: str, request: Request, about: dict[str, str], rank: int) -> Kept:
        """Tries until there is an answer or no point; every try is admitted before and settled after."""
        deadline: float | None = None
        tries, worst = 0, self.worst_case(request)
        while True:
            receipt = await self._broker.admit(worst, request.size, rank)
            began = self._clock()
            try:
                answer = await self._client.ask(request)
            except RefusedError as error:
                final = judge(error, self._account)
                charge = self._entry(about, worst, lost=True) if error.perhaps_paid else None
                await self._broker.settle(receipt, charge, Heard(True, error.retry_after, error.limits))
                if final is not None:
                    raise final from None
                deadline = deadline or self._clock() + self._patience
                await self._wait(error, tries, deadline)
                tries += 1
            except asyncio.CancelledError:
                await self._broker.settle(receipt, self._entry(about, worst, lost=True), Heard())
                raise
            else:
                charge = self._charge(about, worst, answer.usage)
                took = _took(self._clock() - began, answer.usage, charge)
                kept = Kept(answer.text, answer.cut, took)
                await _both(self._broker.settle(receipt, charge, _heard(answer)), self._keep(key, kept))
                return kept

    async def _keep(self, key: str, kept: Kept) -> None:
        try:
            await self._answers.keep(key, kept)
        except OSError as error:
            raise InfrastructureError(f"a paid answer could not be kept ({error}); see to the artifact store") from None

    async def _wait(self, error: RefusedError, tries: int, deadline: float) -> None:
        """Sleeps exponentially with jitter, unless the provider says how long: then the broker lets nobody go before.

        Raises when patience would run out first.
        """
        backoff = min(_LONGEST_WAIT, self._first_wait * 2.0**tries) * self._rng.uniform(0.5, 1.0)
        if self._clock() + (backoff if error.retry_after is None else error.retry_after) > deadline:
            raise unavailable(error, self._patience)
        if error.retry_after is None:
            await asyncio.sleep(backoff)

    def _charge(self, about: dict[str, str], worst: Decimal, usage: Usage | None) -> Entry:
        """An endpoint that does not tell what it counted is booked at the worst case."""
        if usage is None:
            return self._entry(about, worst)
        counts = {"input": usage.input, "output": usage.output, "cacheWrite": usage.cache_write, "cacheRead": usage.cache_read}
        usd = call_cost(self._account.price, usage.input, usage.output, usage.cache_write, usage.cache_read)
        return self._entry(about, usd, counts)

    def _entry(self, about: dict[str, str], usd: Decimal, counts: dict[str, int] | None = None, *, lost: bool = False) -> Entry:
        known: dict[str, Any] = {**(counts or {})}
        entry = {"model": self._account.model, "usd": str(usd), "tokens": sum(known.values()), **about, **known}
        return entry | ({"lost": True} if lost else {})


async def _both(first: Awaitable[None], second: Awaitable[None]) -> None:
    """At once, each to its end whatever becomes of the other."""
    for result in await asyncio.gather(first, second, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _took(seconds: float, usage: Usage | None, charge: Entry) -> Took:
    known = usage or Usage(0, 0)
    return Took(round(seconds, 4), known.input + known.cache_write + known.cache_read, known.output, str(charge["usd"]))


def _heard(answer: Answer) -> Heard:
    """What is read from the cache counts against no limit (platform.claude.com, rate limits)."""
    if answer.usage is None:
        return Heard(limits=answer.limits)
    sent, said = answer.usage.input + answer.usage.cache_write, answer.usage.output
    used = {"input-tokens": sent, "output-tokens": said, "tokens": sent + answer.usage.cache_read + said}
    return Heard(limits=answer.limits, used={name: float(amount) for name, amount in used.items()})
