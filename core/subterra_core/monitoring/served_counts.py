"""Sums of what monitors count about served conversations, and the weeks in which they count. Pure."""

from collections.abc import Iterable, Mapping
from datetime import date, timedelta

from subterra_api.job_contract.messages import HubCounts, ServedCounts

DAYS = 7


def week_of(day: date) -> date:
    """Monday of the day's week: the same for all pods, so that their counts add up."""
    return day - timedelta(days=day.weekday())


def total_counts(parts: Iterable[ServedCounts]) -> ServedCounts:
    """The sum of all counts, by hub and by terminal too."""
    total = ServedCounts()
    for part in parts:
        plain = {name: getattr(total, name) + getattr(part, name) for name in ServedCounts.model_fields if name not in _MAPS}
        hubs = {name: _hub(total.hubs.get(name), part.hubs.get(name)) for name in {**total.hubs, **part.hubs}}
        total = ServedCounts(**plain, endings=_summed(total.endings, part.endings), hubs=hubs)
    return total


_MAPS = ("endings", "hubs")


def _summed(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def _hub(one: HubCounts | None, other: HubCounts | None) -> HubCounts:
    parts = [part for part in (one, other) if part]
    return HubCounts(**{name: sum(getattr(part, name) for part in parts) for name in HubCounts.model_fields})
