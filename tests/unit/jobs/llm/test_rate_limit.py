"""Limits of a provider: learnt from it, used up, shared by all workers. Time is a number here."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from subterra_jobs.llm.rate_limit import CallOutcome, InFlightCall, Limit, RateLimiter
from subterra_testkit.servers.fake_llm_api import RateLimit as ServerLimit

SIZE = 1200


@dataclass
class Provider:
    """A simulated one: answers after ``latency`` seconds, within ``limits``, and says what is left if it is ``told``."""

    latency: float = 0.5
    limits: dict[str, ServerLimit] = field(default_factory=dict)
    told: bool = True
    fault: Callable[[float], CallOutcome | None] = lambda now: None

    def call(self, now: float) -> tuple[float, CallOutcome]:
        """When it answers, and what."""
        used = {"requests": 1.0, "input-tokens": 300.0, "output-tokens": 60.0}
        if (fault := self.fault(now)) is not None:
            return now + 0.02, fault
        for limit in self.limits.values():
            limit.refill(now)
        wait = max((limit.wait(used[name]) for name, limit in self.limits.items()), default=0.0)
        if wait == 0:
            for name, limit in self.limits.items():
                limit.left -= used[name]
        told = {name: Limit(limit.per_minute, limit.left) for name, limit in self.limits.items()} if self.told else {}
        if wait > 0:
            return now + 0.02, CallOutcome(refused=True, retry_after=wait if self.told else None, limits=told)
        return now + self.latency, CallOutcome(limits=told, used=used)


@dataclass
class Run:
    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    most: int = 0

    def per_minute(self, start: float, end: float) -> float:
        return sum(1 for at in self.answered if start <= at < end) * 60 / (end - start)


def simulate(provider: Provider, seconds: float, most: int = 512) -> Run:
    """As many calls as `Rates` lets go, for so long."""
    rates, run, now = RateLimiter(most), Run(), 0.0
    flying: list[tuple[float, int, InFlightCall, CallOutcome]] = []
    number = 0
    while now < seconds:
        delay = rates.delay(now, SIZE)
        if delay == 0:
            back, heard = provider.call(now)
            number += 1
            heapq.heappush(flying, (back, number, rates.begin(SIZE), heard))
            run.most = max(run.most, rates.in_flight)
            continue
        due = flying[0][0] if flying else float("inf")
        now = min(due, now + delay if delay is not None else float("inf"))
        if now == due:
            _, _, call, heard = heapq.heappop(flying)
            rates.end(now, call, heard)
            (run.refused if heard.refused else run.answered).append(now)
    return run


@pytest.mark.parametrize("latency", [0.2, 0.5, 3.0, 7.0])
def test_a_limit_is_used_up_whatever_the_latency_and_hardly_ever_met(latency: float) -> None:
    run = simulate(Provider(latency, {"requests": ServerLimit(4000)}), 180)
    assert 0.97 * 4000 <= run.per_minute(120, 180) <= 4001  # both ends of the minute may have a call
    assert len(run.refused) < 0.001 * len(run.answered)


def test_the_scarcest_limit_rules_and_tokens_are_counted_as_they_were_used() -> None:
    limits = {"requests": ServerLimit(4000), "input-tokens": ServerLimit(400_000), "output-tokens": ServerLimit(60_000)}
    run = simulate(Provider(1.0, limits), 240)
    assert 0.95 * 1000 <= run.per_minute(120, 240) <= 1000  # 60 tokens said each
    assert len(run.refused) < 0.01 * len(run.answered)


def test_without_limits_calls_are_bounded_by_what_may_be_in_flight_and_soon_reach_it() -> None:
    run = simulate(Provider(0.5), 30, most=100)
    assert run.most == 100
    assert run.per_minute(10, 30) == pytest.approx(12_000, rel=0.02)


def test_a_shared_account_gives_what_the_others_leave_and_refuses_few() -> None:
    run = simulate(Provider(2.0, {"requests": ServerLimit(4000, others=0.5, left=0.0)}), 300)
    assert run.per_minute(120, 300) >= 0.8 * 2000
    assert len(run.refused) < 0.2 * len(run.answered)


def test_limits_that_nobody_tells_are_found() -> None:
    run = simulate(Provider(2.0, {"requests": ServerLimit(1000, left=0.0)}, told=False), 300)
    assert run.per_minute(120, 300) >= 0.8 * 1000
    assert len(run.refused) < 0.5 * len(run.answered)


def test_after_retry_after_nobody_calls_before_it_is_over() -> None:
    asked = CallOutcome(refused=True, retry_after=7.0)
    begun: list[float] = []

    def fault(now: float) -> CallOutcome | None:
        begun.append(now)
        return asked if now < 1 else None

    simulate(Provider(0.5, fault=fault), 20)
    assert sum(1 for at in begun if at < 0.02) <= 8
    assert not [at for at in begun if 0.02 < at < 7]
    assert [at for at in begun if at < 7.1]


def test_nothing_but_refusals_is_probed_now_and_then_and_what_was_reached_before_is_soon_reached_again() -> None:
    run = simulate(Provider(0.5, fault=lambda now: CallOutcome(refused=True) if 20 <= now < 40 else None), 80, most=100)
    assert len([at for at in run.refused if at > 21]) < 20
    assert run.per_minute(60, 80) == pytest.approx(12_000, rel=0.05)


def test_a_few_refusals_by_chance_do_not_slow_down() -> None:
    chance = random.Random(1)
    run = simulate(Provider(0.5, fault=lambda _: CallOutcome(refused=True) if chance.random() < 0.05 else None), 60, most=100)
    assert run.per_minute(20, 60) >= 0.8 * 12_000


def test_a_call_that_never_comes_back_frees_its_place() -> None:
    rates = RateLimiter(1)
    call = rates.begin(SIZE)
    assert rates.delay(0, SIZE) is None
    rates.end(60, call, CallOutcome())
    assert rates.delay(60, SIZE) == 0
