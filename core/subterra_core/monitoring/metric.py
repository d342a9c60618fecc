"""One metric: name, type, labels, help, and who exports it."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Source = Literal["operator", "exporter", "vllm", "prometheus"]
"""Who exports it: the operator, the price exporter, vLLM, or Prometheus itself."""


@dataclass(frozen=True)
class Metric:
    """A family of time series, named by Prometheus' conventions: base units, the unit last, counters end with `_total`."""

    name: str
    kind: Kind
    help: str
    source: Source
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds, for histograms of ours."""
    leader: bool = False
    """Whether only the leading operator has it."""

    @property
    def unit(self) -> str:
        """The unit as the name says it; `1` for numbers without one."""
        base = self.name.removesuffix("_total")
        units = ("usd_per_conversation_with_idle", "usd_per_conversation", "usd_per_million_tokens", "usd_per_hour")
        for unit in (*units, "timestamp_seconds", "per_second", "seconds", "usd", "ratio"):
            if base.endswith(f"_{unit}") or (unit == "usd" and base.endswith("_max_usd")):
                return _UNITS.get(unit, unit.replace("_", " "))
        return "1"

    @property
    def series(self) -> frozenset[str]:
        """Names that queries may use."""
        if self.kind == "histogram":
            return frozenset(f"{self.name}_{suffix}" for suffix in ("bucket", "sum", "count"))
        return frozenset({self.name})


_UNITS = {
    "usd": "US dollars",
    "usd_per_conversation": "US dollars",
    "usd_per_conversation_with_idle": "US dollars",
    "usd_per_million_tokens": "US dollars",
    "usd_per_hour": "US dollars",
    "timestamp_seconds": "Unix time",
    "seconds": "seconds",
    "per_second": "per second",
    "ratio": "0 to 1",
}
