"""Who tells of a span, and how long the end of a process waits for a collector."""

import threading
from collections.abc import Sequence
from typing import cast

import pytest
import redis
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from taskvisor.model.ids import OperationId
from taskvisor.settings import Settings
from taskvisor.state.keys import Keys
from taskvisor.state.traces import Traces
from workers import tracing
from workers.tracing import ChosenIds, OtelTracing, resource_of

WHO = ("service.name", "service.instance.id", "host.name")


def who(host: str) -> list[object]:
    told = resource_of(Settings(host=host)).attributes
    return [told[name] for name in WHO]


def test_a_span_is_of_this_hosts_taskvisor(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)

    assert who("kvm1") == ["taskvisor", "kvm1", "kvm1"]


def test_what_opentelemetrys_variables_say_is_told_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "cloud")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=kvm1.example.org,deployment.environment.name=test")

    assert who("kvm1") == ["cloud", "kvm1", "kvm1.example.org"]
    assert resource_of(Settings(host="kvm1")).attributes["deployment.environment.name"] == "test"


class Hanging(SpanExporter):  # type: ignore[misc]
    """Takes spans, and comes back when it is let go."""

    def __init__(self) -> None:
        self.took = threading.Event()
        self.let_go = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.took.set()
        self.let_go.wait()
        return SpanExportResult.FAILURE


def test_the_end_of_a_process_does_not_wait_for_a_collector_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "SHUTDOWN_LIMIT_S", 0.1)
    exporter, provider = Hanging(), TracerProvider(id_generator=ChosenIds(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    nobody = cast("redis.Redis", None)
    told = OtelTracing(provider, Traces(nobody, Keys("t:"), keep_s=1), "kvm1")
    with told.request("host.track", OperationId("op-1"), None):
        pass

    told.shutdown()

    assert exporter.took.wait(60)  # and did not come back
    exporter.let_go.set()
