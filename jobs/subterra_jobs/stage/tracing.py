"""Spans of a stage and of its calls, where the environment names a collector; elsewhere nothing, and no SDK is imported.

All spans of a run are one trace, whose id is the run's uid: stages, attempts and processes need to pass nothing on.
"""

import logging
import os
import random
import re
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import UUID

from subterra_api.job_contract.artifacts import Stage
from subterra_api.job_contract.environment import (
    ATTEMPT_VARIABLE,
    COLLECTOR_VARIABLE,
    JOB_VARIABLE,
    NODE_RANK_VARIABLE,
    TRACED_CALLS_VARIABLE,
)
from subterra_api.job_contract.messages import ExitCode, RunIdentity, StageResult
from subterra_jobs.stage.span import Span

if TYPE_CHECKING:
    from subterra_jobs.stage.span_export import SpanExport

log = logging.getLogger("subterra")

FLUSH_SECONDS = 2.0
"""Longest time that a process waits at its end for spans to be sent."""
PARENT_VARIABLE = "TRACEPARENT"
"""Where a stage's span is told to the processes that it starts, as OpenTelemetry's convention for environments has it."""


class Tracing:
    """The spans of one process of a run; with ``export`` `None` they go nowhere."""

    def __init__(self, export: "SpanExport | None" = None, traced_calls: float = 1.0, parent: int | None = None) -> None:
        self._export, self._traced_calls, self._parent = export, traced_calls, parent

    @property
    def on(self) -> bool:
        """Whether spans are sent anywhere."""
        return self._export is not None

    def children_of(self, span: Span) -> None:
        """Makes `span` the parent of all further spans, of this process and of those that it starts."""
        self._parent = span.id
        if self._export is not None:
            os.environ[PARENT_VARIABLE] = f"00-{self._export.trace_id:032x}-{span.id:016x}-01"

    def end(self, span: Span) -> None:
        """Sends a span, in the background. Of calls that went well at once only the wanted share is sent."""
        if self._export is None or span.began is None:
            return
        if span.client and not span.events and span.error is None and random.random() >= self._traced_calls:
            return
        span.ended = time.time_ns()
        self._export.add(span, self._parent if self._parent != span.id else None)

    def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Sends what is left and ends tracing, within a time whatever the collector does."""
        if self._export is not None:
            self._export.close(seconds)


_tracing = Tracing()


def tracing() -> Tracing:
    """The tracing of this process."""
    return _tracing


def start_tracing(run: RunIdentity, variables: Mapping[str, str]) -> Tracing:
    """Begins to trace this process, if the environment names a collector."""
    global _tracing  # noqa: PLW0603 - as in every tracing library: calls deep inside a stage are not handed a tracer
    _tracing = Tracing()
    if endpoint := variables.get(COLLECTOR_VARIABLE):
        _tracing = _sending_to(endpoint, run, variables)
    return _tracing


def _sending_to(endpoint: str, run: RunIdentity, variables: Mapping[str, str]) -> Tracing:
    """Tracing with a collector. What the SDK refuses, as an option of its own in the environment, is a warning and no failure."""
    trace = trace_id(run.uid)
    try:
        from subterra_jobs.stage.span_export import SpanExport

        return Tracing(SpanExport(endpoint, trace, run), _share(variables), _told_parent(variables, trace))
    except Exception as error:
        log.warning("there are no spans: %s: %s; correct the variables that begin with OTEL_", type(error).__name__, error)
        return Tracing()


def trace_id(uid: str) -> int:
    """The trace of a run: its uid, which has as many bits. What is no UUID, outside of a cluster, is hashed."""
    try:
        return UUID(uid).int
    except ValueError:
        return int.from_bytes(sha256(uid.encode()).digest()[:16])


def stage_span(stage: Stage, run: RunIdentity, variables: Mapping[str, str]) -> Span:
    """The span of one attempt at a stage, from now on."""
    told = {"subterra.attempt": ATTEMPT_VARIABLE, "subterra.node_rank": NODE_RANK_VARIABLE}
    numbers = {name: int(variables[key]) for name, key in told.items() if variables.get(key, "").isdecimal()}
    names = {"subterra.agent": run.agent, "k8s.job.name": variables.get(JOB_VARIABLE)}
    known = {name: value for name, value in names.items() if value}
    return Span(stage, {"subterra.stage": stage, "subterra.run": run.name, **known, **numbers})


def end_stage(span: Span, code: int, message: str, result: StageResult | None) -> None:
    """Ends a stage's span with its exit code; ``message`` is its error, as the run's conditions have it."""
    if code != ExitCode.SUCCEEDED:
        span.error = message
        span.attributes["error.type"] = ExitCode(code).name if code in list(ExitCode) else "TERMINATED"
    if result is not None:
        spent = {"subterra.usd": float(result.usd), "subterra.tokens": result.tokens}
        span.attributes |= {"subterra.reused": result.reused, "subterra.artifact": result.path, **spent}
    span.attributes |= {"process.exit.code": code}
    tracing().end(span)


def _share(variables: Mapping[str, str]) -> float:
    """The share of calls with a span; all of them for what is no number, since tracing must fail no stage."""
    try:
        return float(variables.get(TRACED_CALLS_VARIABLE) or 1)
    except ValueError:
        return 1.0


def _told_parent(variables: Mapping[str, str], trace: int) -> int | None:
    """Id of the span of this trace in which this process was started; `None` without any."""
    _, told, span, *_ = [*variables.get(PARENT_VARIABLE, "").split("-"), "", "", ""]
    return int(span, 16) if told == f"{trace:032x}" and re.fullmatch("[0-9a-f]{16}", span) else None
