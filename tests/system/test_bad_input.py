"""What anyone who can reach Redis may send: none of it changes anything on the host or in the store, and all of it is counted."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery

from taskvisor.model.errors import Refused, UnreadableRecord
from taskvisor.model.finding import Code
from taskvisor.model.urls import celery_url_for
from taskvisor.state.counters import CounterName, Counters
from taskvisor.state.keys import Keys
from tests.fixtures.redis_servers import RedisServer
from tests.support.world import list_all_files, read_everything
from tests.system.nodes import PREFIX, Nodes, running_nodes, wait_until
from tests.workers.conftest import message
from tests.workers.test_envelope import MALFORMED

pytestmark = pytest.mark.real

DATABASE = 14
KEPT: dict[str, Any] = {
    "name": "kept",
    "image": "simulated://debian?virtual_gib=1",
    "flavor": {"vcpus": 1, "memory_mib": 64, "disk_gib": 1},
}
QUEUES = ("host.kvm1", "host.kvm1.control", "compute")
RESTLESS = (
    *("tick:", "counters", "events", "alive:", "taking:", "host:", "hosts:moved"),
    *("revisions", "progress:"),
)
"""Keys (after the prefix) that tell of nodes and of what happened, and not of what is."""
DROPPED_MALFORMED = CounterName.MESSAGES_DROPPED_MALFORMED
DROPPED_UNKNOWN_OPERATION = CounterName.MESSAGES_DROPPED_UNKNOWN_OPERATION
DROPPED_UNKNOWN_TASK = CounterName.MESSAGES_DROPPED_UNKNOWN_TASK
DROPPED_UNREADABLE = CounterName.MESSAGES_DROPPED_UNREADABLE_RECORD
DEAD_LETTERED = CounterName.MESSAGES_DEAD_LETTERED


@pytest.fixture(scope="module")
def nodes(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A host with one guest, for all tests of this module; that no process of it has ended is seen at the end."""
    redis_server.flush(DATABASE)
    with running_nodes(redis_server.url(DATABASE), tmp_path_factory.mktemp("state")) as running:
        running.leaves = {Code.DEAD_LETTERS}
        kept = running.ask("instance.build", "build-kept", **KEPT)
        copy = running.state_dir / "simulated" / "instances" / kept["id"] / "record.json"
        wait_until(copy.exists, "the record to be kept beside its disks")
        pids = _pids(running)
        yield running
        assert _pids(running) == pids
        running.ask("instance.delete", instance="kept")


def _pids(nodes: Nodes) -> dict[str, list[int]]:
    return {role: [nodes.pid(role), *nodes.children(role)] for role in ("steps", "control")}


@pytest.fixture
def foreigner(nodes: Nodes) -> Celery:
    """Another team's Celery app on the same Redis, with ways of its own."""
    url = celery_url_for(nodes.redis_url)
    return Celery("foreigner", broker=url, backend=url, set_as_current=False)


@pytest.fixture(autouse=True)
def nothing_changes_and_a_build_works(nodes: Nodes) -> Iterator[None]:
    """Whatever a test sends: afterwards records and host are as they were, and the next request is carried out."""
    before = _world(nodes)
    yield
    _wait_until_handled(nodes)
    assert _world(nodes) == before
    built = nodes.ask("instance.build", **KEPT | {"name": "good"})
    assert built["power_state"] == "running"
    nodes.ask("instance.delete", instance="good")
    for key in nodes.redis.scan_iter(f"{PREFIX}op:*"):
        if key != f"{PREFIX}op:build-kept":
            nodes.redis.delete(key)
            nodes.redis.zrem(f"{PREFIX}ops", str(key).removeprefix(f"{PREFIX}op:"))


def _world(nodes: Nodes) -> tuple[dict[str, str], list[str], list[bytes]]:
    """Every record, every file of the host, and what is in each."""
    records = {
        key: digest
        for key, digest in read_everything(nodes.redis).items()
        if key.startswith(PREFIX) and not key.removeprefix(PREFIX).startswith(RESTLESS)
    }
    root = nodes.state_dir / "simulated"
    files = list_all_files(root)
    return records, files, [(root / name).read_bytes() for name in files if (root / name).is_file()]


def _wait_until_handled(nodes: Nodes) -> None:
    keys = [key for queue in QUEUES for key in (queue, f"{queue}.inflight.kvm1")]
    wait_until(lambda: not nodes.redis.exists(*keys), "the queues to be empty")


def _total(nodes: Nodes, name: CounterName) -> int:
    return Counters(nodes.redis, Keys(PREFIX)).read().get(name.value, 0)


def _counts_one_more(nodes: Nodes, name: CounterName, send: Callable[[], object], number: int = 1) -> None:
    before = _total(nodes, name)
    send()
    wait_until(lambda: _total(nodes, name) == before + number, f"{number} more {name.value}, {before} before")


@pytest.mark.parametrize("queue", QUEUES)
def test_malformed_messages_are_dead_letters_with_their_reasons(nodes: Nodes, queue: str) -> None:
    rubbish = [raw for raw, _ in MALFORMED.values()]

    _counts_one_more(nodes, DEAD_LETTERED, lambda: nodes.redis.lpush(queue, *rubbish), len(rubbish))

    dead = [json.loads(str(one)) for one in nodes.redis.lrange(f"{queue}.dead", 0, -1)]
    assert len(dead) == len(rubbish)
    assert all(one["reason"] for one in dead)


FOREIGN_SERIALIZATIONS = {
    "a pickled body": {"serializer": "pickle"},
    "a YAML body": {"serializer": "yaml"},
    "a compressed body": {"compression": "gzip"},
}


@pytest.mark.parametrize("kind", FOREIGN_SERIALIZATIONS)
def test_a_body_that_is_no_plain_json_is_a_dead_letter(nodes: Nodes, foreigner: Celery, kind: str) -> None:
    def send() -> None:
        options = FOREIGN_SERIALIZATIONS[kind]
        foreigner.send_task("instance.delete", kwargs={"instance": "kept"}, queue="compute", **options)

    _counts_one_more(nodes, DEAD_LETTERED, send)


def test_a_message_of_the_old_protocol_is_a_dead_letter(nodes: Nodes, foreigner: Celery) -> None:
    foreigner.conf.task_protocol = 1

    _counts_one_more(
        nodes,
        DEAD_LETTERED,
        lambda: foreigner.send_task("instance.delete", kwargs={"instance": "kept"}, queue="compute"),
    )


@pytest.mark.parametrize("queue", QUEUES)
def test_another_programs_task_is_dropped_and_counted(nodes: Nodes, foreigner: Celery, queue: str) -> None:
    asked = []

    _counts_one_more(
        nodes, DROPPED_UNKNOWN_TASK, lambda: asked.append(foreigner.send_task("shop.send_mail", args=[1], queue=queue))
    )

    with pytest.raises(
        Refused, match=r"^task: 'shop.send_mail': no worker here knows one of that name; docs/producers.md"
    ):
        asked[0].get(timeout=30)


@pytest.mark.parametrize("task", ["build.prepare_disk", "build.define_and_start.undo", "stop.shut_down"])
def test_a_step_of_an_unknown_operation_is_dropped_and_counted(nodes: Nodes, foreigner: Celery, task: str) -> None:
    fields = {"instance": "kept", "operation": str(uuid4())}

    _counts_one_more(
        nodes, DROPPED_UNKNOWN_OPERATION, lambda: foreigner.send_task(task, kwargs=fields, queue="host.kvm1")
    )


PROPER: dict[str, object] = {"instance": "kept", "operation": "build-kept"}
FORGED_STEPS: dict[str, tuple[list[object], dict[str, object]]] = {
    "no fields": ([], {}),
    "args instead of fields": (["kept", "build-kept"], {}),
    "args beside fields": (["kept"], PROPER),
    "a field too many": ([], {**PROPER, "force": True}),
    "a field of Celery's": ([], {**PROPER, "self_": 1}),
    "no instance": ([], {"operation": "build-kept"}),
    "an operation of an object": ([], {**PROPER, "operation": {"$ne": None}}),
    "an operation of a list": ([], {**PROPER, "operation": ["build-kept"]}),
    "a numeric operation": ([], {**PROPER, "operation": 7}),
    "no operation": ([], {**PROPER, "operation": None}),
    "an empty operation": ([], {**PROPER, "operation": ""}),
    "an operation that is a path": ([], {**PROPER, "operation": "../../etc/passwd"}),
    "an operation of lines": ([], {**PROPER, "operation": "build-kept\n"}),
    "an endless operation": ([], {**PROPER, "operation": "x" * 100_000}),
    "a numeric instance": ([], {**PROPER, "instance": 5}),
}


@pytest.mark.parametrize("kind", FORGED_STEPS)
def test_a_forged_step_is_dropped_and_counted(nodes: Nodes, foreigner: Celery, kind: str) -> None:
    args, fields = FORGED_STEPS[kind]

    _counts_one_more(
        nodes,
        DROPPED_MALFORMED,
        lambda: foreigner.send_task("build.define_and_start.undo", args=args, kwargs=fields, queue="host.kvm1"),
    )


def test_a_step_of_another_flow_is_dropped_and_counted(nodes: Nodes, foreigner: Celery) -> None:
    _counts_one_more(
        nodes,
        DROPPED_MALFORMED,
        lambda: foreigner.send_task("snapshot.copy_disk", kwargs=PROPER, queue="host.kvm1"),
    )


def test_the_steps_of_an_ended_operation_do_nothing(nodes: Nodes, foreigner: Celery) -> None:
    for step in ("prepare_disk", "plug_vif", "define_and_start"):
        for way in ("", ".undo"):
            foreigner.send_task(f"build.{step}{way}", kwargs=PROPER, queue="host.kvm1")


REQUESTS: dict[str, tuple[str, list[object], dict[str, object], str]] = {
    "fields without names": ("instance.delete", ["kept"], {}, "takes its fields by name"),
    "an unknown instance": ("instance.reboot", [], {"instance": "nobody"}, "nobody"),
    "an instance of an object": ("instance.delete", [], {"instance": {"name": "kept"}}, "instance"),
    "an instance of a list": ("instance.stop", [], {"instance": ["kept"]}, "instance"),
    "a field too many": ("instance.delete", [], {"instance": "kept", "force": True}, "force: unknown field"),
    "a path for a name": ("instance.build", [], {**KEPT, "name": "../kept"}, "name"),
    "nothing": ("instance.snapshot", [], {}, "instance"),
    "a wish about an unknown operation": ("operation.cancel", [], {"operation": "nobody's"}, "no such operation"),
    "a wish about an object": ("operation.retry", [], {"operation": {}}, "operation"),
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_request_that_makes_no_sense_is_refused_in_words(nodes: Nodes, foreigner: Celery, kind: str) -> None:
    task, args, fields, words = REQUESTS[kind]

    asked = foreigner.send_task(task, args=args, kwargs=fields, queue="compute")

    with pytest.raises(Refused, match=words):
        asked.get(timeout=60)


@pytest.mark.parametrize("operation_id", ["../../etc", "two words", "x" * 200, "'; FLUSHALL", "{}"])
def test_an_operation_id_that_is_none_is_refused(nodes: Nodes, foreigner: Celery, operation_id: str) -> None:
    asked = foreigner.send_task(
        "instance.build", kwargs=KEPT | {"name": "other"}, queue="compute", task_id=operation_id
    )

    with pytest.raises(Refused):
        asked.get(timeout=60)


TICKS: dict[str, tuple[str, list[object], dict[str, object]]] = {
    "settling nobody": ("operation.settle", [str(uuid4())], {}),
    "settling an object": ("operation.settle", [{"a": 1}], {}),
    "settling nothing": ("operation.settle", [], {}),
    "settling what has ended": ("operation.settle", ["build-kept"], {}),
    "a sweep with arguments": ("operation.sweep", [1], {}),
    "a fan-out of numbers": ("host.fan_out", [5, "often"], {}),
    "a fan-out of what nobody has": ("host.fan_out", ["shop.send_mail", 1e300], {}),
    "a group of strings": ("celery.group", ["a", "b", "c", True], {}),
    "a map of nothing": ("celery.map", [None, None], {}),
}


@pytest.mark.parametrize("kind", TICKS)
def test_periodic_work_asked_for_wrongly_does_nothing(nodes: Nodes, foreigner: Celery, kind: str) -> None:
    task, args, fields = TICKS[kind]
    foreigner.send_task(task, args=args, kwargs=fields, queue="compute")


EMBEDDED: dict[str, dict[str, object]] = {
    "a chain to nobody's task": {
        "chain": [{"task": "shop.send_mail", "args": [], "kwargs": {}, "options": {"queue": "compute"}}]
    },
    "a chain of half a signature": {"chain": [{"task": "host.track", "args": 5, "options": 7}]},
    "a callback of half a signature": {"callbacks": [{"task": "host.track", "kwargs": []}]},
    "a chord of half a signature": {"chord": {"task": "host.track", "options": []}},
    "an errback of half a signature": {"errbacks": [{"task": "host.track", "subtask_type": "chord"}]},
}


@pytest.mark.parametrize("kind", EMBEDDED)
def test_what_is_to_follow_a_forged_message_does_nothing(nodes: Nodes, kind: str) -> None:
    body = json.dumps([[], {**PROPER, "operation": str(uuid4())}, EMBEDDED[kind]])
    raw = message(task="build.prepare_disk", body=body, properties__body_encoding=None)

    _counts_one_more(nodes, DROPPED_UNKNOWN_OPERATION, lambda: nodes.redis.lpush("host.kvm1", raw))


SPOILED: dict[str, str | bytes] = {
    "cut off": '{"id":"bad","flow":',
    "of a newer schema": '{"schema":2,"id":"bad"}',
    "of an unknown phase": '{"id":"bad","phase":"paused"}',
    "no text": b'{"instance_id":"\xff"}',
    "deeply nested": "[" * 100_000,
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_journal_entry_that_does_not_parse_stops_nobody(nodes: Nodes, foreigner: Celery, kind: str) -> None:
    keys, operation_id = Keys(PREFIX), f"bad-{uuid4()}"
    nodes.redis.hset(keys.operation(operation_id), mapping={"rev": 1, "doc": SPOILED[kind]})
    nodes.redis.zadd(keys.unsettled, {operation_id: 1.0})
    nodes.redis.sadd(keys.operations_on("kvm1"), operation_id)
    spoiled = _world(nodes)
    fields = {"instance": "kept", "operation": operation_id}

    _counts_one_more(
        nodes,
        DROPPED_UNREADABLE,
        lambda: foreigner.send_task("build.plug_vif.undo", kwargs=fields, queue="host.kvm1"),
    )
    _counts_one_more(
        nodes, DROPPED_UNREADABLE, lambda: foreigner.send_task("operation.settle", args=[operation_id], queue="compute")
    )
    foreigner.send_task("operation.sweep", queue="compute")
    _wait_until_handled(nodes)

    assert _world(nodes) == spoiled
    nodes.redis.delete(keys.operation(operation_id))
    nodes.redis.zrem(keys.unsettled, operation_id)
    nodes.redis.srem(keys.operations_on("kvm1"), operation_id)


def test_a_journal_entry_of_another_type_stops_nobody(nodes: Nodes, foreigner: Celery) -> None:
    keys = Keys(PREFIX)
    nodes.redis.set(keys.operation("bad-type"), "no hash")

    _counts_one_more(
        nodes,
        DROPPED_UNREADABLE,
        lambda: foreigner.send_task("build.plug_vif", kwargs={**PROPER, "operation": "bad-type"}, queue="host.kvm1"),
    )

    nodes.redis.delete(keys.operation("bad-type"))


def test_a_request_for_an_instance_that_cannot_be_read_is_refused_in_words(nodes: Nodes, foreigner: Celery) -> None:
    keys = Keys(PREFIX)
    nodes.redis.set(keys.instance("i"), '{"schema":2}')
    asked = []

    _counts_one_more(
        nodes,
        DROPPED_UNREADABLE,
        lambda: asked.append(foreigner.send_task("instance.delete", kwargs={"instance": "i"}, queue="compute")),
    )

    with pytest.raises(UnreadableRecord, match="instance i was written by a newer Taskvisor"):
        asked[0].get(timeout=30)
    nodes.redis.delete(keys.instance("i"))


def test_a_dead_letter_says_what_it_was(nodes: Nodes) -> None:
    nodes.redis.delete("host.kvm1.dead")
    raw = message(without="headers.task")

    _counts_one_more(nodes, DEAD_LETTERED, lambda: nodes.redis.lpush("host.kvm1", raw))

    (dead,) = (json.loads(str(one)) for one in nodes.redis.lrange("host.kvm1.dead", 0, -1))
    assert (dead["reason"], dead["bytes"], dead["raw"]) == ("headers.task: missing", len(raw), raw.decode())
