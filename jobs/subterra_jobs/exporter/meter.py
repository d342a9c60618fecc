"""Busy time, idle time and price from readings of vLLM's counters. Pure; time is passed in.

**Busy** is the time in which at least one request was being executed. vLLM does not count it. It counts each request's own
execution time (`vllm:request_inference_time_seconds_sum`), in which overlapping requests add up, and shows how many run at the
moment. So busy time is the requests' time divided by the mean number that ran together, which the readings sample:

- Sequential requests: exact, however short they are compared with the interval between readings.
- Overlapping requests, bursts, silent metrics pages: unbiased; after an hour within 3 %, short bursts
  within 6 % (`tests/unit/jobs/exporter`).
- Aborted requests leave no execution time, long ones leave it late: where the readings saw clearly more of it than vLLM
  recorded, the readings count.
- A stretch in which vLLM never rests is settled every `LONGEST_STRETCH`.

Everything else is idle, including time without vLLM: the hardware is paid for anyway.
"""

from dataclasses import dataclass, field
from decimal import Decimal

from subterra_api.job_contract.messages import PodPrice, ServedWork
from subterra_core.serving_costs.serving_price import price_of_work

LONGEST_STRETCH = 30.0
"""Seconds after which a stretch is settled although requests are still running."""
LONGEST_SAMPLE = 5.0
"""Seconds that one reading may stand for in the mean number of requests that run together."""
MEMORY_SECONDS = 1800.0
"""Busy seconds after which older readings count half in that mean."""
SUMS = ("completed", "prompt_tokens", "generation_tokens", "prefill_seconds", "decode_seconds", "requests", "failed_requests")
COUNTERS = (*SUMS, "inference_seconds")


@dataclass(frozen=True)
class Reading:
    """vLLM's counters at one moment. `inference_seconds` is `None` if this vLLM does not report it."""

    running: float
    completed: float
    prompt_tokens: float = 0.0
    generation_tokens: float = 0.0
    inference_seconds: float | None = None
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    requests: float = 0.0
    failed_requests: float = 0.0


_NOTHING = Reading(running=0.0, completed=0.0, inference_seconds=0.0)


@dataclass
class _Stretch:
    """Time from one rest of vLLM to the next."""

    unsettled: float = 0.0
    """Seconds that are not yet divided into busy and idle."""
    settled_busy: float = 0.0
    sampled_busy: float = 0.0
    sampled_work: float = 0.0
    """Execution time of requests as the readings saw it."""
    inference: float | None = 0.0
    """Execution time of requests as vLLM recorded it when they ended."""
    completed: float = 0.0
    peak: float = 0.0
    """Most requests that a reading saw running."""

    @property
    def work(self) -> float | None:
        """Execution time of requests; `None` where only the readings know it: requests were aborted, or run for long.

        Readings miss or add half a second of a request, so of many about `0.5 * sqrt(n)`, or of those that come together half a
        second of all.
        """
        if self.inference is None or (self.completed == 0 and self.sampled_work > 0):
            return None
        noise = self.completed**0.5 + self.peak
        return None if self.sampled_work - self.inference > 1.5 * noise else self.inference


@dataclass
class ServingMeter:
    """Adds up readings. Sums only grow, even when vLLM restarts."""

    usd_per_hour: Decimal
    turns_per_conversation: float
    busy_seconds: float = 0.0
    idle_seconds: float = 0.0
    completed: float = 0.0
    prompt_tokens: float = 0.0
    generation_tokens: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    requests: float = 0.0
    failed_requests: float = 0.0
    _last: Reading | None = None
    _at: float | None = None
    _watching: bool = False
    _stretch: _Stretch = field(default_factory=_Stretch)
    _seen_busy: float = 0.0
    _seen_work: float = 0.0
    _owed: float = 0.0
    """Busy time beyond the stretches it belongs to, negative if they had too much: later stretches make up for it."""

    def observe(self, now: float, reading: Reading | None) -> None:
        """Adds a reading made at `now` (seconds of a monotonic clock); `None` when vLLM is not running."""
        seconds = 0.0 if self._at is None else max(0.0, now - self._at)
        first, self._at = self._at is None, now
        if reading is None:
            self._settle(at_rest=True)
            self.idle_seconds += seconds
            self._watching = False
            return
        # Work of vLLM before this exporter started is not counted: its time was not measured either.
        before = self._last or (reading if first else _NOTHING)
        rise = {name: _rise(getattr(before, name), getattr(reading, name)) for name in COUNTERS}
        self._last = reading
        self._count(rise)
        if not self._watching:
            self._watching = True
            self.idle_seconds += seconds
            return
        self._extend(seconds, rise, before.running, reading.running)
        if reading.running == 0 or self._stretch.unsettled >= LONGEST_STRETCH:
            self._settle(at_rest=reading.running == 0)

    @property
    def conversations(self) -> float:
        """Completed requests, one per agent turn, divided by the turns of a conversation."""
        return self.completed / self.turns_per_conversation

    @property
    def work(self) -> ServedWork:
        """What was served so far."""
        return ServedWork(
            busy_seconds=self.busy_seconds,
            seconds=self.busy_seconds + self.idle_seconds,
            conversations=self.conversations,
            prompt_tokens=self.prompt_tokens,
            generation_tokens=self.generation_tokens,
            prefill_seconds=self.prefill_seconds,
            decode_seconds=self.decode_seconds,
            requests=self.requests,
            failed_requests=self.failed_requests,
        )

    def price(self) -> PodPrice:
        """The page `/price`: the price of this pod alone, and the exact sums from which an agent's price is computed."""
        price = price_of_work(self.work, self.usd_per_hour)
        return PodPrice.model_construct(**dict(price), work=self.work)

    def _count(self, rise: dict[str, float | None]) -> None:
        for name in SUMS:
            setattr(self, name, getattr(self, name) + (rise[name] or 0.0))

    def _extend(self, seconds: float, rise: dict[str, float | None], before: float, now: float) -> None:
        """Adds an interval, half of it with the requests that ran at its start and half with those at its end."""
        stretch, inference = self._stretch, rise["inference_seconds"]
        busy, running = ((before > 0) + (now > 0)) / 2, (before + now) / 2
        weight = min(seconds, LONGEST_SAMPLE)
        self._seen_busy, self._seen_work = self._seen_busy + weight * busy, self._seen_work + weight * running
        if self._seen_busy > 2 * MEMORY_SECONDS:
            self._seen_busy, self._seen_work = self._seen_busy / 2, self._seen_work / 2
        stretch.unsettled += seconds
        stretch.peak = max(stretch.peak, before, now)
        stretch.sampled_busy += seconds * busy
        stretch.sampled_work += seconds * running
        stretch.completed += rise["completed"] or 0.0
        stretch.inference = None if stretch.inference is None or inference is None else stretch.inference + inference

    def _settle(self, *, at_rest: bool) -> None:
        """Divides the unsettled time of the stretch into busy and idle."""
        stretch = self._stretch
        together = self._seen_work / self._seen_busy if self._seen_busy > 0 else 1.0
        busy = stretch.sampled_busy if (work := stretch.work) is None else work / max(1.0, together)
        wanted = busy - stretch.settled_busy + self._owed
        taken = min(stretch.unsettled, max(0.0, wanted))
        self._owed, stretch.settled_busy = wanted - taken, busy
        self.busy_seconds += taken
        self.idle_seconds += stretch.unsettled - taken
        stretch.unsettled = 0.0
        if at_rest:
            self._stretch = _Stretch()


def _rise(before: float | None, now: float | None) -> float | None:
    """Increase of a counter; one that fell was reset to 0."""
    if before is None or now is None:
        return None
    return now - before if now >= before else now
