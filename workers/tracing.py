"""OpenTelemetry's traces of requests and steps. Only loaded where TASKVISOR_TRACES asks for it (`pip install taskvisor[otel]`).

The shape of a trace: the caller's span, if it named one (W3C `traceparent` in the request's message) → the operation, from its
request to its end → the request at the door, and each try of each step. Ids of trace and operation follow from the operation's
id, and so everybody who sends its steps on, after whatever death, tells of the same trace. The operation's span is told by who
writes its end; a try whose process died is told then, from the timeline.

Must never cost an operation anything but time: what can't be told is logged by OpenTelemetry and lost.
"""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tasks.flows import FLOWS
from tasks.tracing import PARENT_HEADER, StepTold
from taskvisor.model.errors import CannotAsk, TaskvisorError
from taskvisor.model.ids import OperationId
from taskvisor.model.operation import Operation, TimelineEntry
from taskvisor.model.states import Phase
from taskvisor.settings import Settings
from taskvisor.state.traces import Traces

log = structlog.get_logger(__name__)

NAME = "taskvisor"
PROCESS_DIED = "WorkerLost"
SERVER = SpanKind.SERVER
SHUTDOWN_LIMIT_S = 5.0
NANOSECONDS = 1_000_000_000
_W3C = TraceContextTextMapPropagator()


def open_provider(settings: Settings) -> TracerProvider:
    """Sends spans to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names, in batches, from a thread of its own."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - tests have their own

    provider = TracerProvider(resource=resource_of(settings), id_generator=ChosenIds())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def resource_of(settings: Settings) -> Resource:
    """Who tells: OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say more, or otherwise."""
    ours = {"service.name": NAME, "service.instance.id": settings.host, "host.name": settings.host}
    said = OTELResourceDetector().detect()  # by the variables, and no more
    return Resource.create(ours).merge(said)


class ChosenIds(RandomIdGenerator):
    """Ids by chance, unless this thread has chosen the next ones."""

    def __init__(self) -> None:
        self._chosen = threading.local()

    @contextmanager
    def choosing(self, *, trace_id: int, span_id: int) -> Iterator[None]:
        self._chosen.ids = (trace_id, span_id)
        try:
            yield
        finally:
            self._chosen.ids = None

    def generate_trace_id(self) -> int:
        ids: tuple[int, int] | None = getattr(self._chosen, "ids", None)
        return super().generate_trace_id() if ids is None else ids[0]

    def generate_span_id(self) -> int:
        ids: tuple[int, int] | None = getattr(self._chosen, "ids", None)
        return super().generate_span_id() if ids is None else ids[1]


class OtelTracing:
    """Implements the edge's `Tracing` for one process."""

    is_on = True

    def __init__(self, provider: TracerProvider, traces: Traces, host: str) -> None:
        """`provider` has `ChosenIds` for its ids."""
        self._provider = provider
        self._ids: ChosenIds = provider.id_generator
        self._tracer = provider.get_tracer(NAME)
        self._traces = traces
        self._host = host

    def headers_for(self, operation_id: OperationId) -> Mapping[str, str]:
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, self._inside(operation_id, self._parent_of(operation_id)))
        return {PARENT_HEADER: carrier[PARENT_HEADER]} if PARENT_HEADER in carrier else {}

    @contextmanager
    def request(self, name: str, request_id: OperationId, parent: str | None) -> Iterator[None]:
        context = _context_from(parent)
        if name in FLOWS:
            if parent is not None:
                self._note(request_id, parent)
            context = self._inside(request_id, parent)
        attributes = {"taskvisor.operation": request_id, "taskvisor.host": self._host}
        with self._tracer.start_as_current_span(
            f"{name} request", context, SERVER, attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except TaskvisorError as refusal:  # what else is raised here is Celery's way of saying how it goes on
                _WatchedSpan(span).failed(refusal)
                raise

    @contextmanager
    def step(self, told: StepTold) -> Iterator["_WatchedSpan"]:
        context = _context_from(told.parent) if told.parent else self._inside(told.operation_id, None)
        attributes = {
            "taskvisor.operation": told.operation_id,
            "taskvisor.instance": told.instance,
            "taskvisor.host": self._host,
            "taskvisor.flow": told.flow,
            "taskvisor.step": told.step,
            "taskvisor.direction": told.direction.value,
        }
        name = _step_name(told.flow, told.step, told.direction.value)
        with self._tracer.start_as_current_span(name, context, SpanKind.CONSUMER, attributes) as span:
            yield _WatchedSpan(span)

    def ended(self, operation: Operation) -> None:
        parent = self._parent_of(operation.id)
        inside = self._inside(operation.id, parent)
        for number, entry in enumerate(operation.timeline):
            if entry.outcome == PROCESS_DIED:
                self._tell_dead_try(operation, entry, number, inside)
        own = trace.get_current_span(inside).get_span_context()
        attributes = {
            "taskvisor.operation": operation.id,
            "taskvisor.instance": operation.instance_name,
            "taskvisor.instance.id": operation.instance_id,
            "taskvisor.host": operation.host,
            "taskvisor.outcome": operation.phase.value,
        }
        with self._ids.choosing(trace_id=own.trace_id, span_id=own.span_id):
            span = self._tracer.start_span(
                operation.flow,
                _context_from(parent),
                SERVER,
                attributes,
                start_time=_ns(operation.created_at),
            )
        if operation.failure is not None and operation.phase is not Phase.SUCCEEDED:
            failure = operation.failure
            span.set_status(Status(StatusCode.ERROR, f"{failure.code}: {failure.step}: {failure.message}"))
        span.end(_ns(operation.updated_at))

    def shutdown(self) -> None:
        """What was told has been sent, as far as it can be within SHUTDOWN_LIMIT_S: no process's end waits longer."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(SHUTDOWN_LIMIT_S)

    def _tell_dead_try(self, operation: Operation, entry: TimelineEntry, number: int, inside: Context) -> None:
        """Nobody is left to tell of it but the timeline."""
        attributes = {
            "taskvisor.operation": operation.id,
            "taskvisor.instance": operation.instance_name,
            "taskvisor.host": entry.host,
            "taskvisor.flow": operation.flow,
            "taskvisor.step": entry.step,
            "taskvisor.direction": entry.direction.value,
        }
        trace_id = trace.get_current_span(inside).get_span_context().trace_id
        with self._ids.choosing(trace_id=trace_id, span_id=_number_of(f"{operation.id} try {number}", bytes_wanted=8)):
            span = self._tracer.start_span(
                _step_name(operation.flow, entry.step, entry.direction.value),
                inside,
                SpanKind.CONSUMER,
                attributes,
                start_time=_ns(entry.started_at),
            )
        span.set_status(Status(StatusCode.ERROR, entry.message or entry.outcome))
        span.end(_ns(entry.ended_at))

    def _inside(self, operation_id: OperationId, parent: str | None) -> Context:
        """The context of what is done for the operation: its own span, which is told at its end."""
        named = trace.get_current_span(_context_from(parent)).get_span_context()
        if named.is_valid:
            trace_id, flags = named.trace_id, named.trace_flags
        else:
            trace_id = _number_of(operation_id, bytes_wanted=16)
            chosen = self._provider.sampler.should_sample(None, trace_id, operation_id).decision.is_sampled()
            flags = TraceFlags(TraceFlags.SAMPLED if chosen else TraceFlags.DEFAULT)
        span_id = _number_of(f"{operation_id} itself", bytes_wanted=8)
        own = SpanContext(trace_id=trace_id, span_id=span_id, is_remote=True, trace_flags=flags)
        return trace.set_span_in_context(NonRecordingSpan(own), Context())

    def _parent_of(self, operation_id: OperationId) -> str | None:
        """What the caller named. Without Redis the operation is told as a trace of its own."""
        try:
            return self._traces.read(operation_id)
        except CannotAsk as silence:
            log.warning("trace_not_read", op=operation_id, reason=str(silence))
            return None

    def _note(self, operation_id: OperationId, parent: str) -> None:
        if not trace.get_current_span(_context_from(parent)).get_span_context().is_valid:
            return
        with suppress(CannotAsk):  # what the request itself then says of Redis is what matters
            self._traces.note(operation_id, parent)


class _WatchedSpan:
    def __init__(self, span: Span) -> None:
        self._span = span

    def failed(self, error: Exception) -> None:
        self._span.record_exception(error)
        self._span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))


def _context_from(parent: str | None) -> Context:
    """The caller's; an empty one when it named none, or no valid one."""
    carrier: dict[str, Any] = {} if parent is None else {PARENT_HEADER: parent}
    return _W3C.extract(carrier, Context())


def _step_name(flow: str, step: str, direction: str) -> str:
    return FLOWS[flow].task_name(step) + (".undo" if direction == "undo" else "") if flow in FLOWS else f"{flow}.{step}"


def _number_of(text: str, *, bytes_wanted: int) -> int:
    """An id that follows from the text, and is never 0, which is none (https://www.w3.org/TR/trace-context/#trace-id)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:bytes_wanted], "big") or 1


def _ns(seconds: float) -> int:
    return int(seconds * NANOSECONDS)
