"""Sends spans to a collector by OTLP over HTTP. The only module that imports OpenTelemetry's SDK.

Not as the process's global tracer provider: the providers' SDKs would then add spans of their own, with headers to match.
"""

import logging
import os
from threading import Lock, Thread

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from subterra_api import __version__
from subterra_api.job_contract.messages import RunIdentity
from subterra_jobs.stage.span import Span

log = logging.getLogger("subterra")

SERVICE = "subterra-jobs"
PATH = "/v1/traces"
"""Of spans, below a collector's base URL."""
SEND_MILLISECONDS = 1000.0
"""Interval at which spans are sent: what a worker that dies had not sent is lost."""
MOST_WAITING = 4096
"""Spans that wait for the collector; more are dropped."""


class SpanExport:
    """A queue of spans of one trace, and a thread that sends them."""

    def __init__(self, endpoint: str, trace_id: int, run: RunIdentity) -> None:
        self.trace_id, self._ids, self._adding = trace_id, _Ids(trace_id), Lock()
        _warn_once(endpoint)
        names = {"k8s.namespace.name": run.namespace, "k8s.pod.name": os.environ.get("HOSTNAME", "")}
        about = {"service.name": SERVICE, "service.version": __version__, **{name: text for name, text in names.items() if text}}
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource.create(about), id_generator=self._ids, shutdown_on_exit=False
        )
        exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/").removesuffix(PATH) + PATH)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=MOST_WAITING, schedule_delay_millis=SEND_MILLISECONDS)
        )
        self._tracer = self._provider.get_tracer("subterra", __version__)

    def add(self, span: Span, parent: int | None) -> None:
        """Queues a span that has ended."""
        context = None if parent is None else set_span_in_context(NonRecordingSpan(self._context_of(parent)))
        kind = SpanKind.CLIENT if span.client else SpanKind.INTERNAL
        with self._adding:
            self._ids.next_span = span.id
            made = self._tracer.start_span(span.name, context, kind, span.attributes, start_time=span.began)
        for name, at, attributes in span.events:
            made.add_event(name, attributes, at)
        if span.error is not None:
            made.set_status(StatusCode.ERROR, span.error)
        made.end(span.ended)

    def close(self, seconds: float) -> None:
        """Sends the rest; returns after `seconds` even if the collector does not answer."""
        sending = Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(seconds)

    def _context_of(self, span: int) -> SpanContext:
        return SpanContext(self.trace_id, span, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


class _Ids(IdGenerator):
    """Gives every span the run's trace, and the id that it has already."""

    def __init__(self, trace_id: int) -> None:
        self._trace_id, self.next_span = trace_id, 0

    def generate_trace_id(self) -> int:
        return self._trace_id

    def generate_span_id(self) -> int:
        return self.next_span


class _OneWarning(logging.Handler):
    """Says once what the SDK says with every batch that it cannot send."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(logging.WARNING)
        self._endpoint, self._said = endpoint, False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._said:
            self._said = True
            log.warning(
                "spans are lost, and the stage goes on without them: %s; correct tracing.endpoint (%s) in the chart's values, or "
                "tracing.namespace if a NetworkPolicy is in the way",
                record.getMessage(),
                self._endpoint,
            )


def _warn_once(endpoint: str) -> None:
    sdk = logging.getLogger("opentelemetry")
    sdk.handlers, sdk.propagate = [_OneWarning(endpoint)], False
