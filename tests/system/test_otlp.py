"""Traces as a collector gets them: OTLP over HTTP, from real nodes; and a collector that is away or hangs harms nobody."""

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from taskvisor.client import Taskvisor
from tests.deploy.redis_processes import free_port
from tests.fixtures.redis_servers import RedisServer
from tests.system.collector import Collector, Told, collecting
from tests.system.nodes import Nodes, running_nodes, wait_until

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

IMAGE = "simulated://debian?virtual_gib=1"
SMALL = "c1-m64-d1"
LIMIT_S = 120.0
STOP_LIMIT_S = 90.0
"""TimeoutStopSec of the units: who has not ended by then is killed."""
STEPS = ("prepare_disk", "fetch_image", "render_xml", "plug_vif", "define_and_start")
CALLERS_TRACE, CALLERS_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NEVER_MS = "3600000"


def traced_nodes(redis_url: str, state_dir: Path, endpoint: str, *, delay_ms: str) -> AbstractContextManager[Nodes]:
    """Both nodes of a host, told by OpenTelemetry's own variables where to send spans, and how long to gather them."""
    return running_nodes(
        redis_url,
        state_dir,
        TASKVISOR_TRACES="otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_BSP_SCHEDULE_DELAY=delay_ms,
    )


def order(nodes: Nodes, collector: Collector) -> None:
    """A program with traces of its own asks for a guest, by our client."""
    provider = TracerProvider(resource=Resource({"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"{collector.url}/v1/traces")))
    with provider.get_tracer("shop").start_as_current_span("order"), Taskvisor(nodes.redis_url) as client:
        client.build(name="web1", image=IMAGE, flavor=SMALL, operation_id="ordered").wait(LIMIT_S)
    provider.shutdown()


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Iterator[Collector]:
    """It was told of three builds by nodes that send nothing before their end: asked for by a program with traces, by a message
    with a header, and by one that names no trace, whose build fails.
    """
    redis_server.flush(0)
    with collecting() as collector:
        with traced_nodes(
            redis_server.url(0), tmp_path_factory.mktemp("host"), collector.url, delay_ms=NEVER_MS
        ) as nodes:
            order(nodes, collector)
            headers = {"traceparent": f"00-{CALLERS_TRACE}-{CALLERS_SPAN}-01"}
            fields = {"name": "web2", "image": IMAGE, "flavor": SMALL}
            nodes.producer.send_task(
                "instance.build", kwargs=fields, queue="compute", task_id="by-header", headers=headers
            ).get(timeout=LIMIT_S)
            bad = {"name": "bad1", "image": "/nowhere.qcow2", "flavor": SMALL}
            nodes.send("instance.build", "failing", **bad).get(timeout=LIMIT_S, propagate=False)
            assert not collector.named("build.fetch_image")  # nobody has sent one yet
        yield collector


def of(collector: Collector, operation: str, name: str) -> Told:
    """The one span of that name that an operation has."""
    (found,) = (span for span in collector.named(name) if span.attributes.get("taskvisor.operation") == operation)
    return found


def test_a_trace_leads_from_the_producer_over_the_operation_to_each_step(collector: Collector) -> None:
    (order,) = collector.named("order")
    operation = of(collector, "ordered", "instance.build")
    parts = [
        of(collector, "ordered", name) for name in ("instance.build request", *(f"build.{step}" for step in STEPS))
    ]

    assert order.parent == ""
    assert (operation.trace, operation.parent) == (order.trace, order.id)
    assert {(span.trace, span.parent) for span in parts} == {(order.trace, operation.id)}
    assert [span.error for span in (operation, *parts)] == [""] * 7


def test_a_message_of_any_make_that_names_its_trace_is_of_that_trace(collector: Collector) -> None:
    operation = of(collector, "by-header", "instance.build")

    assert (operation.trace, operation.parent) == (CALLERS_TRACE, CALLERS_SPAN)
    assert {of(collector, "by-header", f"build.{step}").parent for step in STEPS} == {operation.id}


def test_spans_say_what_was_done_to_which_guest_and_who_tells(collector: Collector) -> None:
    operation, step = of(collector, "ordered", "instance.build"), of(collector, "ordered", "build.plug_vif")

    assert step.attributes == {
        "taskvisor.operation": "ordered",
        "taskvisor.instance": "web1",
        "taskvisor.host": "kvm1",
        "taskvisor.flow": "instance.build",
        "taskvisor.step": "plug_vif",
        "taskvisor.direction": "do",
    }
    assert operation.attributes["taskvisor.outcome"] == "succeeded"
    ours = {"service.name": "taskvisor", "service.instance.id": "kvm1", "host.name": "kvm1"}
    assert ours.items() <= step.resource.items()
    assert 0 < step.seconds < operation.seconds


def test_a_failure_is_told_with_its_class_and_step_and_what_was_taken_back(collector: Collector) -> None:
    operation, step = of(collector, "failing", "instance.build"), of(collector, "failing", "build.fetch_image")
    undone = of(collector, "failing", "build.prepare_disk.undo")

    assert operation.parent == ""
    assert operation.error.startswith("Refused: fetch_image: there is no image")
    assert step.error.startswith("Refused: there is no image")
    assert (undone.error, undone.attributes["taskvisor.direction"]) == ("", "undo")


def test_the_request_is_what_otlp_says_it_is(collector: Collector) -> None:
    assert collector.refused == []


def test_a_collector_that_hangs_holds_up_neither_a_build_nor_a_nodes_end(redis_url: str, tmp_state_dir: Path) -> None:
    with (
        collecting(hangs=True) as collector,
        traced_nodes(redis_url, tmp_state_dir, collector.url, delay_ms="50") as nodes,
    ):
        nodes.ask("instance.build", name="web1", image=IMAGE, flavor=SMALL)
        wait_until(lambda: collector.in_hand, "spans to be sent", LIMIT_S)
        nodes.ask("instance.build", name="web2", image=IMAGE, flavor=SMALL)

        end_in_good_order(nodes)


def test_a_collector_that_is_away_holds_up_neither_a_build_nor_a_nodes_end(redis_url: str, tmp_state_dir: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with traced_nodes(redis_url, tmp_state_dir, nobody, delay_ms="50") as nodes:
        nodes.ask("instance.build", name="web1", image=IMAGE, flavor=SMALL)

        end_in_good_order(nodes)


def end_in_good_order(nodes: Nodes) -> None:
    """SIGTERM, and both nodes have ended before a service manager would kill them."""
    for role in ("steps", "control"):
        os.kill(nodes.pid(role), signal.SIGTERM)
    for role in ("steps", "control"):
        wait_until(lambda role=role: not nodes.runs(role), f"the {role} node to end", STOP_LIMIT_S)  # type: ignore[misc]
