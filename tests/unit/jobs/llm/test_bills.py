"""Calls cost what the provider bills, and no more is in flight than they could cost: over the wire, with the real SDKs."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from subterra_jobs.errors import BudgetExceededError
from subterra_jobs.llm.client import Request, single_message
from subterra_testkit.servers.fake_llm_api import HTML_PAGE, FakeLLMApi
from subterra_testkit.servers.fake_model import LUNA, FakeModel

SONNET = {"name": "anthropic", "model": "claude-sonnet-5-5"}
GPT = {"name": "openai", "model": "gpt-6-luna", "effort": "low"}
OUTPUT = 400 + 4096
"""Tokens of an answer with the room for thinking at low effort."""
LONG_SYSTEM = "You play the agent of a travel agency. " * 200
"""Long enough for every provider's cache."""


@pytest.mark.parametrize("tier", ["priority", "fast"])
async def test_an_answer_of_a_dearer_service_tier_is_booked_at_its_price(serving: Any, tier: str) -> None:
    with serving(FakeLLMApi(model=FakeModel(prices=LUNA, tier=tier)), GPT) as setup:
        await setup.ask()
        await setup.close()
    assert setup.booked() == setup.api.bill == 2 * (600 * LUNA.input + 120 * LUNA.output) / 1_000_000


@pytest.mark.parametrize("provider", [SONNET, GPT], ids=["anthropic", "openai"])
async def test_what_many_calls_share_is_written_to_the_cache_once_and_then_read_and_billed_as_such(
    serving: Any, provider: dict[str, Any]
) -> None:
    model = FakeModel(prices=LUNA) if provider is GPT else FakeModel()
    with serving(FakeLLMApi(model=model, input_tokens=None), provider) as setup:
        client = setup.client()
        for number in range(3):
            await client.complete(str(number), single_message(LONG_SYSTEM, str(number)), {})
        await setup.close()
    entries = setup.ledger()
    assert [(entry["cacheWrite"] > 0, entry["cacheRead"] > 0) for entry in entries] == [(True, False), (False, True), (False, True)]
    assert setup.booked() == setup.api.bill


@pytest.mark.parametrize(("max_usd", "calls"), [("0.04", 0), ("0.05", 1)], ids=["too little", "enough"])
async def test_the_room_for_thinking_is_reserved_before_the_call(serving: Any, max_usd: str, calls: int) -> None:
    """The answer's own limit alone would cost half a cent."""
    with serving(FakeLLMApi(), SONNET, max_usd=max_usd) as setup:
        if calls:
            await setup.ask()
        else:
            await setup.failure(BudgetExceededError)
        await setup.close()
    assert setup.api.calls == calls


async def test_an_answer_of_unexpected_form_holds_no_money_back(serving: Any) -> None:
    """The cap covers one call in flight, not two."""
    with serving(FakeLLMApi(), SONNET, max_usd="0.06") as setup:
        setup.api.faults.append(HTML_PAGE)
        assert (await asyncio.wait_for(setup.ask(), 20)).cut is None
        await setup.close()
    assert setup.api.calls == 2


@pytest.mark.parametrize(
    ("size", "batched", "least"),
    [
        (300_000, False, 300_000 * LUNA.input * 2 + OUTPUT * LUNA.output * Decimal("1.5")),
        (30_000, False, 30_000 * LUNA.written + OUTPUT * LUNA.output),
        (30_000, True, (30_000 * LUNA.written_1h + OUTPUT * LUNA.output) / 2),
    ],
    ids=["a long prompt", "written to the cache", "written to the cache for an hour, in a batch"],
)
async def test_no_call_costs_more_than_was_reserved_for_it(serving: Any, size: int, batched: bool, least: Decimal) -> None:
    with serving(FakeLLMApi(), GPT) as setup:
        client = setup.client()
        request = Request("x" * size, ({"role": "user", "content": "Hello?"},), thinking_tokens=4096)
        reserved = client.worst_case(request, batched=batched)
        await setup.close()
    assert least / 1_000_000 <= reserved < Decimal("1.5") * least / 1_000_000
