"""The chart's rules on a shorter time scale, so that an alert that takes an hour fires within a minute. Pure."""

import re
from dataclasses import dataclass
from typing import Any

import yaml

SAMPLES = 4
"""Scrapes that a window covers at least: a rate needs two of them, and one may be late."""
LEAST_AGE_SECONDS = 15.0
"""No age is compared with less: the operator renews its Lease every 2 s, and is scraped every few seconds."""
LEAST_HOLD_SECONDS = 1.0
KEPT_AGES = frozenset({"subterra_reconcile_oldest_timestamp_seconds"})
"""Ages that the operator's own schedule decides: a check is due every five minutes, however fast the drill is."""
_WINDOW = re.compile(r"\[(\d+[smhdw])\]")
_AGE = re.compile(r"(time\(\) - (\w+) > )(\d+)\b")
_SPAN = re.compile(r"(\d+)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True)
class TimeScale:
    """Divides the times of rules by one factor: how long an alert holds, windows, and ages that are compared with `time()`."""

    factor: float
    interval: int
    """Seconds between two scrapes, and between two evaluations."""

    def rules(self, text: str) -> str:
        """The rules of a file on this scale. All else in them is as it was: thresholds, days until a model retires, labels."""
        found = yaml.safe_load(text)
        for group in found["groups"]:
            for rule in group["rules"]:
                self._shorten(rule)
        return yaml.safe_dump(found, sort_keys=False, width=130, allow_unicode=True)

    def seconds(self, span: str) -> float:
        """How long an alert that holds for ``span``, such as 5m, holds on this scale."""
        return max(LEAST_HOLD_SECONDS, _seconds(span) / self.factor)

    def _shorten(self, rule: dict[str, Any]) -> None:
        if "for" in rule:
            rule["for"] = f"{self.seconds(rule['for']) * 1000:.0f}ms"
        rule["expr"] = _WINDOW.sub(lambda found: f"[{self._window(found[1])}]", rule["expr"])
        rule["expr"] = _AGE.sub(lambda found: f"{found[1]}{self._age(found[2], float(found[3])):g}", rule["expr"])

    def _window(self, span: str) -> str:
        return f"{max(SAMPLES * self.interval, _seconds(span) / self.factor) * 1000:.0f}ms"

    def _age(self, series: str, seconds: float) -> float:
        return seconds if series in KEPT_AGES else max(LEAST_AGE_SECONDS, seconds / self.factor)


def _seconds(span: str) -> float:
    found = _SPAN.fullmatch(span)
    assert found is not None, span
    return float(found[1]) * _SECONDS[found[2]]
