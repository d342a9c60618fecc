"""The table of all metrics. Operator and exporter create no series that is not in it."""

from collections.abc import Mapping

from subterra_core.monitoring.metric import Metric, Source
from subterra_core.monitoring.operator_metrics import OPERATOR_METRICS
from subterra_core.monitoring.serving_metrics import EXPORTER_METRICS, OTHERS_METRICS

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in (*OPERATOR_METRICS, *EXPORTER_METRICS, *OTHERS_METRICS)}
SERIES: Mapping[str, Metric] = {name: metric for metric in METRICS.values() for name in metric.series}
"""Metrics by the names that queries use."""


def metric(name: str) -> Metric:
    """The metric of this name, with or without the prefix `subterra_`. Raises KeyError for one that is not in the table."""
    return METRICS.get(f"subterra_{name}") or METRICS[name]


def metrics_of(source: Source) -> tuple[Metric, ...]:
    """All metrics that a source exports, in the table's order."""
    return tuple(each for each in METRICS.values() if each.source == source)
