"""A trace joins the caller, the request and each step, over deaths and relaunches; and nothing of it is there when it is off."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.signals import setup_logging
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

from tasks.edge import Edge
from tasks.node import Node
from tasks.tracing import NO_TRACING, Tracing
from taskvisor.client import Taskvisor
from taskvisor.model.errors import Refused
from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.urls import celery_url_for
from taskvisor.settings import Settings
from taskvisor.state.traces import Traces
from tests.fixtures.machine import ROOT
from tests.support.fleet import IMAGE, KEYS, SMALL, Fleet
from tests.system.nodes import wait_until
from workers.open_tracing import open_tracing
from workers.tracing import ChosenIds, OtelTracing

STEPS = ["prepare_disk", "fetch_image", "render_xml", "plug_vif", "define_and_start"]
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
QUEUES = ["compute", "host.h1", "host.h1.control"]


@dataclass
class Traced:
    """A fleet of one host whose edge is traced, and an app that any producer might have."""

    fleet: Fleet
    app: Celery
    edge: Edge
    exporter: InMemorySpanExporter

    def ask(self, operation_id: str, parent: str | None = None) -> None:
        """A build is asked for, by a producer that names a trace or none."""
        fields = {"name": "web", "image": IMAGE, "flavor": SMALL}
        headers = {"traceparent": parent} if parent else None
        self.app.send_task("instance.build", kwargs=fields, queue="compute", task_id=operation_id, headers=headers)

    def work(self, operation_id: str) -> None:
        """A worker takes what is in the queues, until the operation has ended and that was told."""
        with start_worker(self.app, pool="solo", perform_ping_check=False, queues=QUEUES, loglevel="ERROR"):
            wait_until(lambda: self.named("instance.build"), f"the end of {operation_id} to be told")

    def spans(self) -> tuple[ReadableSpan, ...]:
        return tuple(self.exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans() if span.name == name]


def open_traced(redis_url: str, fleet: Fleet, provider: TracerProvider) -> tuple[Celery, Edge]:
    url = celery_url_for(redis_url)
    app = Celery("traced", broker=url, backend=url, set_as_current=False)
    app.conf.update(task_acks_late=True, worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)
    host = fleet.hosts[HostName("h1")]
    node = SimpleNamespace(
        host=host.name, door=fleet.door, drain_at_once=2, runner=host.runner, settler=fleet.settler, keeper=host.keeper
    )
    tracing: Tracing = OtelTracing(provider, Traces(fleet.client, KEYS, keep_s=60), "h1")
    edge = Edge(app, lambda: cast(Node, node), lambda: tracing)
    edge.register()
    return app, edge


@pytest.fixture(autouse=True)
def _logs_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker in this process sets up logging, or has `workers.app` do it when that was imported: what logs then is the same
    for every test that follows.
    """
    monkeypatch.setattr(setup_logging, "receivers", [])
    setup_logging.connect(leave_alone, weak=False)


def leave_alone(**_: object) -> None:
    """Who is there to set up logging keeps Celery from it."""


@pytest.fixture
def traced(redis_url: str, fleet: Fleet) -> Iterator[Traced]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(id_generator=ChosenIds())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app, edge = open_traced(redis_url, fleet, provider)
    with app:
        yield Traced(fleet=fleet, app=app, edge=edge, exporter=exporter)


def trace_id_of(span: ReadableSpan) -> str:
    return str(trace.format_trace_id(span.context.trace_id))


def test_a_trace_leads_from_the_caller_over_the_request_to_each_step(traced: Traced) -> None:
    traced.ask("op-1", CALLER)
    traced.work("op-1")

    (operation,) = traced.named("instance.build")
    (request,) = traced.named("instance.build request")
    steps = [traced.named(f"build.{step}") for step in STEPS]
    assert [len(spans) for spans in steps] == [1] * len(STEPS)
    assert {trace_id_of(span) for span in traced.spans() if "build" in span.name} == {CALLER.split("-")[1]}
    assert operation.parent is not None
    assert trace.format_span_id(operation.parent.span_id) == CALLER.split("-")[2]
    assert request.status.is_ok
    for span in (request, *(span for (span,) in steps)):
        assert span.parent is not None
        assert span.parent.span_id == operation.context.span_id
    attributes = dict(steps[1][0].attributes or {})
    assert attributes == {
        "taskvisor.operation": "op-1",
        "taskvisor.instance": "web",
        "taskvisor.host": "h1",
        "taskvisor.flow": "instance.build",
        "taskvisor.step": "fetch_image",
        "taskvisor.direction": "do",
    }


def test_a_relaunch_after_a_lost_message_and_a_death_is_of_the_same_trace(traced: Traced) -> None:
    traced.ask("op-1", CALLER)
    with start_worker(traced.app, pool="solo", perform_ping_check=False, queues=["compute"], loglevel="ERROR"):
        wait_until(lambda: traced.named("instance.build request"), "the request to be let in")
    broker = cast(Any, traced.fleet.client)
    assert broker.llen("host.h1") == 1
    broker.delete("host.h1")  # the message of the first step is lost
    die_in_first_step(traced.fleet)

    traced.edge.launch(traced.fleet.read("op-1"))
    traced.work("op-1")

    tries = sorted(traced.named("build.prepare_disk"), key=lambda span: span.start_time or 0)
    assert [span.status.is_ok for span in tries] == [False, True]
    (operation,) = traced.named("instance.build")
    assert {trace_id_of(span) for span in (*tries, operation)} == {CALLER.split("-")[1]}
    assert {span.parent.span_id for span in tries if span.parent} == {operation.context.span_id}


def die_in_first_step(fleet: Fleet) -> None:
    """The process of the first step dies in it, and its host's node starts anew."""
    from tests.support.harness import deliver_or_die, watch_all
    from tests.support.spies import DieAt

    fleet.post.launch(fleet.read("op-1"))
    watch_all(fleet, DieAt(5))
    assert deliver_or_die(fleet)
    watch_all(fleet, lambda *_: None)
    fleet.restart()


def test_without_a_caller_the_trace_follows_from_the_operations_id(traced: Traced) -> None:
    traced.ask("op-1")
    traced.work("op-1")

    (operation,) = traced.named("instance.build")
    assert operation.parent is None
    assert len({trace_id_of(span) for span in traced.spans() if "build" in span.name}) == 1
    assert dict(traced.edge._tracing().headers_for(OperationId("op-1"))) == {
        "traceparent": f"00-{trace_id_of(operation)}-{trace.format_span_id(operation.context.span_id)}-01"
    }


@pytest.mark.parametrize("parent", ["", "garbage", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "x" * 100_000])
def test_a_parent_that_is_none_is_passed_over(traced: Traced, parent: str) -> None:
    traced.ask("op-1", parent)
    traced.work("op-1")

    (operation,) = traced.named("instance.build")
    assert operation.parent is None
    assert traced.fleet.client.get(KEYS.trace("op-1")) is None


def test_a_failed_operation_says_so(traced: Traced) -> None:
    traced.ask("op-1")
    with start_worker(traced.app, pool="solo", perform_ping_check=False, queues=["compute"], loglevel="ERROR"):
        wait_until(lambda: traced.named("instance.build request"), "the request to be let in")
    stranger = traced.fleet.hosts[HostName("h1")].outsider
    stranger.ensure_foreign_domain(traced.fleet.read("op-1").instance_id, "stranger")
    traced.work("op-1")

    (operation,) = traced.named("instance.build")
    assert not operation.status.is_ok
    assert (operation.attributes or {})["taskvisor.outcome"] == "stuck"
    (failed,) = [span for span in traced.spans() if span.name.startswith("build.") and span.events]
    assert "Contradiction" in str(failed.status.description)


def test_a_refused_request_says_so(traced: Traced) -> None:
    fields = {"name": "not a name!", "image": IMAGE, "flavor": SMALL}
    traced.app.send_task("instance.build", kwargs=fields, queue="compute", task_id="op-1")
    with start_worker(traced.app, pool="solo", perform_ping_check=False, queues=["compute"], loglevel="ERROR"):
        wait_until(lambda: traced.named("instance.build request"), "the request to be refused")

    (request,) = traced.named("instance.build request")
    assert str(request.status.description).startswith("Refused: name")


def test_what_the_operators_sampler_leaves_out_is_left_out_whole(redis_url: str, fleet: Fleet) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(id_generator=ChosenIds(), sampler=ParentBased(ALWAYS_OFF))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app, _ = open_traced(redis_url, fleet, provider)
    with app:
        traced = Traced(fleet=fleet, app=app, edge=Edge(app, lambda: cast(Node, None)), exporter=exporter)
        traced.ask("op-1")
        with start_worker(app, pool="solo", perform_ping_check=False, queues=QUEUES, loglevel="ERROR"):
            wait_until(lambda: _has_ended(fleet), "the build")
    assert traced.spans() == ()


def _has_ended(fleet: Fleet) -> bool:
    operation = fleet.store.catalog.read_operation(OperationId("op-1"))
    return operation is not None and operation.phase.settled


def test_the_client_names_its_callers_span(redis_url: str, fleet: Fleet) -> None:
    tracer = TracerProvider().get_tracer("producer")
    with Taskvisor(redis_url) as client, tracer.start_as_current_span("deploy") as span:
        client.build(name="web", image=IMAGE, flavor="c1-m64-d1")
        own = span.get_span_context()

    (message,) = cast("list[str]", cast(Any, fleet.client).lrange("compute", 0, -1))
    assert f"00-{trace.format_trace_id(own.trace_id)}-{trace.format_span_id(own.span_id)}-" in message


def test_off_is_off(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert open_tracing(Settings(), client) is NO_TRACING


def test_no_process_loads_opentelemetry_unless_it_is_asked_to() -> None:
    # redis-py loads the interface for metrics of its own, where it is installed
    program = "import sys, workers.app, taskvisor.client; sys.exit('opentelemetry.sdk.trace' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, timeout=120).returncode == 0


def test_an_extra_that_is_absent_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    with (
        redis.Redis.from_url(redis_url) as client,
        pytest.raises(Refused, match=r"pip install 'taskvisor\[otel\]'"),
    ):
        open_tracing(Settings(traces="otlp"), client)
