"""How many calls a provider lets through: its limits as it tells them, and how much at once it bears. Pure; times are passed in.

Limits per minute are token buckets, learnt from the headers of responses. How many calls may be in flight is found as TCP finds its
window: it grows while all goes well and shrinks by the share of calls that were refused. So an account that others use too, or a
server that tells no limits, is shared and not fought for.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

BURST_SECONDS = 5.0
"""So much of a limit may be used at once after a pause. Limits per minute are enforced over shorter times too."""
FIRST_WINDOW = 8
TOLERATED = 0.12
"""Share of refused calls that is taken for chance."""
GROWTH = 0.05
"""By which the window grows in a round trip once it has been too large, and one call more."""
_SAMPLE = 60
"""Answers from which a share can be told, unless all are refusals."""
LONGEST_PAUSE = 10.0
"""Seconds between probes of a provider that refuses everything."""
_SMOOTH = 0.05
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Limit:
    """A limit as the provider tells it."""

    per_minute: float
    left: float


@dataclass(frozen=True)
class Heard:
    """What came of a call. ``used`` is what it counted for, by the limits' names; none when that is unknown."""

    refused: bool = False
    retry_after: float | None = None
    limits: Mapping[str, Limit] = field(default_factory=dict)
    used: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Call:
    """A call in flight."""

    size: int
    load: Mapping[str, float]
    epoch: int


class Bucket:
    """One limit: refilled all the time, emptied by calls, corrected by what the provider says is left."""

    def __init__(self, limit: Limit, now: float) -> None:
        self.per_minute, self.at = limit.per_minute, now
        self.level = min(self._most, limit.left)

    @property
    def _most(self) -> float:
        return max(1.0, self.per_minute / 60 * BURST_SECONDS)

    def delay(self, now: float, load: float) -> float:
        """Seconds until a call may go. One that is larger than the bucket goes when it is full."""
        self._refill(now)
        missing = min(load, self._most) - self.level
        return missing * 60 / self.per_minute if missing > _ROUNDING else 0.0

    def take(self, load: float) -> None:
        """Uses some; a negative load gives back."""
        self.level = min(self._most, self.level - load)

    def learn(self, limit: Limit, now: float) -> None:
        """Others may use the account too, so less may be left than we think; never more, because calls are on their way."""
        self._refill(now)
        self.per_minute = limit.per_minute
        self.level = min(self.level, self._most, limit.left)

    def _refill(self, now: float) -> None:
        self.level = min(self._most, self.level + (now - self.at) * self.per_minute / 60)
        self.at = now


class Window:
    """How many calls may be in flight."""

    def __init__(self, most: int) -> None:
        self.size = float(min(FIRST_WINDOW, most))
        self.epoch = 0
        self.dark = 0
        """How many epochs in a row brought nothing but refusals."""
        self._most, self._careful = most, math.inf
        self._answers = self._refusals = 0

    def answered(self, epoch: int, refused: bool, full: bool) -> None:
        """``epoch`` is when the call began: what began before the last change says nothing about it. ``full``: no more could go."""
        if not refused:
            self.dark = 0
            if full:
                self.size = min(self._most, self.size + (1 if self.size < self._careful else 1 / self.size + GROWTH))
        if epoch == self.epoch:
            self._answers += 1
            self._refusals += refused
            enough = int(self.size) if self._refusals == self._answers else max(int(self.size), _SAMPLE)
            if self._answers >= enough:
                self._turn(self._refusals / self._answers)

    def _turn(self, share: float) -> None:
        """Shrinks by the share of refusals. Nothing but refusals does not tell how much would be too much: back to the start."""
        if share > TOLERATED:
            self.size = max(1.0, self.size * (1 - share))
            self._careful = self._careful if share == 1 else self.size
        self.dark = self.dark + 1 if share == 1 else 0
        self.epoch += 1
        self._answers = self._refusals = 0


class Rates:
    """Decides when a call may go: `delay`, then `begin`, then `end`."""

    def __init__(self, most: int) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.window = Window(most)
        self.in_flight = 0
        self._resume = -math.inf
        # What calls count for, from those that came back: tokens per byte that is sent, and tokens said.
        self._per_byte: dict[str, float] = {}
        self._mean: dict[str, float] = {}

    def delay(self, now: float, size: int) -> float | None:
        """Seconds until a call of so many bytes may go; none: not before another one came back."""
        if self.in_flight >= int(self.window.size):
            return None
        load = self._load(size)
        waits = (bucket.delay(now, load.get(name, 0.0)) for name, bucket in self.buckets.items())
        return max(0.0, self._resume - now, *waits)

    def begin(self, size: int) -> Call:
        """A call goes."""
        call = Call(size, self._load(size), self.window.epoch)
        self.in_flight += 1
        for name, bucket in self.buckets.items():
            bucket.take(call.load.get(name, 0.0))
        return call

    def end(self, now: float, call: Call, heard: Heard) -> None:
        """It came back, or never will."""
        self.window.answered(call.epoch, heard.refused, full=self.in_flight >= int(self.window.size))
        self.in_flight -= 1
        self._settle(call, heard)
        for name, limit in heard.limits.items():
            if name in self.buckets:
                self.buckets[name].learn(limit, now)
            else:
                self.buckets[name] = Bucket(limit, now)
        if heard.retry_after is not None:
            self._resume = max(self._resume, now + heard.retry_after)
        elif heard.refused and self.window.dark:
            self._resume = max(self._resume, now + min(LONGEST_PAUSE, 0.25 * 2.0**self.window.dark))

    def per_minute(self) -> float | None:
        """Calls a minute that the limits let through, the scarcest of them; none when the provider tells no limits."""
        loads = {"requests": 1.0} | self._mean
        return min((bucket.per_minute / loads[name] for name, bucket in self.buckets.items() if loads.get(name)), default=None)

    def _load(self, size: int) -> dict[str, float]:
        return {"requests": 1.0} | self._mean | {name: rate * size for name, rate in self._per_byte.items()}

    def _settle(self, call: Call, heard: Heard) -> None:
        """Puts what the call counted for in place of the estimate. A refused call counts for nothing but the request."""
        used = heard.used if heard.used is not None else {} if heard.refused else None
        if used is None:
            return
        for name, bucket in self.buckets.items():
            if name != "requests":
                bucket.take(used.get(name, 0.0) - call.load.get(name, 0.0))
        for name, amount in used.items():
            self._mean[name] = _smooth(self._mean.get(name), amount)
            if name != "output-tokens" and call.size:
                self._per_byte[name] = _smooth(self._per_byte.get(name), amount / call.size)


def _smooth(known: float | None, new: float) -> float:
    return new if known is None else known + _SMOOTH * (new - known)
