"""The price of served conversations, and the paper's table out of the same formulas."""

from decimal import Decimal

import pytest

from subterra_api.job_contract.messages import ServedWork
from subterra_core.pricing import TokenPrice, price_of
from subterra_core.serving_costs.serving_price import (
    busy_price,
    measured_token_price,
    price_of_work,
    price_with_idle,
    throughput_price,
    total_work,
)

A100 = Decimal("2.50")
WORK = ServedWork(
    busy_seconds=900,
    seconds=3600,
    conversations=250,
    prompt_tokens=1_000_000,
    generation_tokens=200_000,
    prefill_seconds=100,
    decode_seconds=300,
)


def test_a_million_tokens_cost_what_the_paper_says_at_its_throughput() -> None:
    prefill, decode = throughput_price(A100, Decimal(15_000)), throughput_price(A100, Decimal(3_000))
    assert (round(prefill, 4), round(decode, 4)) == (Decimal("0.0463"), Decimal("0.2315"))
    sonnet = price_of("claude-sonnet-4-5")
    assert {round(sonnet.input / prefill, 1), round(sonnet.output / decode, 1)} == {Decimal("64.8")}


def test_busy_price_and_price_with_idle() -> None:
    assert busy_price(WORK, A100) == A100 / 4 / 250
    assert price_with_idle(WORK, A100) == A100 / 250
    assert busy_price(ServedWork(seconds=10), A100) is None


def test_reading_and_writing_share_the_busy_time_as_they_share_the_requests_time() -> None:
    tokens = measured_token_price(WORK, A100)
    assert tokens is not None
    assert (tokens.input, tokens.output) == (A100 / 4 / 4, A100 / 4 * 3 / 4 * 5)
    paid = tokens.input * Decimal("1.0") + tokens.output * Decimal("0.2")
    assert paid == A100 / 4, "together they are the busy time"
    assert measured_token_price(ServedWork(seconds=10), A100) is None


def test_three_replicas_of_which_two_are_idle_cost_three_replicas() -> None:
    """Each pod's own price, weighted by its conversations, would leave out two thirds of the dollars."""
    idle = ServedWork(seconds=3600)
    total = total_work((WORK, idle, idle))
    assert price_with_idle(total, A100) == 3 * A100 / 250
    assert busy_price(total, A100) == busy_price(WORK, A100)


def test_pods_with_less_than_a_conversation_each_have_a_price_together() -> None:
    total = total_work(ServedWork(busy_seconds=3, seconds=60, conversations=0.75) for _ in range(8))
    assert price_with_idle(total, A100) == A100 * 480 / 3600 / 6


def test_small_prices_are_not_rounded_before_they_are_used() -> None:
    work = ServedWork(busy_seconds=5.184, seconds=5.184, conversations=1000)
    assert busy_price(work, A100) == Decimal("0.0000036")
    assert price_of_work(work, A100).usd_per_conversation == "0.000004", "the status has six decimals"


@pytest.mark.parametrize("work", [ServedWork(), ServedWork(seconds=5)])
def test_without_conversations_there_is_no_price(work: ServedWork) -> None:
    price = price_of_work(work, A100)
    assert (price.usd_per_conversation, price.usd_per_conversation_with_idle, price.conversations) == (None, None, 0)


def test_a_free_gpu_makes_free_tokens() -> None:
    assert measured_token_price(WORK, Decimal(0)) == TokenPrice(Decimal(0), Decimal(0), Decimal(0), Decimal(0))
