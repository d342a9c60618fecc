"""Models that think, refuse, stop early and retire: over the wire, with the real SDKs against a fake provider."""

import asyncio
import random
from decimal import Decimal
from typing import Any

import pytest

from subterra_jobs.errors import BudgetExceededError, InvalidInputError, ProviderBlockedError, ProviderUnavailableError
from subterra_jobs.llm.behavior.reasons import REASON_LENGTH
from subterra_jobs.llm.client import single_message
from subterra_jobs.llm.metered_client import MAX_FILTERED, MAX_UNEXPECTED
from subterra_testkit.runs.metered_calls import FIELD
from subterra_testkit.servers.fake_llm_api import (
    BROKEN_JSON,
    FILTERED,
    HTML_PAGE,
    NO_CHOICES,
    NO_CONTENT,
    OVERLOADED,
    FakeLLMApi,
    Fault,
)
from subterra_testkit.servers.fake_model import LUNA, FakeModel, Stop

SONNET = {"name": "anthropic", "model": "claude-sonnet-5-5"}
GPT = {"name": "openai", "model": "gpt-6-luna", "effort": "low"}
BOTH = pytest.mark.parametrize("provider", [SONNET, GPT], ids=["anthropic", "openai"])
THINKING = FakeModel(thinks=(300, 2000))
QWEN = {"name": "openai", "model": "qwen"}


def thinking_model(provider: dict[str, Any], **more: Any) -> FakeModel:
    return FakeModel(thinks=(300, 2000), prices=LUNA, **more) if provider is GPT else FakeModel(thinks=(300, 2000), **more)


@BOTH
async def test_a_model_that_thinks_first_answers_in_full_and_is_billed_to_the_cent(serving: Any, provider: dict[str, Any]) -> None:
    with serving(FakeLLMApi(model=thinking_model(provider)), provider) as setup:
        answers = [await setup.ask(f"Question {number}") for number in range(20)]
        await setup.close()
    assert [answer.cut for answer in answers] == [None] * 20
    assert setup.api.calls == 20
    assert setup.booked() == setup.api.bill
    assert all(300 <= entry["thinking"] <= 2000 for entry in setup.ledger())


@BOTH
async def test_the_request_carries_the_least_effort_and_room_for_thinking(serving: Any, provider: dict[str, Any]) -> None:
    with serving(FakeLLMApi(model=thinking_model(provider)), provider) as setup:
        await setup.ask()
        await setup.close()
    body = setup.api.bodies[0]
    assert body.get("reasoning_effort", body.get("output_config", {}).get("effort")) == "low"
    assert body.get("max_completion_tokens", body.get("max_tokens")) == 400 + 4096
    assert body["service_tier"] in ("standard_only", "default")


async def test_a_model_that_does_not_think_is_asked_as_ever(serving: Any) -> None:
    with serving(FakeLLMApi(), {"name": "anthropic", "model": "claude-sonnet-4-6"}) as setup:
        await setup.ask()
        await setup.close()
    body = setup.api.bodies[0]
    assert body["max_tokens"] == 400
    assert not {"output_config", "thinking"} & set(body)


async def test_no_effort_turns_thinking_off_by_the_models_own_word(serving: Any) -> None:
    with serving(FakeLLMApi(model=THINKING), SONNET | {"effort": "none"}) as setup:
        await setup.ask()
        await setup.close()
    body = setup.api.bodies[0]
    assert (body["thinking"], body["max_tokens"]) == ({"type": "between_tools"}, 400)
    assert setup.booked() == setup.api.bill


@BOTH
@pytest.mark.parametrize("thinks", [(5000, 6000), (4300, 4490)], ids=["inside thinking", "after thinking"])
async def test_an_answer_cut_by_thinking_is_asked_for_once_more_with_more_room(
    serving: Any, provider: dict[str, Any], thinks: tuple[int, int]
) -> None:
    model = FakeModel(thinks=thinks, prices=LUNA if provider is GPT else FakeModel().prices)
    with serving(FakeLLMApi(model=model, output_tokens=220), provider) as setup:
        answer = await setup.ask()
        assert await setup.ask(client=setup.client()) == answer  # after a restart nothing is paid again
        await setup.close()
    assert (answer.cut, bool(answer.text)) == (None, True)
    assert setup.api.calls == 2
    assert setup.booked() == setup.api.bill


@BOTH
async def test_a_model_that_thinks_beyond_the_second_room_is_cut_and_says_so(serving: Any, provider: dict[str, Any]) -> None:
    with serving(FakeLLMApi(model=FakeModel(thinks=(90_000, 90_000))), provider) as setup:
        assert (await setup.ask()).cut == "thinking"
        await setup.close()
    assert setup.api.calls == 2


async def test_a_server_of_ones_own_that_thinks_unannounced_gets_room_from_then_on(serving: Any) -> None:
    model = FakeModel(thinks=(300, 2000), inline_thinking=True)
    with serving(FakeLLMApi(model=model), QWEN, own="/v1") as setup:
        answers = [await setup.ask(f"Question {number}") for number in range(10)]
        await setup.close()
    assert [answer.cut for answer in answers] == [None] * 10
    assert not any("think>" in answer.text for answer in answers)
    assert setup.api.calls <= 11 + sum(body["max_completion_tokens"] == 400 for body in setup.api.bodies) - 1
    assert setup.booked() == setup.api.bill


@pytest.mark.parametrize(("context", "rooms"), [(4096, [0, 4096, 2048]), (1500, [0, 4096, 2048, 1024])])
async def test_room_for_thinking_shrinks_to_what_a_short_context_allows(serving: Any, context: int, rooms: list[int]) -> None:
    model = FakeModel(thinks=(800, 900), inline_thinking=True)
    with serving(FakeLLMApi(model=model, context=context), QWEN, own="/v1") as setup:
        answer = await setup.ask()
        await setup.close()
    assert [body["max_completion_tokens"] - 400 for body in setup.api.bodies] == rooms
    assert (answer.cut, "think>" in answer.text) == (None, False)
    assert setup.booked() == setup.api.bill


async def test_a_context_without_any_room_for_thinking_leaves_the_answer_cut(serving: Any) -> None:
    model = FakeModel(thinks=(800, 900), inline_thinking=True)
    with serving(FakeLLMApi(model=model, context=420), QWEN, own="/v1") as setup:
        assert (await setup.ask()).cut == "thinking"
        await setup.close()
    assert setup.api.paid == 1


async def test_a_request_longer_than_the_context_names_a_longer_one_as_the_fix(serving: Any) -> None:
    with serving(FakeLLMApi(context=300), QWEN, own="/v1") as setup:
        message = await setup.failure(InvalidInputError)
        await setup.close()
    assert "longer than qwen takes" in message and "max_model_len=300" in message
    assert f"name a {FIELD}.model with a longer context" in message
    assert setup.api.calls == 1


@BOTH
@pytest.mark.parametrize(
    ("stop", "anthropic", "openai"),
    [
        ("refusal", "refusal", "refusal"),
        ("filter", "refusal", "content_filter"),
        ("tool", "tool_use", "tool_use"),
        ("pause", "pause_turn", "empty"),
        ("empty", "empty", "empty"),
    ],
)
async def test_a_stop_without_text_has_a_name_and_is_billed(
    serving: Any, provider: dict[str, Any], stop: Stop, anthropic: str, openai: str
) -> None:
    model = thinking_model(provider, shares={stop: 1.0})
    with serving(FakeLLMApi(model=model), provider) as setup:
        answer = await setup.ask()
        await setup.close()
    assert answer.cut == (anthropic if provider is SONNET else openai)
    assert setup.booked() == setup.api.bill > 0


@pytest.mark.parametrize(
    ("provider", "model", "successor"),
    [("anthropic", "claude-sonnet-4-5", "claude-sonnet-5-5"), ("openai", "gpt-4.1", "gpt-6-luna"), ("openai", "gpt-5", "gpt-6")],
)
async def test_an_ambiguous_404_names_the_model_and_its_successor(serving: Any, provider: str, model: str, successor: str) -> None:
    with serving(FakeLLMApi(retired={model}), {"name": provider, "model": model}) as setup:
        message = await setup.failure(InvalidInputError)
        await setup.close()
    assert f"no longer serves model '{model}'" in message
    assert f"set {FIELD}.model to {successor}" in message


@BOTH
async def test_overload_is_waited_for(serving: Any, provider: dict[str, Any]) -> None:
    with serving(FakeLLMApi(model=thinking_model(provider)), provider) as setup:
        setup.api.faults.extend([OVERLOADED] * 3)
        assert (await setup.ask()).cut is None
        await setup.close()
    assert setup.booked() == setup.api.bill


@BOTH
@pytest.mark.parametrize("fault", [HTML_PAGE, NO_CHOICES, NO_CONTENT, BROKEN_JSON, Fault(body="[]"), Fault(body="null")])
async def test_an_answer_of_unexpected_form_is_one_refused_call(serving: Any, provider: dict[str, Any], fault: Fault) -> None:
    with serving(FakeLLMApi(model=thinking_model(provider)), provider) as setup:
        setup.api.faults.append(fault)
        assert (await setup.ask()).cut is None
        await setup.close()
    assert setup.api.calls == 2
    assert setup.booked() >= setup.api.bill  # a call whose usage is unknown counts in full


async def test_answers_that_never_take_the_apis_form_end_the_stage_with_a_readable_reason(serving: Any) -> None:
    with serving(FakeLLMApi(script=lambda _: HTML_PAGE), SONNET) as setup:
        message = await setup.failure(ProviderUnavailableError)
        await setup.close()
    assert "an HTML page: Welcome" in message
    assert setup.api.calls == MAX_UNEXPECTED


@BOTH
async def test_a_filtered_conversation_is_empty_and_the_next_goes_on(serving: Any, provider: dict[str, Any]) -> None:
    with serving(FakeLLMApi(model=thinking_model(provider)), provider) as setup:
        setup.api.faults.append(FILTERED)
        assert (await setup.ask("bad")).cut == "content_filter"
        assert (await setup.ask("good")).cut is None
        await setup.close()
    assert setup.booked() == setup.api.bill


async def test_a_filter_that_refuses_every_call_ends_the_stage(serving: Any) -> None:
    with serving(FakeLLMApi(script=lambda _: FILTERED), SONNET) as setup:
        for number in range(MAX_FILTERED - 1):
            assert (await setup.ask(str(number))).cut == "content_filter"
        message = await setup.failure(InvalidInputError)
        await setup.close()
    assert "Output blocked by content filtering policy" in message
    assert setup.booked() == 0


async def test_another_400_still_ends_the_stage(serving: Any) -> None:
    with serving(FakeLLMApi(after=(0, Fault(400, "invalid_request_error", "messages: too long"))), SONNET) as setup:
        assert "messages: too long" in await setup.failure(InvalidInputError)
        await setup.close()


async def test_a_refusal_for_good_slows_no_call_that_waits(serving: Any) -> None:
    """Else whoever has a wrong key reads so minutes later, when the last of many conversations has been refused too."""
    with serving(FakeLLMApi(after=(0, Fault(401, "authentication_error", "invalid x-api-key"))), SONNET) as setup:
        client = setup.client()
        async with asyncio.timeout(20):
            results = await asyncio.gather(*(setup.ask(str(number), client) for number in range(40)), return_exceptions=True)
        await setup.close()
    assert {type(result) for result in results} == {ProviderBlockedError}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"detail": "Model too busy for you"}', "Model too busy for you"),
        ('{"detail": [{"loc": ["body", "messages"], "msg": "field required"}]}', "field required (at body.messages)"),
        ('{"message": "no such thing", "object": "error"}', "no such thing"),
        ('{"error": "plain words"}', "plain words"),
        ("\x1b[31mred words\x1b[0m of a proxy", "red words of a proxy"),
        ("<html><head><title>413 Too Large</title></head></html>", "an HTML page: 413 Too Large"),
        ("x" * 5000, "x" * 100),
    ],
)
async def test_the_real_reason_of_a_compatible_endpoint_is_quoted(serving: Any, body: str, said: str) -> None:
    with serving(FakeLLMApi(after=(0, Fault(400, body=body))), QWEN, own="/v1") as setup:
        message = await setup.failure(InvalidInputError)
        await setup.close()
    assert said in message
    assert len(message) < 2 * REASON_LENGTH


async def test_a_server_that_knows_only_the_old_limit_gets_that_one(serving: Any) -> None:
    with serving(FakeLLMApi(unknown_fields={"max_completion_tokens"}), QWEN, own="/v1") as setup:
        assert (await setup.ask("one")).cut is None
        assert (await setup.ask("two")).cut is None
        await setup.close()
    assert [body.get("max_tokens") for body in setup.api.bodies] == [None, 400, 400]


@pytest.mark.parametrize("provider", [SONNET, GPT])
async def test_a_proxy_without_service_tiers_gets_none(serving: Any, provider: dict[str, Any]) -> None:
    with serving(FakeLLMApi(unknown_fields={"service_tier"}), provider) as setup:
        assert (await setup.ask("one")).cut is None
        assert (await setup.ask("two")).cut is None
        await setup.close()
    assert setup.api.calls == 3


async def test_an_address_without_v1_is_named(serving: Any) -> None:
    with serving(FakeLLMApi(), QWEN, own="") as setup:
        message = await setup.failure(InvalidInputError)
        await setup.close()
    assert f"{FIELD}.baseURL" in message
    assert f"use {setup.api.url}/v1" in message


async def test_an_own_servers_further_fields_are_sent(serving: Any) -> None:
    template = {"chat_template_kwargs": {"enable_thinking": False}}
    with serving(FakeLLMApi(), QWEN | {"extraBody": template}, own="/v1") as setup:
        await setup.ask()
        await setup.close()
    assert setup.api.bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}
    assert "service_tier" not in setup.api.bodies[0]


async def test_an_endpoint_that_ignores_the_limit_exceeds_the_cap_by_no_more_than_one_answer(serving: Any) -> None:
    model = FakeModel(ignores_limit=True)
    with serving(FakeLLMApi(model=model, output_tokens=4000, input_tokens=1), QWEN, own="/v1", max_usd="0.1") as setup:
        for number in range(2):
            await setup.ask(str(number))
        await setup.failure(BudgetExceededError)
        await setup.close()
    assert setup.api.calls == 2
    assert setup.booked() <= Decimal("0.1")


async def test_calls_that_waited_are_reserved_for_by_what_was_learned_meanwhile(serving: Any) -> None:
    model = FakeModel(ignores_limit=True)
    with serving(FakeLLMApi(model=model, output_tokens=4000, input_tokens=1), QWEN, own="/v1", max_usd="0.8") as setup:
        client = setup.client()
        results = await asyncio.gather(*(setup.ask(str(number), client) for number in range(40)), return_exceptions=True)
        await setup.close()
    assert any(isinstance(result, BudgetExceededError) for result in results)
    assert setup.booked() <= Decimal("0.8") + 8 * Decimal("0.04")  # eight were in flight before the first answer


async def test_tokens_written_for_an_hour_and_long_prompts_are_billed_at_their_own_prices(serving: Any) -> None:
    model = FakeModel(cached_for_an_hour=True)
    with serving(FakeLLMApi(model=model, input_tokens=None), SONNET) as setup:
        client = setup.client()
        system = "You play the agent. " * 1000
        for number in range(3):
            await client.complete(str(number), single_message(system, str(number)), {})
        await setup.close()
    assert [entry.get("cacheWrite1h", 0) > 0 for entry in setup.ledger()] == [True, False, False]
    assert setup.booked() == setup.api.bill


async def test_a_long_prompt_costs_the_long_prompts_price(serving: Any) -> None:
    with serving(FakeLLMApi(input_tokens=300_000, output_tokens=100), GPT) as setup:
        await setup.ask()
        await setup.close()
    assert setup.booked() == (300_000 * Decimal("0.1") * 2 + 100 * Decimal("0.5") * Decimal("1.5")) / 1_000_000


async def test_a_key_that_no_header_can_carry_is_named_before_the_first_call(serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(FakeLLMApi(), GPT) as setup:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-sec…ret")
        with pytest.raises(InvalidInputError, match=r"the key of provider openai has .*; correct the Secret") as refused:
            setup.client()
    assert "sk-sec" not in str(refused.value)
    assert setup.api.calls == 0


@BOTH
async def test_a_nasty_provider_costs_patience_and_never_a_cent_more(serving: Any, provider: dict[str, Any]) -> None:
    """Everything at once, by a seed."""
    faults = [OVERLOADED, HTML_PAGE, FILTERED, Fault(500), Fault(429, "rate_limit_error", retry_after=0.01), Fault(cut=True)]
    shares: dict[Stop, float] = {"refusal": 0.05, "tool": 0.05, "empty": 0.05, "pause": 0.05}
    model = FakeModel(thinks=(300, 6000), shares=shares, prices=LUNA if provider is GPT else FakeModel().prices)
    rng = random.Random(7)
    script = lambda _: rng.choice(faults) if rng.random() < 0.3 else None  # noqa: E731
    with serving(FakeLLMApi(model=model, script=script), provider, patience=60) as setup:
        answers = [await setup.ask(f"Question {number}") for number in range(60)]
        await setup.close()
    cuts = {answer.cut for answer in answers}
    assert {None, "refusal", "tool_use", "content_filter"} <= cuts
    assert "thinking" not in cuts
    assert setup.booked() == setup.api.bill
