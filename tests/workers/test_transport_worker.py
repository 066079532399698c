"""The transport under real Celery workers that are really killed. TRANSPORT_TRIALS sets how often (5)."""

import json
import os
import signal
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from celery import Celery
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.transport import SOCKET_TIMEOUT_S

from .conftest import RedisServer, Worker, message, running_worker, wait_until
from .rubbish import messages
from .test_envelope import MALFORMED

TRIALS = int(os.environ.get("TRANSPORT_TRIALS", "5"))
LOAD = 150
OUTAGE_S = 3.0
SILENCE_S = SOCKET_TIMEOUT_S + 1.0
"""A Redis that is silent for so long is one that was given up."""

pytestmark = [pytest.mark.real, pytest.mark.timeout(300 + 30 * TRIALS)]

FLIGHT = "host.a.inflight.kvm07"


def producer(server: RedisServer) -> Celery:
    """A client as anyone's: stock Celery on the stock transport."""
    return Celery("producer", broker=server.url, set_as_current=False)


def settled(client: redis.Redis) -> bool:
    return not client.exists("host.a", FLIGHT)


def one_acknowledgement_each(worker: Worker) -> bool:
    """No message was settled twice: the second finds nothing in flight, and says so."""
    return "acknowledged_message_not_in_flight" not in worker.log()


def _outwait(seconds: float) -> None:
    """The state that the test wants is that so much time has passed."""
    over = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > over, f"{seconds} s to pass", deadline_s=seconds + 30)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_of_two_queues_serves_them_and_survives_what_it_is_sent(
    transport_redis: RedisServer, tmp_path: Path, pool: str
) -> None:
    client, celery = transport_redis.client(), producer(transport_redis)
    with running_worker(transport_redis, tmp_path, queues="host.a,compute", pool=pool) as worker:
        worker.wait_until_waiting(2)

        celery.send_task("probe.note", args=["by Celery"], queue="host.a")
        celery.send_task("probe.note", args=["by compute"], queue="compute")
        celery.send_task("probe.pass_on", args=["compute", ["from the pool"]], queue="host.a")
        worker.wait_for("by Celery", "by compute", "from the pool")

        copy = message("twice")
        client.lpush("host.a", copy, copy)
        wait_until(lambda: worker.traces().count("twice") == 2, "both copies run")

        for raw, _ in MALFORMED.values():
            client.lpush("host.a", raw)
        for command in (b"[]", b'"stop"', b"[" * 100_000, message("no command")):
            assert client.publish("/0.celery.pidbox", command) == 1
        assert client.publish("/0.celery.pidbox", json.dumps({"body": "e30=", "properties": {}})) == 1
        celery.send_task("probe.unknown", queue="host.a")
        client.lpush("host.a", message("after the fuzz"))
        worker.wait_for("after the fuzz")
        dead = [json.loads(one) for one in client.lrange("host.a.dead", 0, -1)]
        assert len(dead) == len(MALFORMED)
        assert all(one["reason"] for one in dead)
        assert celery.control.ping(timeout=5.0, limit=1) == [{"probe@kvm07": {"ok": "pong"}}]

        soon = datetime.now(UTC) + timedelta(seconds=1.5)
        celery.send_task("probe.note", args=["at its time"], eta=soon, queue="host.a")
        wait_until(lambda: client.llen(FLIGHT) == 1, "the scheduled message in flight")
        worker.wait_for("at its time")
        assert datetime.now(UTC) >= soon

        wait_until(lambda: settled(client) and not client.exists("compute", "compute.inflight.kvm07"), "all settled")
        assert worker.traces().count("twice") == 2
        assert worker.stop() == 0


def test_generated_rubbish_harms_no_worker(transport_redis: RedisServer, tmp_path: Path) -> None:
    """What is malformed is a dead letter, what is not is run or refused by Celery; and the next good message is handled."""
    client = transport_redis.client()
    with running_worker(transport_redis, tmp_path, log_level="critical") as worker:
        worker.wait_until_waiting()

        @settings(
            max_examples=TRIALS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        )
        @given(st.lists(messages(), min_size=1, max_size=60))
        def handles(rubbish: list[bytes]) -> None:
            good = str(uuid4())
            client.lpush("host.a", *rubbish, message(good))
            worker.wait_for(good)

        handles()
        assert client.llen("host.a") == 0
        client.delete("host.a.dead")
        worker.kill()  # what it was told to do in a year's time is still in its hand
    client.delete(FLIGHT)


def test_an_idle_queue_does_not_hold_up_the_other(transport_redis: RedisServer, tmp_path: Path) -> None:
    """Thirty messages sent one after another each on the heels of the last, through one slot, beside an idle queue."""
    client = transport_redis.client()
    with running_worker(transport_redis, tmp_path, queues="compute,host.a", concurrency=1) as worker:
        worker.wait_until_waiting(2)
        before = client.info("commandstats")["cmdstat_blmove"]["calls"]
        for number in range(30):
            client.lpush("host.a", message(f"n{number}"))
            worker.wait_for(f"n{number}")
        asked = client.info("commandstats")["cmdstat_blmove"]["calls"] - before
    assert worker.traces() == [f"n{number}" for number in range(30)]
    # Were the idle queue's second of waiting in the way, it would have been asked about thirty times as well.
    assert asked <= 30 + 15


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_kill_nine_under_load_loses_nothing(transport_redis: RedisServer, tmp_path: Path, pool: str) -> None:
    client = transport_redis.client()
    trials = TRIALS - TRIALS // 2 if pool == "prefork" else TRIALS // 2
    sent: list[str] = []
    for _ in range(trials):
        with running_worker(transport_redis, tmp_path, pool=pool) as worker:
            names = [str(uuid4()) for _ in range(LOAD)]
            client.lpush("host.a", *(message(name) for name in names))
            sent += names
            worker.wait_for_more(LOAD // 3)
            worker.kill()
    with running_worker(transport_redis, tmp_path, pool=pool) as worker:
        worker.wait_for(*sent)
        wait_until(lambda: settled(client), "all settled")
        assert worker.stop() == 0
    runs = Counter(worker.traces())
    assert set(runs) == set(sent)
    assert sum(runs.values()) - len(sent) <= 2 * trials  # what ran unacknowledged at a kill: two at most, by prefetch


def test_a_warm_shutdown_under_load_loses_nothing(transport_redis: RedisServer, tmp_path: Path) -> None:
    client = transport_redis.client()
    sent: list[str] = []
    shutdowns = max(1, TRIALS // 2)
    for _ in range(shutdowns):
        with running_worker(transport_redis, tmp_path) as worker:
            names = [str(uuid4()) for _ in range(LOAD)]
            client.lpush("host.a", *(message(name) for name in names))
            sent += names
            worker.wait_for_more(LOAD // 3)
            assert worker.stop() == 0
            assert not client.exists(FLIGHT)
    with running_worker(transport_redis, tmp_path) as worker:
        worker.wait_for(*sent)
        wait_until(lambda: settled(client), "all settled")
        assert worker.stop() == 0
    assert set(worker.traces()) == set(sent)
    # Celery may end without having read the last result of a child (see probe_app): that task is repeated, and no other.
    assert len(worker.traces()) - len(sent) <= 2 * shutdowns


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_connection_killed_in_mid_task_changes_nothing(
    transport_redis: RedisServer, tmp_path: Path, pool: str
) -> None:
    client = transport_redis.client()
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    with running_worker(transport_redis, tmp_path, pool=pool) as worker:
        worker.wait_until_waiting()
        client.lpush("host.a", message("long", task="probe.hold"), message("tomorrow", headers__eta=later))
        worker.wait_for("long began")
        wait_until(lambda: client.llen(FLIGHT) == 2, "the scheduled message in flight too")
        for kind in ("normal", "pubsub"):
            client.client_kill_filter(_type=kind, skipme=True)
        client.lpush("host.a", message("meanwhile"))
        worker.wait_for("meanwhile")
        wait_until(lambda: client.llen(FLIGHT) == 2, "what came meanwhile settled")
        worker.open_gate("long")
        worker.wait_for("long ended")
        wait_until(lambda: client.llen(FLIGHT) == 1, "the long task settled")
        assert worker.stop() == 0
        # What was scheduled went back when the worker did, for another to take.
        assert (client.llen("host.a"), client.llen(FLIGHT)) == (1, 0)
    assert worker.traces() == ["long began", "meanwhile", "long ended"]
    assert one_acknowledgement_each(worker)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_redis_that_hangs_in_mid_task_is_outlived(transport_redis: RedisServer, tmp_path: Path, pool: str) -> None:
    client = transport_redis.client()
    with running_worker(transport_redis, tmp_path, pool=pool) as worker:
        worker.wait_until_waiting()
        client.lpush("host.a", *(message(name, task="probe.hold") for name in ("ends late", "ends early")))
        worker.wait_for("ends late began", "ends early began")
        os.kill(transport_redis.pid, signal.SIGSTOP)
        try:
            worker.open_gate("ends early")
            worker.wait_for("ends early ended")
            _outwait(SILENCE_S)
        finally:
            os.kill(transport_redis.pid, signal.SIGCONT)
        wait_until(lambda: client.llen(FLIGHT) == 1, "the acknowledgement made up for")
        worker.open_gate("ends late")
        client.lpush("host.a", message("after"))
        worker.wait_for("ends late ended", "after")
        wait_until(lambda: settled(client), "all settled")
        assert worker.stop() == 0
    names = ["ends late began", "ends early began", "ends early ended", "ends late ended", "after"]
    assert Counter(worker.traces()) == Counter(names)


def test_a_redis_that_takes_no_writes_yet_is_waited_for(transport_redis: RedisServer, tmp_path: Path) -> None:
    """As one whose replicas are not there yet (NOREPLICAS), after a fail-over."""
    client = transport_redis.client()
    client.lpush("host.a", message("waits"))
    client.config_set("min-replicas-to-write", 1)
    with running_worker(transport_redis, tmp_path) as worker:
        wait_until(lambda: "NOREPLICAS" in worker.log(), "an attempt in vain")
        client.config_set("min-replicas-to-write", 0)
        worker.wait_for("waits")
        wait_until(lambda: settled(client), "all settled")
        assert worker.stop() == 0
    assert worker.traces() == ["waits"]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_redis_killed_in_mid_task_is_outlived(transport_redis: RedisServer, tmp_path: Path, pool: str) -> None:
    with running_worker(transport_redis, tmp_path, pool=pool) as worker:
        worker.wait_until_waiting()
        client = transport_redis.client()
        client.lpush("host.a", *(message(name, task="probe.hold") for name in ("ends late", "ends early")))
        worker.wait_for("ends late began", "ends early began")
        transport_redis.kill()
        worker.open_gate("ends early")
        worker.wait_for("ends early ended")
        _outwait(OUTAGE_S)
        # Celery's first attempt to reconnect has failed, and it waits two seconds for the second.
        wait_until(lambda: "Cannot connect" in worker.log(), "an attempt in vain")
        transport_redis.start()
        client = transport_redis.client()
        wait_until(lambda: client.llen(FLIGHT) == 1, "the acknowledgement made up for")
        worker.open_gate("ends late")
        worker.wait_for("ends late ended")
        client.lpush("host.a", message("after"))
        worker.wait_for("after")
        wait_until(lambda: settled(client), "all settled")
        assert worker.stop() == 0
    assert Counter(worker.traces()) == Counter(
        ["ends late began", "ends early began", "ends early ended", "ends late ended", "after"]
    )
