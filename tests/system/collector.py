"""A collector of OpenTelemetry's, small: takes spans by OTLP/HTTP, as protobuf, and keeps them; or takes them and never answers.

See https://opentelemetry.io/docs/specs/otlp/#otlphttp. Knows nothing of who tells.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

PATH = "/v1/traces"
PROTOBUF = "application/x-protobuf"


@dataclass(frozen=True, kw_only=True)
class Told:
    """One span, with who told it. Ids are hexadecimal; `error` is empty where nothing failed."""

    name: str
    trace: str
    id: str
    parent: str
    error: str
    seconds: float
    attributes: dict[str, str]
    resource: dict[str, str]


@dataclass(kw_only=True)
class Collector:
    """What it was told, and where it listens."""

    port: int = 0
    spans: list[Told] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Requests that were none of OTLP's."""
    in_hand: int = 0
    """Requests that came, in all; of one that hangs, none was answered."""
    let_go: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """As OTEL_EXPORTER_OTLP_ENDPOINT wants it."""
        return f"http://127.0.0.1:{self.port}"

    def named(self, name: str) -> list[Told]:
        return [span for span in self.spans if span.name == name]


class _Request(BaseHTTPRequestHandler):
    collector: Collector
    hangs: bool

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.collector.in_hand += 1
        if self.hangs:
            self.collector.let_go.wait()
            return
        if self.path != PATH or self.headers["Content-Type"] != PROTOBUF:
            self.collector.refused.append(f"{self.path} {self.headers['Content-Type']}")
        self.collector.spans += spans_of(ExportTraceServiceRequest.FromString(body))
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", PROTOBUF)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


def spans_of(request: Any) -> Iterator[Told]:
    """The spans of one request."""
    for resource in request.resource_spans:
        who = _texts(resource.resource.attributes)
        for scope in resource.scope_spans:
            yield from (_told(span, who) for span in scope.spans)


def _told(span: Span, who: dict[str, str]) -> Told:
    return Told(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        error=span.status.message if span.status.code == Status.STATUS_CODE_ERROR else "",
        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        attributes=_texts(span.attributes),
        resource=who,
    )


def _texts(attributes: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in attributes}


@contextmanager
def collecting(*, hangs: bool = False) -> Iterator[Collector]:
    """A collector on a loopback port. One that `hangs` takes requests, and answers none until the block ends."""
    collector = Collector()
    handler = type("Request", (_Request,), {"collector": collector, "hangs": hangs})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    collector.port = server.server_address[1]
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.let_go.set()
        server.shutdown()
        server.server_close()
        thread.join()
