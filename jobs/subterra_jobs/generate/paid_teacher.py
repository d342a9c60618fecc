"""The paid teacher: one call per node, within caps and limits, patient with an overloaded provider."""

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from subterra_api.contract import KEY_VARIABLES, PRICES_VARIABLE
from subterra_api.graph import Graph
from subterra_api.pricing import TokenPrice, UnknownModelError, call_cost, price_of, prices_from
from subterra_api.v1alpha1.compilerun import Provider
from subterra_jobs.common.errors import InfrastructureError, InvalidInputError
from subterra_jobs.common.ledger import Entry
from subterra_jobs.generate.broker import Broker
from subterra_jobs.generate.pilot import Decision
from subterra_jobs.generate.prompts import Prompts, Request, chosen
from subterra_jobs.generate.provider import MAX_TOKENS, Answer, Client, RefusedError, Usage
from subterra_jobs.generate.provider_errors import judge, unavailable
from subterra_jobs.generate.rates import Heard
from subterra_jobs.generate.turn_keys import TurnKeys
from subterra_jobs.generate.turns import Kept, TurnStore
from subterra_jobs.generate.writer import BadTurnError, Conversation, Words

PATIENCE_SECONDS = 300.0
"""How long one call is tried again before the provider counts as unavailable."""
_FRAME_TOKENS = 500
"""What the provider may add around our text."""
_LONGEST_WAIT = 30.0


@dataclass(frozen=True)
class Account:
    """What calling a provider needs."""

    provider: str
    model: str
    price: TokenPrice
    key: str


def account_of(teacher: Provider) -> Account:
    """Checked before anything starts. Raises InvalidInputError with the cure."""
    assert teacher.model, "the API asks for it"
    try:
        price = price_of(teacher.model, prices_from(os.environ.get(PRICES_VARIABLE, "")))
    except UnknownModelError as error:
        raise InvalidInputError(f"generation.teacher.model: {error}") from None
    if teacher.base_url and teacher.base_url != os.environ.get("OPENAI_BASE_URL", ""):
        raise InvalidInputError(
            f"generation.teacher.baseURL: {teacher.base_url} is no endpoint that this cluster's administrator allows, and it would "
            "receive the key; add it to openai.endpoints of the chart's values"
        )
    key = os.environ.get(KEY_VARIABLES[teacher.name], "")
    if not key and price.paid:
        raise InvalidInputError(f"the {teacher.name} teacher needs a key; name a Secret in execution.apiKeySecret")
    return Account(teacher.name, teacher.model, price, key)


def client_of(account: Account) -> Client:
    """The provider's client; its SDK is imported only where it is needed."""
    if account.provider == "anthropic":
        from subterra_jobs.generate.anthropic_client import AnthropicClient

        return AnthropicClient(account.model, account.key)
    from subterra_jobs.generate.openai_client import OpenAIClient

    return OpenAIClient(account.model, account.key)


class PaidTeacher:
    """Asks a provider for every turn."""

    paid = True

    def __init__(
        self, graph: Graph, account: Account, client: Client, broker: Broker, owner: str, turns: TurnStore, *,
        patience: float = PATIENCE_SECONDS, first_wait: float = 0.5, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._account, self._client, self._broker, self._owner = account, client, broker, owner
        self._prompts, self._keys, self._turns = Prompts(graph), TurnKeys(graph), turns
        self._patience, self._first_wait, self._clock = patience, first_wait, clock
        self._rng = random.Random()

    async def say(self, so_far: Conversation, attempt: int) -> Words:
        """The teacher's words for the next node. Conversations that are further on go first, so that they end before others begin.

        Raises BadTurnError when they do not come to an end.
        """
        slot, position = so_far.slot, len(so_far.said)
        request = self._prompts.of(slot, position, so_far.said)
        key = self._keys.turn(slot, so_far.keys, request, attempt)
        kept, reused = await self._ask(key, request, {"conversation": slot.id, "node": slot.path[position]}, rank=position)
        if kept.cut is not None:
            raise BadTurnError(f"ended with {kept.cut}")
        return Words(kept.text.strip().strip('"').strip(), key, reused)

    async def guess(self, so_far: Conversation, decision: Decision) -> Words:
        """The option that the model names by its number."""
        slot, position = so_far.slot, decision.position
        request = self._prompts.reading(slot, decision, so_far.said[: position + 1])
        key = self._keys.reading(slot, so_far.keys[position], request)
        kept, reused = await self._ask(key, request, {"conversation": slot.id, "reads": slot.path[position]}, rank=position)
        return Words(chosen(decision, kept.text), key, reused)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    def worst_case(self, request: Request) -> Decimal:
        """More than the call can cost: as many tokens as bytes, all written to the cache, and the longest answer."""
        price = self._account.price
        dearest = max(price.input, price.cache_write)
        return (dearest * (request.size + _FRAME_TOKENS) + price.output * MAX_TOKENS) / 1_000_000

    async def _ask(self, key: str, request: Request, about: dict[str, str], rank: int) -> tuple[Kept, bool]:
        """The answer, and whether it was paid before; ``about`` goes into the ledger."""
        try:
            known = self._turns.get(key)
        except OSError as error:
            raise InfrastructureError(f"paid turns cannot be read ({error}); see to the artifact store") from None
        if known is not None:
            return known, True
        return await self._paid_call(key, request, about, rank), False

    async def _paid_call(self, key: str, request: Request, about: dict[str, str], rank: int) -> Kept:
        """Tries until there is an answer or no point; every try is admitted before and settled after."""
        deadline: float | None = None
        tries, worst = 0, self.worst_case(request)
        while True:
            receipt = await self._broker.admit(self._owner, worst, request.size, rank)
            try:
                answer = await self._client.ask(request)
            except RefusedError as error:
                final = judge(error, self._account.model, self._account.key)
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
                kept = Kept(answer.text, answer.cut)
                settling = self._broker.settle(receipt, self._charge(about, worst, answer.usage), _heard(answer))
                await _both(settling, self._keep(key, kept))
                return kept

    async def _keep(self, key: str, kept: Kept) -> None:
        try:
            await self._turns.keep(key, kept)
        except OSError as error:
            raise InfrastructureError(f"a paid turn could not be kept ({error}); see to the artifact store") from None

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


def _heard(answer: Answer) -> Heard:
    """What is read from the cache counts against no limit (platform.claude.com, rate limits)."""
    if answer.usage is None:
        return Heard(limits=answer.limits)
    sent, said = answer.usage.input + answer.usage.cache_write, answer.usage.output
    used = {"input-tokens": sent, "output-tokens": said, "tokens": sent + answer.usage.cache_read + said}
    return Heard(limits=answer.limits, used={name: float(amount) for name, amount in used.items()})
