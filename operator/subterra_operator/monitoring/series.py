"""The operator's time series: created from the table of metrics, and replaced as a whole for each resource."""

from collections.abc import Iterable
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from subterra_core.monitoring.metric_table import metric
from subterra_operator.resources import Key

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)


def gauge(name: str) -> Gauge:
    """The gauge `subterra_<name>`. Raises KeyError for one that is not in the table."""
    wanted = metric(name)
    assert wanted.kind == "gauge", name
    return Gauge(wanted.name, wanted.help, wanted.labels, registry=REGISTRY)


def counter(name: str) -> Counter:
    """The counter `subterra_<name>`. Raises KeyError for one that is not in the table."""
    wanted = metric(name)
    assert wanted.kind == "counter", name
    return Counter(wanted.name, wanted.help, wanted.labels, registry=REGISTRY)


def histogram(name: str) -> Histogram:
    """The histogram `subterra_<name>`. Raises KeyError for one that is not in the table."""
    wanted = metric(name)
    assert wanted.kind == "histogram", name
    return Histogram(wanted.name, wanted.help, wanted.labels, registry=REGISTRY, buckets=wanted.buckets)


class Sample(NamedTuple):
    """A gauge's value; `labels` are those after the namespace."""

    name: str
    labels: tuple[str, ...]
    value: float | None


class ResourceGauges:
    """Gauges about resources. A report replaces the one before, so what a resource no longer has vanishes with it."""

    def __init__(self, *names: str) -> None:
        self._gauges = {name: gauge(name) for name in names}
        self._present: dict[tuple[Key, str], frozenset[tuple[str, tuple[str, ...]]]] = {}

    def report(self, key: Key, samples: Iterable[Sample], part: str = "") -> None:
        """Replaces the gauges of one resource, or of a `part` of it. Samples without a value are left out."""
        found = {(name, labels): value for name, labels, value in samples if value is not None}
        for name, labels in self._present.pop((key, part), frozenset()) - found.keys():
            self._gauges[name].remove(key.namespace, *labels)
        for (name, labels), value in found.items():
            self._gauges[name].labels(key.namespace, *labels).set(value)
        if found:
            self._present[key, part] = frozenset(found)

    def remove(self, key: Key, *parts: str) -> None:
        """Removes the gauges of one resource: of these `parts`, or of the whole."""
        for each in parts or [part for owner, part in self._present if owner == key]:
            self.report(key, (), each)

    def clear(self) -> None:
        """Removes the gauges of all resources."""
        self._present.clear()
        for each in self._gauges.values():
            each.clear()
