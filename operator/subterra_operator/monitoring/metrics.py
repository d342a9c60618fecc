"""The operator's Prometheus metrics about itself, and the entry points for those about resources."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from subterra_api import __version__
from subterra_operator.monitoring import agent_metrics, model_metrics, run_metrics
from subterra_operator.monitoring.series import REGISTRY, counter, gauge, histogram
from subterra_operator.resources import Key

__all__ = ["REGISTRY"]

BUILD = gauge("build_info")
BUILD.labels(__version__).set(1)
RECONCILES = counter("reconcile_total")
RECONCILE_SECONDS = histogram("reconcile_seconds")
OLDEST_RECONCILE = gauge("reconcile_oldest_timestamp_seconds")
QUEUE_KEYS = gauge("queue_keys")
QUEUE_OVERDUE = gauge("queue_overdue_seconds")
WATCH_SILENCE = gauge("watch_silence_seconds")
WATCH_RESTARTS = counter("watch_restarts_total")
API_REQUESTS = counter("api_requests_total")
API_LAST_ANSWER = gauge("api_last_answer_timestamp_seconds")
LEADER = gauge("leader")
REFUSED_WRITES = counter("refused_writes_total")
_checked: dict[Key, float] = {}
"""When each resource was last reconciled without an error, oldest first."""


def record_api_request(verb: str, code: int) -> None:
    """Counts a request to the API server; code 0 means no answer."""
    API_REQUESTS.labels(verb, str(code)).inc()
    if 0 < code < 500:
        API_LAST_ANSWER.set(time.time())


def record_check(key: Key, now: datetime) -> None:
    """Records that a resource's status is right."""
    _checked.pop(key, None)
    _checked[key] = now.timestamp()
    _report_oldest(key.kind)


def record_status(key: Key, status: Mapping[str, Any], subject: Mapping[str, Any], now: datetime) -> None:
    """Replaces a resource's gauges by those of its new `status`; `subject` still has the one before."""
    record_check(key, now)
    if key.kind == "CompileRun":
        run_metrics.record_run(key, status, subject)
    if key.kind == "CompiledAgent":
        agent_metrics.record_agent(key, status, subject, now)


def remove(key: Key) -> None:
    """Removes all gauges of a deleted resource."""
    _checked.pop(key, None)
    _report_oldest(key.kind)
    for module in (run_metrics, agent_metrics, model_metrics):
        module.forget(key)


def remove_all() -> None:
    """Removes what is measured of all resources, which only the leader reports."""
    _checked.clear()
    OLDEST_RECONCILE.clear()
    for module in (run_metrics, agent_metrics, model_metrics):
        module.forget_all()
    QUEUE_KEYS.set(0)
    QUEUE_OVERDUE.set(0)


def _report_oldest(kind: str) -> None:
    oldest = next((when for key, when in _checked.items() if key.kind == kind), None)
    if oldest is None:
        OLDEST_RECONCILE.remove_by_labels({"kind": kind})
    else:
        OLDEST_RECONCILE.labels(kind).set(oldest)
