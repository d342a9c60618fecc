"""Rate limits learned from response headers, and an AIMD concurrency window. Pure; time is passed in.

Limits per minute are token buckets. The number of calls in flight is found as TCP finds its window: it grows while calls succeed
and shrinks by the share of calls that were refused. So an account that others use too, or a server that reports no limits, is
shared fairly.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

BURST_SECONDS = 5.0
"""Part of a limit that may be used at once after a pause. Limits per minute are enforced over shorter intervals too."""
INITIAL_WINDOW = 8
TOLERATED_REFUSALS = 0.12
"""Share of refused calls that is considered chance."""
GROWTH = 0.05
"""Growth of the window per round trip once it has been too large, beyond one call."""
_MIN_SAMPLE = 60
"""Calls from which a share can be estimated, unless all are refusals."""
MAX_PAUSE_SECONDS = 10.0
"""Longest pause between probes of a provider that refuses everything."""
_SMOOTHING = 0.05
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Limit:
    """A limit as the provider reports it."""

    per_minute: float
    remaining: float


@dataclass(frozen=True)
class CallOutcome:
    """Outcome of a call. `used` is what it consumed of each limit, by name; `None` when unknown."""

    refused: bool = False
    for_good: bool = False
    """No other try can help, so that the refusal says nothing about the account's limits."""
    retry_after: float | None = None
    limits: Mapping[str, Limit] = field(default_factory=dict)
    used: Mapping[str, float] | None = None


@dataclass(frozen=True)
class InFlightCall:
    """A call in flight, with its estimated cost in terms of each limit."""

    size: int
    cost: Mapping[str, float]
    generation: int


class TokenBucket:
    """One limit: refilled continuously, drained by calls, corrected by what the provider reports as remaining."""

    def __init__(self, limit: Limit, now: float) -> None:
        self.per_minute, self.updated_at = limit.per_minute, now
        self.level = min(self._capacity, limit.remaining)

    @property
    def _capacity(self) -> float:
        return max(1.0, self.per_minute / 60 * BURST_SECONDS)

    def delay(self, now: float, cost: float) -> float:
        """Seconds until a call may go. One that costs more than the capacity goes when the bucket is full."""
        self._refill(now)
        missing = min(cost, self._capacity) - self.level
        return missing * 60 / self.per_minute if missing > _ROUNDING else 0.0

    def take(self, cost: float) -> None:
        """Drains `cost`; a negative cost gives back."""
        self.level = min(self._capacity, self.level - cost)

    def learn(self, limit: Limit, now: float) -> None:
        """Lowers the level to what the provider reports, since others may use the account too. Never raises it, because our own
        calls are still on their way.
        """
        self._refill(now)
        self.per_minute = limit.per_minute
        self.level = min(self.level, self._capacity, limit.remaining)

    def _refill(self, now: float) -> None:
        self.level = min(self._capacity, self.level + (now - self.updated_at) * self.per_minute / 60)
        self.updated_at = now


class ConcurrencyWindow:
    """Number of calls that may be in flight: additive increase, multiplicative decrease.

    A generation is the time between two changes of the window's size by refusals.
    """

    def __init__(self, maximum: int) -> None:
        self.size = float(min(INITIAL_WINDOW, maximum))
        self.generation = 0
        self.consecutive_failures = 0
        """Generations in a row in which every call was refused."""
        self._maximum, self._threshold = maximum, math.inf
        self._calls = self._refusals = 0

    def record(self, generation: int, refused: bool, full: bool) -> None:
        """Counts a call that began in `generation`: one from before the last change says nothing about it.

        `full`: the window let no more calls go.
        """
        if not refused:
            self.consecutive_failures = 0
            if full:
                self.size = min(self._maximum, self.size + (1 if self.size < self._threshold else 1 / self.size + GROWTH))
        if generation == self.generation:
            self._calls += 1
            self._refusals += refused
            enough = int(self.size) if self._refusals == self._calls else max(int(self.size), _MIN_SAMPLE)
            if self._calls >= enough:
                self._next_generation(self._refusals / self._calls)

    def _next_generation(self, refused: float) -> None:
        """Shrinks by the share of refusals. If all calls were refused, that does not show how many would be too many, so it
        starts over.
        """
        if refused > TOLERATED_REFUSALS:
            self.size = max(1.0, self.size * (1 - refused))
            self._threshold = self._threshold if refused == 1 else self.size
        self.consecutive_failures = self.consecutive_failures + 1 if refused == 1 else 0
        self.generation += 1
        self._calls = self._refusals = 0


class RateLimiter:
    """Decides when a call may go: `delay`, then `begin`, then `end`."""

    def __init__(self, max_in_flight: int) -> None:
        self.buckets: dict[str, TokenBucket] = {}
        self.window = ConcurrencyWindow(max_in_flight)
        self.in_flight = 0
        self._resume_at = -math.inf
        # Averages over finished calls: tokens per byte sent, and per call.
        self._cost_per_byte: dict[str, float] = {}
        self._mean_cost: dict[str, float] = {}

    def delay(self, now: float, size: int) -> float | None:
        """Seconds until a call of `size` bytes may go; `None`: not before another one ends."""
        if self.in_flight >= int(self.window.size):
            return None
        cost = self._cost(size)
        waits = (bucket.delay(now, cost.get(name, 0.0)) for name, bucket in self.buckets.items())
        return max(0.0, self._resume_at - now, *waits)

    def begin(self, size: int) -> InFlightCall:
        """Starts a call."""
        call = InFlightCall(size, self._cost(size), self.window.generation)
        self.in_flight += 1
        for name, bucket in self.buckets.items():
            bucket.take(call.cost.get(name, 0.0))
        return call

    def end(self, now: float, call: InFlightCall, outcome: CallOutcome) -> None:
        """Ends a call, with or without a response."""
        too_many = outcome.refused and not outcome.for_good
        self.window.record(call.generation, too_many, full=self.in_flight >= int(self.window.size))
        self.in_flight -= 1
        self._settle(call, outcome)
        for name, limit in outcome.limits.items():
            if name in self.buckets:
                self.buckets[name].learn(limit, now)
            else:
                self.buckets[name] = TokenBucket(limit, now)
        failures = self.window.consecutive_failures
        if outcome.retry_after is not None:
            self._resume_at = max(self._resume_at, now + outcome.retry_after)
        elif too_many and failures:
            self._resume_at = max(self._resume_at, now + min(MAX_PAUSE_SECONDS, 0.25 * 2.0**failures))

    def per_minute(self) -> float | None:
        """Calls per minute that the scarcest limit allows; `None` when the provider reports no limits."""
        costs = {"requests": 1.0} | self._mean_cost
        return min((bucket.per_minute / costs[name] for name, bucket in self.buckets.items() if costs.get(name)), default=None)

    def _cost(self, size: int) -> dict[str, float]:
        return {"requests": 1.0} | self._mean_cost | {name: rate * size for name, rate in self._cost_per_byte.items()}

    def _settle(self, call: InFlightCall, outcome: CallOutcome) -> None:
        """Replaces the estimated cost by the actual one. A refused call costs nothing but the request."""
        used = outcome.used if outcome.used is not None else {} if outcome.refused else None
        if used is None:
            return
        for name, bucket in self.buckets.items():
            if name != "requests":
                bucket.take(used.get(name, 0.0) - call.cost.get(name, 0.0))
        for name, amount in used.items():
            self._mean_cost[name] = _smooth(self._mean_cost.get(name), amount)
            if name != "output-tokens" and call.size:
                self._cost_per_byte[name] = _smooth(self._cost_per_byte.get(name), amount / call.size)


def _smooth(average: float | None, value: float) -> float:
    return value if average is None else average + _SMOOTHING * (value - average)
