"""What a conversation would cost otherwise, and when an agent with its idle hours has paid for itself."""

from decimal import Decimal

import pytest

from subterra_api.job_contract.messages import ServedWork
from subterra_api.v1alpha1.scores import Interval, MeanTokens, Scores
from subterra_core.pricing import NEVER, TokenPrice, price_of
from subterra_core.serving_costs.comparators import (
    Workload,
    in_context,
    orchestrated,
    ratio,
)
from subterra_core.serving_costs.conversation_costs import Compared, ConversationCosts, compare_hosted, compare_own, workload_of
from subterra_core.serving_costs.serving_price import throughput_price

SONNET = price_of("claude-sonnet-4-5")
A100 = Decimal("2.50")
COMPILED = TokenPrice(throughput_price(A100, Decimal(15_000)), throughput_price(A100, Decimal(3_000)), Decimal(0), Decimal(0))
"""A million tokens of the compiled model, by the paper."""


def workload(procedure: str, *, turns: str = "8", read: str = "9600", written: str = "1000") -> Workload:
    return Workload(Decimal(turns), Decimal(read), Decimal(written), Decimal(procedure))


def compiled_price(work: Workload) -> Decimal:
    return in_context(COMPILED, Workload(work.turns, work.prompt_tokens, work.completion_tokens, Decimal(0)))


@pytest.mark.parametrize(
    ("times", "tokens_ratio"),
    [(128, "1.98"), (296, "4.57"), (462, "7.13")],
    ids=["travel", "zoom", "insurance"],
)
def test_the_papers_ratios_are_its_price_ratio_times_the_tokens_of_the_procedure(times: int, tokens_ratio: str) -> None:
    """A token costs 64.8 times as much; the rest are the tokens that the procedure in the prompt adds, 2 to 7 times as many."""
    work = workload("0")
    compiled, sonnet_alone = compiled_price(work), in_context(SONNET, work)
    assert round(sonnet_alone / compiled, 1) == Decimal("64.8")
    read = (times * compiled * 1_000_000 - work.completion_tokens * SONNET.output) / SONNET.input
    papers = workload(str((read - work.prompt_tokens) / work.turns))
    assert round(ratio(in_context(SONNET, papers), compiled) or 0) == times
    assert round(in_context(SONNET, papers) / sonnet_alone, 2) == Decimal(tokens_ratio)


def test_a_cache_reads_all_but_what_is_new() -> None:
    work = workload("2000")
    assert (work.in_context, work.new_tokens) == (25_600, 2000 + Decimal(19_200) / 9)
    cached = in_context(SONNET, work, cached=True)
    assert cached < in_context(SONNET, work) / 2
    assert cached > SONNET.output * work.completion_tokens / 1_000_000


def test_an_orchestrator_sends_less_text_and_calls_more_often() -> None:
    work = workload("4000")
    without_hubs = orchestrated(SONNET, work, hubs=Decimal(0), nodes=Decimal(14))
    assert without_hubs < orchestrated(SONNET, work, hubs=Decimal(3), nodes=Decimal(14)) < in_context(SONNET, work)


def test_a_model_with_finer_tokens_is_charged_for_more_of_them() -> None:
    work = workload("2000")
    finer = Workload(work.turns, work.prompt_tokens, work.completion_tokens, work.procedure_tokens, Decimal("1.3"))
    assert in_context(SONNET, finer) == in_context(SONNET, work) * Decimal("1.3")


def scores(tokens: MeanTokens | None) -> Scores:
    some = Interval(mean=1, low=1, high=1)
    return Scores(scenarios=200, criteria={}, failure_rate=some, conformance=some, turns_per_conversation=8, tokens=tokens)


def test_an_agent_is_compared_by_the_tokens_of_its_own_evaluation() -> None:
    counted = scores(MeanTokens(prompt=9600, completion=1000, procedure=2000, nodes=14, hubs=3))
    hosted = compare_hosted(counted, "claude-sonnet-5-5", price_of("claude-sonnet-5-5"))
    found = {each.comparator: each for each in (*hosted, *compare_own(workload_of(counted), COMPILED))}
    assert set(found) == {"InContext", "InContextCached", "Orchestrator", "SameModelInContext"}
    assert found["SameModelInContext"].usd == in_context(COMPILED, workload("2000"))
    assert found["InContextCached"].usd < found["InContext"].usd


def test_without_counted_tokens_nothing_is_compared() -> None:
    assert [*compare_hosted(scores(None), "claude-sonnet-5-5", SONNET)] == []
    assert [*compare_own(workload_of(scores(None)), COMPILED)] == []


def test_break_even_counts_idle_hours() -> None:
    """Busy, a conversation costs $0.00125, with idle $0.0025: the comparator in between pays only on full hardware."""
    work = ServedWork(busy_seconds=1800, seconds=3600, conversations=1000)
    costs = ConversationCosts(work, A100, Decimal(60))
    assert costs.break_even(Compared("InContext", "m", Decimal("0.002"))) == NEVER
    assert costs.break_even(Compared("InContext", "m", Decimal("0.0085"))) == 10_000
    assert ConversationCosts(work, A100).break_even(Compared("InContext", "m", Decimal(1))) is None
