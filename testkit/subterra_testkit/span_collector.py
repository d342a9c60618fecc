"""A collector that takes spans by OTLP over HTTP, as any real one does, and keeps them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from subterra_testkit.servers.local_server import QuietHandler, in_background

_KINDS = {trace_pb2.Span.SPAN_KIND_CLIENT: "client", trace_pb2.Span.SPAN_KIND_INTERNAL: "internal"}


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it arrived."""

    name: str
    trace: str
    id: str
    parent: str
    """Empty without one."""
    kind: str
    error: str | None
    """Its description, if its status is an error."""
    seconds: float
    attributes: dict[str, Any]
    resource: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]


@dataclass
class SpanCollector:
    """What arrived."""

    spans: list[ReceivedSpan] = field(default_factory=list)
    raw: bytes = b""
    """All bodies, to search for what must not be in them."""
    url: str = ""

    def named(self, start: str) -> list[ReceivedSpan]:
        """The spans whose name begins so."""
        return [span for span in self.spans if span.name.startswith(start)]

    def take(self, path: str, body: bytes) -> int:
        """The HTTP status for a request."""
        if path != "/v1/traces":
            return 404
        self.raw += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = _values(resource.resource.attributes)
            self.spans += [_received(span, about) for scope in resource.scope_spans for span in scope.spans]
        return 200


def _received(span: trace_pb2.Span, resource: dict[str, Any]) -> ReceivedSpan:
    failed = span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    return ReceivedSpan(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        _KINDS.get(span.kind, str(span.kind)),
        span.status.message if failed else None,
        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        _values(span.attributes),
        resource,
        [(event.name, _values(event.attributes)) for event in span.events],
    )


def _values(attributes: Any) -> dict[str, Any]:
    pairs: list[KeyValue] = list(attributes)
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return None if kind is None else getattr(value, kind)


@contextmanager
def span_collector() -> Iterator[SpanCollector]:
    """Serves a collector until the end of the block; `collector.url` is what `tracing.endpoint` would be."""
    collector = SpanCollector()

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            status = collector.take(self.path, self.body())
            self.answer(status, ExportTraceServiceResponse().SerializeToString(), "application/x-protobuf")

    with in_background(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as collector.url:
        yield collector
