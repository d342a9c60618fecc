"""Busy time from readings of vLLM's counters, against the truth: an hour of each kind of traffic.

Within 3 %, and 6 % for bursts that a reading a second sees only now and then; with idle time within 1 %.
"""

import random
from bisect import bisect_right
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import accumulate

import pytest

from subterra_jobs.exporter.meter import Reading, ServingMeter

HOUR = 3600.0
Request = tuple[float, float]
"""Start and end in seconds."""
Traffic = Callable[[random.Random], list[Request]]


def users(count: int, think: float = 5.0, reply: float = 1.5) -> Traffic:
    """Users who each wait for an answer, think, and write again."""

    def requests(draw: random.Random) -> list[Request]:
        found = []
        for _ in range(count):
            now = draw.uniform(0, think)
            while now < HOUR:
                end = now + draw.uniform(0.5, 1.5) * reply
                found.append((now, end))
                now = end + draw.expovariate(1 / think)
        return found

    return requests


def poisson(per_second: float, reply: float) -> Traffic:
    def requests(draw: random.Random) -> list[Request]:
        now, found = 0.0, []
        while (now := now + draw.expovariate(per_second)) < HOUR:
            found.append((now, now + draw.expovariate(1 / reply)))
        return found

    return requests


def bursts(draw: random.Random) -> list[Request]:
    """Ten requests at once, every few seconds, each shorter than the interval between readings."""
    now, found = 0.0, []
    while (now := now + draw.uniform(2, 8)) < HOUR:
        found += [(now, now + draw.uniform(0.2, 0.6)) for _ in range(10)]
    return found


def truth(requests: list[Request]) -> float:
    """Seconds in which at least one request ran."""
    busy, until = 0.0, 0.0
    for start, end in sorted(requests):
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy


class Server:
    """vLLM's counters at any moment. Aborted requests run, and leave nothing."""

    def __init__(self, requests: list[Request], aborted: list[Request] | None = None) -> None:
        self._starts = sorted(start for start, _ in [*requests, *(aborted or [])])
        self._ends = sorted(end for _, end in [*requests, *(aborted or [])])
        finished = sorted((end, end - start) for start, end in requests)
        self._finished = [end for end, _ in finished]
        self._inference = [0.0, *accumulate(seconds for _, seconds in finished)]

    def reading(self, now: float, born: float = 0.0) -> Reading:
        """The counters at `now` of a process that started at `born`."""
        done, before = bisect_right(self._finished, now), bisect_right(self._finished, born)
        running = bisect_right(self._starts, now) - bisect_right(self._ends, now)
        return Reading(running, done - before, inference_seconds=self._inference[done] - self._inference[before])


def moments(draw: random.Random) -> Iterator[float]:
    """Times of readings, as the exporter's loop makes them."""
    now = 0.0
    while now < HOUR + 60:
        yield now
        now += draw.uniform(0.5, 1.5)


def measured(server: Server, draw: random.Random, *, silent: float = 0.0, lives: float = 0.0) -> ServingMeter:
    """An hour of readings. vLLM is silent in the first `silent` seconds of each minute, and is killed every `lives` seconds."""
    meter = ServingMeter(Decimal("2.50"), 1)
    for now in moments(draw):
        if now % 60 < silent:
            continue
        born = now - now % lives if lives else 0.0
        meter.observe(now, None if lives and now % lives < 2 else server.reading(now, born))
    return meter


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("traffic", "options"),
    [
        (users(1), {}),
        (users(10), {}),
        (poisson(2, 0.4), {}),
        (users(100, think=20), {}),
        (bursts, {}),
        (users(10), {"silent": 40.0}),
        (users(10), {"lives": 600.0}),
    ],
    ids=["one client", "10 users", "2 a second", "100 users", "bursts", "page silent 40 s a minute", "killed every 10 minutes"],
)
def test_busy_time_is_right_whatever_overlaps(traffic: Traffic, options: dict[str, float], seed: int) -> None:
    draw = random.Random(seed)
    requests = traffic(draw)
    if lives := options.get("lives"):  # what runs when vLLM is killed ends there
        requests = [(start, min(end, start - start % lives + lives)) for start, end in requests]
    meter = measured(Server(requests), draw, **options)
    assert meter.busy_seconds == pytest.approx(truth(requests), rel=0.06 if traffic is bursts else 0.03)
    first = options.get("silent", 0.0)  # time counts from the first reading
    assert meter.busy_seconds + meter.idle_seconds == pytest.approx(HOUR + 60 - first, rel=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_requests_that_are_aborted_cost_their_time(seed: int) -> None:
    """Long ones that somebody gives up, each followed by a short reply."""
    draw = random.Random(seed)
    starts = [start + draw.uniform(0, 30) for start in range(0, 3600, 120)]
    aborted = [(start, start + 60) for start in starts]
    replies = [(start + 61, start + 61.3) for start in starts]
    meter = measured(Server(replies, aborted), draw)
    assert meter.busy_seconds == pytest.approx(truth([*aborted, *replies]), rel=0.03)


def test_few_short_requests_are_measured_to_the_millisecond() -> None:
    requests = [(100.0 * number, 100.0 * number + 0.2) for number in range(1, 21)]
    meter = measured(Server(requests), random.Random(0))
    assert meter.busy_seconds == pytest.approx(4.0, abs=0.001)
