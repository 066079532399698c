"""What Prometheus is told, as Prometheus reads it."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from tasks.flows import ALL_FLOWS
from taskvisor.model.ids import HostName
from taskvisor.model.tick import DONE, Run
from taskvisor.state.connection import open_redis
from taskvisor.state.series import Series
from tests.fixtures.machine import ROOT
from tests.fixtures.redis_servers import OpenRedisServer
from tests.metrics.scraping import told_by, value_of
from tests.support.fleet import KEYS, Fleet
from workers.metrics import StoreCollector, metrics_table


def test_an_empty_fleet_has_zeros_where_something_may_happen(collector: StoreCollector) -> None:
    told = told_by(collector)

    assert value_of(told, "taskvisor_store_up") == 1
    assert value_of(told, "taskvisor_operations_stuck") == 0
    assert value_of(told, "taskvisor_operations_oldest_age_seconds") == 0
    assert value_of(told, "taskvisor_operations_unsettled", phase="waiting") == 0
    assert value_of(told, "taskvisor_messages_dead_lettered_total") == 0
    assert {
        value_of(told, "taskvisor_operations_total", flow=flow.name, outcome=outcome)
        for flow in ALL_FLOWS
        for outcome in ("succeeded", "failed", "cancelled", "stuck")
    } == {0}


def test_a_build_that_is_done_is_counted_and_its_claim_is_told(fleet: Fleet, collector: StoreCollector) -> None:
    fleet.build("web")

    told = told_by(collector)

    assert value_of(told, "taskvisor_operations_total", flow="instance.build", outcome="succeeded") == 1
    assert (
        value_of(
            told,
            "taskvisor_step_tries_total",
            flow="instance.build",
            step="fetch_image",
            direction="do",
            outcome="done",
        )
        == 1
    )
    assert value_of(told, "taskvisor_host_instances", host="h1") == 1
    assert value_of(told, "taskvisor_host_claimed_vcpus", host="h1") == 1
    assert value_of(told, "taskvisor_host_claimed_memory_bytes", host="h1") == 64 * 2**20
    assert value_of(told, "taskvisor_host_claimed_disk_bytes", host="h1") == 2**30
    assert value_of(told, "taskvisor_host_capacity_memory_bytes", host="h1") == 64 * 2**30


def test_an_operation_that_is_stuck_counts_until_it_is_not(fleet: Fleet, collector: StoreCollector) -> None:
    operation = fleet.begin_build("web")
    outsider = fleet.hosts[HostName("h1")].outsider
    outsider.ensure_foreign_domain(operation.instance_id, "stranger")
    fleet.post.deliver_all()

    told = told_by(collector)
    assert value_of(told, "taskvisor_operations_stuck") == 1
    assert value_of(told, "taskvisor_operations_total", flow="instance.build", outcome="stuck") == 1

    outsider.ensure_domain_gone(operation.instance_id)
    fleet.post.launch(fleet.door.retry(operation.id))
    fleet.post.deliver_all()
    told = told_by(collector)
    assert value_of(told, "taskvisor_operations_stuck") == 0
    assert value_of(told, "taskvisor_operations_total", flow="instance.build", outcome="stuck") == 1


def test_what_has_not_ended_is_told_with_its_age(fleet: Fleet, collector: StoreCollector) -> None:
    fleet.begin_build("web")
    fleet.clock.sleep(42)

    told = told_by(collector)

    assert value_of(told, "taskvisor_operations_unsettled", phase="running") == 1
    assert value_of(told, "taskvisor_operations_oldest_age_seconds") == 42
    assert value_of(told, "taskvisor_operations_longest_pause_seconds") == 42


def test_what_waits_is_in_hand_or_is_buried_is_told_by_queue(fleet: Fleet, collector: StoreCollector) -> None:
    fleet.client.rpush("compute", "a", "b")
    fleet.client.rpush("compute\x06\x163", "sent with a priority")
    fleet.client.rpush("host.h1.inflight.h1", "c")
    fleet.client.rpush("compute.inflight.h1", "d")
    fleet.client.rpush("host.h1.control.dead", "e", "f")

    told = told_by(collector)

    assert value_of(told, "taskvisor_queue_messages", queue="compute") == 3
    assert value_of(told, "taskvisor_queue_messages", queue="host.h1") == 0
    assert value_of(told, "taskvisor_queue_in_flight_messages", queue="host.h1", host="h1") == 1
    assert value_of(told, "taskvisor_queue_in_flight_messages", queue="compute", host="h1") == 1
    assert value_of(told, "taskvisor_queue_dead_messages", queue="host.h1.control") == 2


def test_hosts_are_told_by_which_of_their_nodes_is_silent(redis_url: str, memory_dir: Path) -> None:
    fleet = Fleet(redis_url, memory_dir, hosts=("h1", "h2"))
    fleet.store.hosts.note_gone(HostName("h2"), "first")
    fleet.store.hosts.note_taking(HostName("h2"), "second", keep_s=60)

    told = told_by(StoreCollector(fleet.client, KEYS, fleet.clock.now))
    fleet.close()

    assert [value_of(told, "taskvisor_hosts", state=state) for state in ("up", "down")] == [1, 1]
    assert [value_of(told, "taskvisor_host_up", host=host) for host in ("h1", "h2")] == [1, 0]
    assert [value_of(told, "taskvisor_host_takes_requests", host=host) for host in ("h1", "h2")] == [0, 1]


def test_what_cannot_be_read_hides_nothing_else(fleet: Fleet, collector: StoreCollector) -> None:
    fleet.client.delete(KEYS.counters)
    fleet.client.set(KEYS.counters, "not a hash")

    with capture_logs() as logged:
        told = told_by(collector)

    assert value_of(told, "taskvisor_operations_stuck") == 0
    assert not any(name.startswith("taskvisor_operations_total") for name, _ in told)
    assert [line["event"] for line in logged] == ["metrics_left_out"]


@pytest.fixture
def silent_redis(open_redis_server: OpenRedisServer) -> Iterator[redis.Redis]:
    """A client of a server that takes what it is told and says nothing."""
    server = open_redis_server()
    client = open_redis(server.url(), timeout_s=0.2)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    yield client
    os.kill(server.pid, signal.SIGCONT)
    client.close()


def test_of_a_silent_redis_only_its_silence_is_told(silent_redis: redis.Redis) -> None:
    assert told_by(StoreCollector(silent_redis, KEYS)) == {("taskvisor_store_up", frozenset()): 0}


def test_a_redis_that_is_not_there_is_told_and_one_that_is_back_is_read(open_redis_server: OpenRedisServer) -> None:
    server = open_redis_server()
    collector = StoreCollector(open_redis(server.url(), timeout_s=1.0), KEYS)
    server.kill()
    assert told_by(collector) == {("taskvisor_store_up", frozenset()): 0}

    server.start()

    assert value_of(told_by(collector), "taskvisor_store_up") == 1


def test_the_table_of_metrics_is_fresh() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()

    assert metrics_table() in page, (
        "put what `python -m workers.metrics` prints into docs/monitoring.md, section Metrics"
    )


def test_no_metric_is_told_that_is_not_described(fleet: Fleet, collector: StoreCollector) -> None:
    fleet.build("web")

    described = [family.name for family in collector.describe()]

    assert [family.name for family in collector.collect() if family.name not in described] == []
    assert sorted(described) == sorted(family.name for family in collector.collect())


NOW = Run(task="host.track", host=HostName("h1"), began_at=0.0, took_s=0.5, outcome=DONE)
PERIODS = {"host.track": 60.0, "operation.sweep": 15.0, "hosts.check": 10.0}


def test_periodic_tasks_are_told_with_their_age_and_how_many_are_late(redis_url: str, memory_dir: Path) -> None:
    fleet = Fleet(redis_url, memory_dir, hosts=("h1", "h2"))
    now, ticks = fleet.clock.now(), fleet.store.ticks
    ticks.note(replace(NOW, began_at=now - 10))
    ticks.note(replace(NOW, host=HostName("h2"), began_at=now - 1000, outcome="CannotAsk"))
    ticks.note(replace(NOW, task="operation.sweep", began_at=now - 500))
    ticks.note(replace(NOW, task="operation.sweep", host=HostName("h2"), began_at=now - 5))
    ticks.note(replace(NOW, task="host.monitor", began_at=now - 1e6))  # it is off by now

    told = told_by(StoreCollector(fleet.client, KEYS, fleet.clock.now, periods_s=PERIODS))
    fleet.close()

    assert value_of(told, "taskvisor_tick_age_seconds", task="host.track", host="h1") == 10
    assert value_of(told, "taskvisor_tick_last_duration_seconds", task="host.track", host="h1") == 0.5
    assert [value_of(told, "taskvisor_tick_last_failed", task="host.track", host=host) for host in ("h1", "h2")] == [
        0,
        1,
    ]
    assert value_of(told, "taskvisor_tick_age_seconds", task="operation.sweep", host="h2") == 5
    late = {task: value_of(told, "taskvisor_ticks_late", task=task) for task in PERIODS}
    assert late == {"host.track": 1, "operation.sweep": 0, "hosts.check": 1}
    assert not [labels for name, labels in told if ("task", "host.monitor") in labels and "tick_age" in name]
    assert value_of(told, "taskvisor_ticks_total", task="host.track", outcome="CannotAsk") == 1


def test_what_was_measured_is_told_until_it_is_old_and_of_instances_if_asked(fleet: Fleet) -> None:
    fleet.build("web")
    series = Series(fleet.client, KEYS)
    series.append(
        HostName("h1"), fleet.clock.now(), {"cpu.percent": 0.5, "cpu.x": None}, {fleet.instance().id: {"m": 7.0}}
    )
    plain = StoreCollector(fleet.client, KEYS, fleet.clock.now)
    of_instances = StoreCollector(fleet.client, KEYS, fleet.clock.now, of_instances=True)

    assert value_of(told_by(plain), "taskvisor_host_measured", host="h1", metric="cpu.percent") == 0.5
    assert not [name for name, _ in told_by(plain) if name == "taskvisor_instance_measured"]
    labels = {"instance": fleet.instance().id, "name": "web", "host": "h1", "metric": "m"}
    assert told_by(of_instances)["taskvisor_instance_measured", frozenset(labels.items())] == 7

    fleet.clock.sleep(181)
    assert not [name for name, _ in told_by(of_instances) if name.endswith("_measured")]


def test_how_long_steps_and_operations_took_is_told_as_histograms(fleet: Fleet, collector: StoreCollector) -> None:
    fleet.build("web")

    told = told_by(collector)

    step = {"flow": "instance.build", "step": "fetch_image", "direction": "do"}
    assert value_of(told, "taskvisor_step_duration_seconds_count", **step) == 1
    assert value_of(told, "taskvisor_step_duration_seconds_bucket", le="+Inf", **step) == 1
    end = {"flow": "instance.build", "outcome": "succeeded"}
    assert value_of(told, "taskvisor_operation_duration_seconds_count", **end) == 1
    operation = fleet.read("build-web")
    took_s = operation.updated_at - operation.created_at
    assert value_of(told, "taskvisor_operation_duration_seconds_sum", **end) == pytest.approx(took_s, abs=0.001)


def test_what_the_sweep_found_is_told_by_kind(fleet: Fleet, collector: StoreCollector) -> None:
    assert value_of(told_by(collector), "taskvisor_sweep_findings_total", kind="overdue_operation") == 0
    fleet.begin_build("web")
    fleet.post.chains.clear()
    fleet.clock.sleep(60)

    assert fleet.sweep.run() == 1

    assert value_of(told_by(collector), "taskvisor_sweep_findings_total", kind="overdue_operation") == 1
