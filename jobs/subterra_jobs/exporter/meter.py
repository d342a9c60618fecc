"""Busy time, idle time and price from readings of vLLM's counters. Pure; time is passed in.

**Busy** is the time in which at least one request was being executed. vLLM does not count it, so it is computed per *stretch*:
the readings from one at rest (nothing running) to the next at rest. Within a stretch the executed time is at most the stretch
itself and at most the sum of its requests' inference times (`vllm:request_inference_time_seconds_sum`), so busy is the smaller.

- Sequential requests: exact, however short they are compared with the interval between readings.
- Overlapping requests: too high by the overlap, never above the stretch. Error ≤ gaps inside the stretch.
- A stretch longer than `LONGEST_STRETCH` is settled as busy throughout: error ≤ one interval at its start.
- Aborted requests leave no inference time; a stretch in which none completed counts as busy throughout.
- Without that counter every stretch counts as busy throughout: error ≤ two intervals each.

Everything else is idle, including time without vLLM: the hardware is paid for anyway.
"""

from dataclasses import dataclass, field
from decimal import Decimal

from subterra_api.v1alpha1.compiledagent import Price
from subterra_core.pricing import format_usd, usd_per_conversation

LONGEST_STRETCH = 30.0
"""Seconds after which a stretch is settled although requests are still running."""
COUNTERS = ("completed", "prompt_tokens", "generation_tokens", "inference_seconds")


@dataclass(frozen=True)
class Reading:
    """vLLM's counters at one moment. `inference_seconds` is `None` if this vLLM does not report it."""

    running: float
    completed: float
    prompt_tokens: float = 0.0
    generation_tokens: float = 0.0
    inference_seconds: float | None = None


_NOTHING = Reading(running=0.0, completed=0.0, inference_seconds=0.0)


@dataclass
class _Stretch:
    """Time not yet classified as busy or idle."""

    seconds: float = 0.0
    inference: float | None = 0.0
    completed: float = 0.0
    active: bool = False


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
    _last: Reading | None = None
    _at: float | None = None
    _watching: bool = False
    _stretch: _Stretch = field(default_factory=_Stretch)

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
        self._extend(seconds, rise, active=before.running > 0 or reading.running > 0 or (rise["completed"] or 0) > 0)
        if reading.running == 0 or self._stretch.seconds >= LONGEST_STRETCH:
            self._settle(at_rest=reading.running == 0)

    @property
    def conversations(self) -> float:
        """Completed requests, one per agent turn, divided by the turns of a conversation."""
        return self.completed / self.turns_per_conversation

    @property
    def usd(self) -> Decimal:
        """Cost of the hardware so far."""
        return self.usd_per_hour * Decimal(str(self.busy_seconds + self.idle_seconds)) / Decimal(3600)

    def price(self) -> Price:
        """Price as in the status of `CompiledAgent`; empty without conversations."""
        total = self.busy_seconds + self.idle_seconds
        busy = usd_per_conversation(self.usd_per_hour, self.busy_seconds, self.conversations)
        with_idle = usd_per_conversation(self.usd_per_hour, total, self.conversations)
        return Price(
            usd_per_conversation=None if busy is None else format_usd(busy),
            usd_per_conversation_with_idle=None if with_idle is None else format_usd(with_idle),
            usd_per_hour=format_usd(self.usd_per_hour),
            conversations=int(self.conversations),
            idle_percent=round(100 * self.idle_seconds / total) if total > 0 else None,
        )

    def _count(self, rise: dict[str, float | None]) -> None:
        self.completed += rise["completed"] or 0.0
        self.prompt_tokens += rise["prompt_tokens"] or 0.0
        self.generation_tokens += rise["generation_tokens"] or 0.0

    def _extend(self, seconds: float, rise: dict[str, float | None], *, active: bool) -> None:
        stretch, inference = self._stretch, rise["inference_seconds"]
        stretch.seconds += seconds
        stretch.completed += rise["completed"] or 0.0
        stretch.inference = None if stretch.inference is None or inference is None else stretch.inference + inference
        stretch.active = stretch.active or active

    def _settle(self, *, at_rest: bool) -> None:
        stretch, self._stretch = self._stretch, _Stretch()
        busy = stretch.seconds if stretch.active else 0.0
        if stretch.active and at_rest and stretch.completed > 0 and stretch.inference is not None:
            busy = min(stretch.seconds, stretch.inference)
        self.busy_seconds += busy
        self.idle_seconds += stretch.seconds - busy


def _rise(before: float | None, now: float | None) -> float | None:
    """Increase of a counter; one that fell was reset to 0."""
    if before is None or now is None:
        return None
    return now - before if now >= before else now
