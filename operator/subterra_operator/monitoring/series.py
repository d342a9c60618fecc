"""The operator's time series: created from the table of metrics, and replaced as a whole for each resource."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from subterra_core.monitoring.metric import Metric
from subterra_core.monitoring.metric_table import metric
from subterra_operator.resources import Key

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)


def _gauge_metric(name: str) -> Metric:
    wanted = metric(name)
    assert wanted.kind == "gauge", name
    return wanted


def gauge(name: str) -> Gauge:
    """The gauge `subterra_<name>`. Raises KeyError for one that is not in the table."""
    wanted = _gauge_metric(name)
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


class ResourceGauges(Collector):
    """Gauges about resources. A report replaces the one before, so what a resource no longer has vanishes with it.

    Values are kept as plain tuples and become series at a scrape: `Gauge` keeps a kilobyte for each, of which a thousand agents
    have thirty thousand. Read by the threads that serve /metrics, written by the event loop.
    """

    def __init__(self, *names: str) -> None:
        self._metrics = {name: _gauge_metric(name) for name in names}
        self._reports: dict[tuple[Key, str], tuple[Sample, ...]] = {}
        REGISTRY.register(self)

    def report(self, key: Key, samples: Iterable[Sample], part: str = "") -> None:
        """Replaces the gauges of one resource, or of a `part` of it. Samples without a value are left out."""
        found = {(sys.intern(name), labels): value for name, labels, value in samples if value is not None}
        if found:
            self._reports[key, part] = tuple(Sample(name, labels, value) for (name, labels), value in found.items())
        else:
            self._reports.pop((key, part), None)

    def remove(self, key: Key, *parts: str) -> None:
        """Removes the gauges of one resource: of these `parts`, or of the whole."""
        for each in parts or [part for owner, part in self._reports if owner == key]:
            self._reports.pop((key, each), None)

    def clear(self) -> None:
        """Removes the gauges of all resources."""
        self._reports.clear()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All gauges with the values of this moment."""
        found = defaultdict[str, list[tuple[str, Sample]]](list)
        for (key, _), samples in list(self._reports.items()):
            for sample in samples:
                found[sample.name].append((key.namespace, sample))
        for name, wanted in self._metrics.items():
            family = GaugeMetricFamily(wanted.name, wanted.help, labels=wanted.labels)
            for namespace, sample in found.pop(name, ()):
                family.add_metric((namespace, *sample.labels), sample.value or 0)
            yield family
