"""The paid teacher: the Messages API, one call per node, within the cap, patient with an overloaded provider."""

import asyncio
import os
import random
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import anthropic

from subterra_api.graph import Graph
from subterra_api.pricing import TokenPrice, UnknownModelError, call_cost, price_of
from subterra_jobs.common.errors import InvalidInputError
from subterra_jobs.common.ledger import Entry
from subterra_jobs.common.purse import Purse
from subterra_jobs.common.scripted import Utterance
from subterra_jobs.generate.pilot import Decision
from subterra_jobs.generate.plan import Slot
from subterra_jobs.generate.prompts import Prompts, Request, chosen
from subterra_jobs.generate.provider_errors import judge, may_have_been_paid, retry_after, unavailable
from subterra_jobs.generate.writer import BadTurnError

MAX_TOKENS = 400
"""Of one turn."""
PATIENCE_SECONDS = 300.0
"""How long one call is tried again before the provider counts as unavailable."""
CALL_TIMEOUT_SECONDS = 120.0
_FRAME_TOKENS = 500
"""What the provider may add around our text."""
_LONGEST_WAIT = 30.0


def key_and_model(model: str | None) -> tuple[str, str, TokenPrice]:
    """Key, model and its price, checked before anything starts. Raises InvalidInputError with the cure."""
    if not model:
        raise InvalidInputError("the anthropic teacher needs a model; set generation.teacher.model")
    try:
        price = price_of(model)
    except UnknownModelError as error:
        raise InvalidInputError(f"generation.teacher.model: {error}") from None
    key = os.environ.get("ANTHROPIC_API_KEY", "")
    if not key:
        raise InvalidInputError("the anthropic teacher needs a key; name a Secret in execution.apiKeySecret")
    return key, model, price


class AnthropicTeacher:
    """Base URL and key come from ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY."""

    paid = True

    def __init__(
        self, graph: Graph, model: str | None, purse: Purse, owner: str, *, patience: float = PATIENCE_SECONDS,
        first_wait: float = 0.5, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._key, self._model, self._price = key_and_model(model)
        self._prompts, self._purse, self._owner = Prompts(graph), purse, owner
        self._patience, self._first_wait, self._clock = patience, first_wait, clock
        self._rng = random.Random()
        # Retries are ours: the SDK's own would be neither counted nor bounded by our patience.
        self._client = anthropic.AsyncAnthropic(
            api_key=self._key, base_url=os.environ.get("ANTHROPIC_BASE_URL") or None, max_retries=0, timeout=CALL_TIMEOUT_SECONDS
        )

    async def say(self, slot: Slot, position: int, said: Sequence[Utterance]) -> str:
        """The teacher's words for one node."""
        request = self._prompts.of(slot, position, said)
        answer = await self._paid_call(request, {"conversation": slot.id, "node": slot.path[position]})
        if answer.stop_reason not in ("end_turn", "stop_sequence"):
            raise BadTurnError(f"ended with {answer.stop_reason}")
        return "".join(block.text for block in answer.content if block.type == "text").strip().strip('"').strip()

    async def guess(self, slot: Slot, decision: Decision, said: Sequence[Utterance]) -> str:
        """The option that the model names by its number."""
        about = {"conversation": slot.id, "reads": slot.path[decision.position]}
        answer = await self._paid_call(self._prompts.reading(slot, decision, said), about)
        return chosen(decision, "".join(block.text for block in answer.content if block.type == "text"))

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    def worst_case(self, request: Request) -> Decimal:
        """More than the call can cost: as many tokens as bytes, all written to the cache, and the longest answer."""
        dearest = max(self._price.input, self._price.cache_write)
        return (dearest * (request.size + _FRAME_TOKENS) + self._price.output * MAX_TOKENS) / 1_000_000

    async def _paid_call(self, request: Request, about: dict[str, str]) -> anthropic.types.Message:
        """Tries until there is an answer or no point; every try is reserved before and settled after."""
        deadline: float | None = None
        tries = 0
        while True:
            receipt = await self._purse.reserve(self._owner, self.worst_case(request))
            try:
                answer = await self._create(request)
            except anthropic.APIError as error:
                charge = self._entry(about, self.worst_case(request), lost=True) if may_have_been_paid(error) else None
                await self._purse.settle(receipt, charge)
                if (final := judge(error, self._model, self._key)) is not None:
                    raise final from None
                deadline = deadline or self._clock() + self._patience
                await self._wait(error, tries, deadline)
                tries += 1
            except asyncio.CancelledError:
                await self._purse.settle(receipt, self._entry(about, self.worst_case(request), lost=True))
                raise
            else:
                await self._purse.settle(receipt, self._entry(about, *self._cost(answer.usage)))
                return answer

    async def _create(self, request: Request) -> anthropic.types.Message:
        system: Any = request.system
        return await self._client.messages.create(
            model=self._model, max_tokens=MAX_TOKENS, system=system, messages=[{"role": "user", "content": request.message}]
        )

    async def _wait(self, error: anthropic.APIError, tries: int, deadline: float) -> None:
        """Sleeps as long as the provider asks, else exponentially with jitter. Raises when patience would run out first."""
        backoff = min(_LONGEST_WAIT, self._first_wait * 2.0**tries) * self._rng.uniform(0.5, 1.0)
        asked = retry_after(error)
        pause = backoff if asked is None else asked + self._rng.uniform(0, self._first_wait)
        if self._clock() + pause > deadline:
            raise unavailable(error, self._patience)
        await asyncio.sleep(pause)

    def _cost(self, usage: anthropic.types.Usage) -> tuple[Decimal, dict[str, int]]:
        write, read = usage.cache_creation_input_tokens or 0, usage.cache_read_input_tokens or 0
        counts = {"input": usage.input_tokens, "output": usage.output_tokens, "cacheWrite": write, "cacheRead": read}
        return call_cost(self._price, usage.input_tokens, usage.output_tokens, write, read), counts

    def _entry(self, about: dict[str, str], usd: Decimal, counts: dict[str, int] | None = None, *, lost: bool = False) -> Entry:
        known = counts or {}
        entry = {"model": self._model, "usd": str(usd), "tokens": sum(known.values()), **about, **known}
        return entry | ({"lost": True} if lost else {})
