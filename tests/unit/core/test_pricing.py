"""Prices are exact and never guessed."""

from decimal import Decimal

import pytest

from subterra_core.pricing import (
    NEVER,
    TokenPrice,
    UnknownModelError,
    break_even,
    call_cost,
    format_usd,
    parse_prices,
    price_of,
    usd_per_conversation,
)


def test_a_call_costs_what_the_price_list_says() -> None:
    price = price_of("claude-sonnet-4-5")
    assert call_cost(price, 1_000_000, 0) == 3
    assert call_cost(price, 0, 1_000_000) == 15
    assert call_cost(price, 1000, 200, cache_write=2000, cache_read=10_000) == Decimal("0.0165")


def test_a_dated_model_has_the_price_of_its_family() -> None:
    assert price_of("claude-sonnet-4-5-20250929") == price_of("claude-sonnet-4-5")
    assert price_of("gpt-4.1-mini-2025-04-14") == price_of("gpt-4.1-mini") != price_of("gpt-4.1")


def test_an_administrators_price_comes_first_and_makes_a_model_known() -> None:
    given = parse_prices('{"gpt-4.1": {"input": "1", "output": "4", "cacheRead": "0.1"}, "qwen": {"input": "0", "output": "0"}}')
    assert price_of("gpt-4.1", given) == TokenPrice(Decimal(1), Decimal(4), Decimal(1), Decimal("0.1"))
    assert not price_of("qwen", given).costs_money
    with pytest.raises(UnknownModelError, match=r"`prices` has gpt-4\.1, qwen"):
        price_of("llama", given)


@pytest.mark.parametrize("model", ["claude-sonnet-4-50", "gpt-4.1-huge", "gpt-4o-mini-x", ""])
def test_a_model_without_a_price_is_refused_with_the_ways_to_one(model: str) -> None:
    with pytest.raises(UnknownModelError, match="`subterra models` lists those with a list price; or add it to `prices`"):
        price_of(model)


def test_a_misspelled_model_is_told_what_was_meant() -> None:
    with pytest.raises(UnknownModelError, match=r"'claude-sonnet-5.5'; did you mean claude-sonnet-5-5 or "):
        price_of("claude-sonnet-5.5")


def test_cache_prices_are_those_of_the_model_and_not_of_its_provider() -> None:
    luna, old = price_of("gpt-6-luna"), price_of("gpt-4.1")
    assert (luna.input, luna.cache_write, luna.cache_read) == (Decimal("0.1"), Decimal("0.125"), Decimal("0.01"))
    assert (old.cache_write, old.cache_read) == (old.input, Decimal("0.5"))


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0", "0"), ("1.50", "1.5"), ("0.0000004", "0"), ("100", "100"), ("0.000001", "0.000001"), ("1E+3", "1000")],
)
def test_money_is_written_without_exponent_or_idle_zeros(amount: str, text: str) -> None:
    assert format_usd(Decimal(amount)) == text


@pytest.mark.parametrize(
    ("compiled", "hosted", "conversations"),
    [("0.001", "0.011", 6000), ("0.001", "0.0014", 150_000), ("0.001", "0.001", NEVER), ("0.002", "0.0014", NEVER)],
    ids=["much cheaper", "a little cheaper", "equal", "dearer"],
)
def test_compiling_breaks_even_late_or_never(compiled: str, hosted: str, conversations: int | Decimal) -> None:
    assert break_even(Decimal(60), Decimal(compiled), Decimal(hosted)) == conversations


def test_hardware_time_is_shared_by_the_conversations() -> None:
    assert usd_per_conversation(Decimal("2.50"), 3600, 1000) == Decimal("0.0025")
    assert usd_per_conversation(Decimal("2.50"), 3600, 0) is None
