"""The Python client, against a real Redis and a worker that answers as the test says."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from celery import Celery
from celery._state import _tls, default_app

from taskvisor.client import Taskvisor
from taskvisor.client.handle import Handle, StillRunning, error_for
from taskvisor.fields import FlavorFields, NicFields, RuleFields, VolumeFields
from taskvisor.model.errors import (
    Cancelled,
    CannotAsk,
    Conflicting,
    NoCapacity,
    OutOfTries,
    Refused,
    Retryable,
    TaskvisorError,
)
from taskvisor.model.urls import celery_url_for, redis_py_url_for
from taskvisor.model.view import image_view
from tests.cli.book import Book, instance
from tests.cli.fake_worker import NOTHING, Answer, Asked, FakeWorker
from tests.fixtures.machine import ROOT
from tests.fixtures.redis_servers import OpenRedisServer

ANSWER_LIMIT_S = 60.0
VIEW: Any = {"id": "1", "name": "web-1", "host": "h", "addresses": ["10.0.0.2"]}


@pytest.fixture
def worker(redis_url: str) -> Iterator[FakeWorker]:
    with FakeWorker(redis_url) as running:
        yield running


@pytest.fixture
def client(redis_url: str) -> Iterator[Taskvisor]:
    with Taskvisor(redis_url, timeout_s=2.0) as opened:
        yield opened


def raising(error: Exception) -> Answer:
    def answer(_: Asked) -> object:
        raise error

    return answer


def test_a_build_carries_what_was_given_and_nothing_else(client: Taskvisor, worker: FakeWorker) -> None:
    worker.answers["instance.build"] = lambda _: VIEW
    handle = client.build(
        name="web-1",
        image="/srv/a.qcow2",
        flavor=FlavorFields(vcpus=2, memory_mib=512),
        networks=["default", NicFields(network="blue", mac="52:54:00:00:00:09")],
        ssh_keys=["ssh-ed25519 AAAA"],
        metadata={"a": "b"},
        volumes=["rbd://p/v"],
        operation_id="op-1",
    )
    assert handle.wait(ANSWER_LIMIT_S) == VIEW
    assert handle.id == "op-1"
    (asked,) = worker.asked
    assert asked == Asked(
        task="instance.build",
        operation_id="op-1",
        fields={
            "name": "web-1",
            "image": "/srv/a.qcow2",
            "flavor": {"vcpus": 2, "memory_mib": 512},
            "networks": ["default", {"network": "blue", "mac": "52:54:00:00:00:09"}],
            "ssh_keys": ["ssh-ed25519 AAAA"],
            "metadata": {"a": "b"},
            "volumes": ["rbd://p/v"],
        },
    )


def test_every_entry_task_is_asked_by_its_name_and_fields(client: Taskvisor, worker: FakeWorker) -> None:
    for task in ("delete", "start", "stop", "reboot", "snapshot", "attach_volume", "detach_volume"):
        worker.answers[f"instance.{task}"] = lambda asked: dict(asked.fields)
    for task in ("attach_interface", "detach_interface"):
        worker.answers[f"instance.{task}"] = lambda asked: dict(asked.fields)
    worker.answers["image.register"] = worker.answers["image.delete"] = lambda asked: dict(asked.fields)
    for task in ("network.create", "network.delete", "port.update"):
        worker.answers[task] = lambda asked: dict(asked.fields)
    for verb in ("create", "update", "bind", "release", "delete"):
        worker.answers[f"security_group.{verb}"] = worker.answers[f"floating.{verb}"] = lambda asked: dict(asked.fields)
    for verb in ("create", "delete", "set", "unset", "add_access", "remove_access"):
        worker.answers[f"flavor.{verb}"] = lambda asked: dict(asked.fields)
    worker.answers["operation.cancel"] = worker.answers["operation.retry"] = lambda asked: dict(asked.fields)
    asked: list[Handle[Any]] = [
        client.delete("web-1", operation_id="a"),
        client.start("web-1"),
        client.stop("web-1", timeout_s=7),
        client.stop("web-1"),
        client.reboot("web-1", type="hard"),
        client.snapshot("web-1", "golden"),
        client.register_image("debian", "/srv/debian.qcow2"),
        client.register_image(
            "iso",
            "s3://images/x.iso",
            sha256="0" * 64,
            format="iso",
            min_disk_gib=1,
            min_memory_mib=2,
            properties={"os_type": "linux"},
        ),
        client.delete_image("debian"),
        client.snapshot("web-1", "golden", method="cold", quiesce="never", format="raw", compression="none"),
        client.attach_volume("web-1", VolumeFields(source="rbd://p/v", readonly=True)),
        client.detach_volume("web-1", "rbd://p/v", wait_turn_s=5),
        client.create_network("lab", cidr="10.5.0.0/24", segment=7, operation_id="n"),
        client.delete_network("lab"),
        client.create_security_group("web", [RuleFields(direction="ingress", remote_group="web")]),
        client.update_security_group("web", []),
        client.delete_security_group("web"),
        client.update_port("web-1", ["web"], port="10.5.0.2", wait_turn_s=5),
        client.create_floating("192.0.2.7"),
        client.bind_floating("192.0.2.7", "web-1"),
        client.release_floating("192.0.2.7"),
        client.delete_floating("192.0.2.7"),
        client.attach_interface("web-1", NicFields(network="blue", address="10.9.0.5")),
        client.detach_interface("web-1", "10.9.0.5", wait_turn_s=5),
        client.create_flavor("own", vcpus=2, memory_mib=64, public=False, projects=["lab"], operation_id="f"),
        client.delete_flavor("own"),
        client.set_flavor("own", {"hw:cpu_cores": "2"}),
        client.unset_flavor("own", ["hw:cpu_cores"]),
        client.add_flavor_access("own", "lab"),
        client.remove_flavor_access("own", "lab"),
        client.cancel("abcd"),
        client.retry("abcd"),
        client.handle("a").cancel(),
    ]
    assert [handle.wait(ANSWER_LIMIT_S) for handle in asked] == [
        {"instance": "web-1"},
        {"instance": "web-1"},
        {"instance": "web-1", "timeout_s": 7},
        {"instance": "web-1"},
        {"instance": "web-1", "type": "hard"},
        {"instance": "web-1", "image": "golden"},
        {"name": "debian", "source": "/srv/debian.qcow2"},
        {
            "name": "iso",
            "source": "s3://images/x.iso",
            "sha256": "0" * 64,
            "format": "iso",
            "min_disk_gib": 1,
            "min_memory_mib": 2,
            "properties": {"os_type": "linux"},
        },
        {"image": "debian"},
        {
            "instance": "web-1",
            "image": "golden",
            "method": "cold",
            "quiesce": "never",
            "format": "raw",
            "compression": "none",
        },
        {"instance": "web-1", "volume": {"source": "rbd://p/v", "readonly": True}},
        {"instance": "web-1", "volume": "rbd://p/v", "wait_turn_s": 5},
        {"name": "lab", "cidr": "10.5.0.0/24", "segment": 7},
        {"network": "lab"},
        {"name": "web", "rules": [{"direction": "ingress", "remote_group": "web"}]},
        {"group": "web", "rules": []},
        {"group": "web"},
        {"instance": "web-1", "security_groups": ["web"], "port": "10.5.0.2", "wait_turn_s": 5},
        {"address": "192.0.2.7"},
        {"floating": "192.0.2.7", "instance": "web-1"},
        {"floating": "192.0.2.7"},
        {"floating": "192.0.2.7"},
        {"instance": "web-1", "interface": {"network": "blue", "address": "10.9.0.5"}},
        {"instance": "web-1", "interface": "10.9.0.5", "wait_turn_s": 5},
        {"name": "own", "vcpus": 2, "memory_mib": 64, "public": False, "projects": ["lab"]},
        {"flavor": "own"},
        {"flavor": "own", "extra_specs": {"hw:cpu_cores": "2"}},
        {"flavor": "own", "keys": ["hw:cpu_cores"]},
        {"flavor": "own", "project": "lab"},
        {"flavor": "own", "project": "lab"},
        {"operation": "abcd"},
        {"operation": "abcd"},
        {"operation": "a"},
    ]


def test_images_are_read_from_the_records_of_the_workers_prefix(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as records:
        made = Book(records, "fleet:").put_image("golden")

    with Taskvisor(redis_url, key_prefix="fleet:") as client:
        assert client.list_images() == (image_view(made),)
        assert client.read_image("golden") == client.read_image(made.id) == image_view(made)
        assert client.read_image("silver") is None
    with Taskvisor(redis_url) as client:
        assert client.list_images() == ()


def test_flavors_and_histories_are_read_from_the_records_of_the_workers_prefix(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as records:
        Book(records, "fleet:").put_instance(instance("web-1"))

    with Taskvisor(redis_url, key_prefix="fleet:") as client:
        assert "m1.tiny" in [flavor["name"] for flavor in client.list_flavors()]
        assert client.list_flavors("lab") == client.list_flavors()
        tiny = client.read_flavor("m1.tiny")
        assert tiny is not None
        assert (tiny["memory_mib"], client.read_flavor(tiny["id"])) == (512, tiny)
        assert client.read_flavor("huge") is None
        (move,) = client.read_history("web-1")
        assert (move["states"]["vm_state"], move["former"], move["reason"]) == ("active", None, "a test says so")
        assert client.read_history("web-2") == ()


def test_images_cannot_be_read_where_no_redis_answers() -> None:
    with Taskvisor("redis://127.0.0.1:1/0", timeout_s=0.2) as client, pytest.raises(CannotAsk, match="list images"):
        client.list_images()


@pytest.mark.parametrize(
    "error",
    [
        Refused("name: 'x': must be so"),
        NoCapacity("no host fits: h: memory"),
        OutOfTries("fetch_image: the server answered 404"),
        Conflicting("instance web-1 is held by operation abcd"),
        Cancelled("plug_vif: asked to stop"),
        Retryable("every host that had room was full", delay_s=3.0),
    ],
)
def test_wait_raises_the_error_of_the_operation_with_its_message(
    client: Taskvisor, worker: FakeWorker, error: TaskvisorError
) -> None:
    worker.answers["instance.build"] = raising(error)
    handle = client.build(name="web-1", image="x")
    with pytest.raises(type(error)) as caught:
        handle.wait(ANSWER_LIMIT_S)
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)
    assert handle.state() == "FAILURE"
    with pytest.raises(type(error)):
        _ = handle.result


def test_an_error_that_is_not_ours_is_told_by_name(client: Taskvisor, worker: FakeWorker) -> None:
    worker.answers["instance.build"] = raising(KeyError("who"))
    with pytest.raises(TaskvisorError, match="KeyError: 'who'"):
        client.build(name="web-1", image="x").wait(ANSWER_LIMIT_S)


def test_a_name_in_the_module_of_errors_that_is_no_error_is_not_made() -> None:
    assert type(error_for(type("annotations", (Exception,), {})("x"))) is TaskvisorError


def test_wait_says_where_the_operation_is_when_the_time_is_up(client: Taskvisor, worker: FakeWorker) -> None:
    worker.answers["instance.build"] = lambda _: NOTHING
    handle = client.build(name="web-1", image="x", operation_id="slow")
    with pytest.raises(StillRunning, match="has not been taken by a worker yet"):
        handle.wait(0)
    progress = {
        "operation": "slow",
        "instance": {"id": "1", "name": "web-1"},
        "host": "host-1",
        "phase": "running",
        "step": "fetch_image",
        "number": 2,
        "of": 5,
    }
    worker.store("slow", "PROGRESS", progress)
    assert handle.look().progress == progress
    with pytest.raises(StillRunning, match=r"is still running, at step fetch_image \(2 of 5\) on host-1"):
        handle.wait(0.05)
    with pytest.raises(TimeoutError):
        _ = handle.result


def test_a_handle_is_taken_up_by_another_client(redis_url: str, client: Taskvisor, worker: FakeWorker) -> None:
    worker.answers["instance.start"] = lambda _: {**VIEW, "already": True}
    asked = client.start("web-1")
    with Taskvisor(celery_url_for(redis_url)) as other:
        assert other.handle(asked.id).wait(ANSWER_LIMIT_S)["already"] is True
        assert other.handle(asked.id).async_result.get(timeout=ANSWER_LIMIT_S)["name"] == "web-1"


def test_wait_bears_a_redis_that_restarts(open_redis_server: OpenRedisServer) -> None:
    server = open_redis_server(appendonly="yes")
    with Taskvisor(server.url(), timeout_s=1.0) as client:
        handle = client.build(name="web-1", image="x", operation_id="op")
        server.kill()
        with ThreadPoolExecutor(1) as waiting:
            waited = waiting.submit(handle.wait, ANSWER_LIMIT_S)  # it looks while nobody answers
            server.start()
            with FakeWorker(server.url(), {"instance.build": lambda _: VIEW}):
                assert waited.result(ANSWER_LIMIT_S) == VIEW


def test_a_redis_that_is_away_or_hangs_is_a_sentence_in_bounded_time(open_redis_server: OpenRedisServer) -> None:
    server = open_redis_server()
    assert server.pid is not None
    with Taskvisor(server.url(), timeout_s=0.5) as client:
        assert client.handle("op").state() == "PENDING"
        os.kill(server.pid, 19)
        try:
            began = time.monotonic()
            with pytest.raises(CannotAsk, match=r"did not answer when asked to take the request instance\.start"):
                client.start("web-1")
            with pytest.raises(CannotAsk, match="read the result of operation op"):
                client.handle("op").state()
            assert time.monotonic() - began < 60  # it would hang for ever
        finally:
            os.kill(server.pid, 18)
        server.stop()
        with pytest.raises(CannotAsk):
            client.start("web-1")


def test_it_is_nobodys_current_app_and_ignores_celerys_environment(
    redis_url: str, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND"):
        monkeypatch.setenv(name, "redis://127.0.0.1:1/0")
    before = (getattr(_tls, "current_app", None), default_app)
    worker.answers["instance.delete"] = lambda _: {"already": True}
    with Taskvisor(redis_url, timeout_s=1.0) as client:
        assert client.delete("web-1").wait(ANSWER_LIMIT_S)["already"] is True
    assert (getattr(_tls, "current_app", None), default_app) == before


APPS = """
import os, sys
url, kind = sys.argv[1], sys.argv[2]
os.environ["CELERY_BROKER_URL"] = "memory://"
from celery import Celery, current_app
from celery._state import get_current_app

class DjangoSettings:
    '''As django.conf.settings: names with the prefix CELERY_, read when they are first wanted.'''
    CELERY_BROKER_URL = "memory://"
    CELERY_RESULT_BACKEND = "cache+memory://"
    CELERY_TASK_ALWAYS_EAGER = True
    CELERY_TASK_DEFAULT_QUEUE = "theirs"
    CELERY_TASK_SERIALIZER = "json"

if kind == "django":
    app = Celery("proj")
    app.config_from_object(DjangoSettings(), namespace="CELERY")
else:
    app = Celery("flask")
    app.config_from_object({"broker_url": "memory://", "result_backend": "cache+memory://", "task_always_eager": True,
                            "task_default_queue": "theirs"})
    app.set_default()

@app.task
def theirs(name):
    from taskvisor.client import Taskvisor
    with Taskvisor(url) as client:
        handle = client.start(name)
        assert current_app.main == app.main, current_app.main
        return [event.state.value for event in handle.follow(60)] + [handle.wait(60)["name"]]

def known():
    return (get_current_app().main, current_app.main, sorted(app.conf.items(), key=str), sorted(app.tasks),
            sorted(app.amqp.queues), app.connection_for_write().as_uri())

before = known()
assert theirs.delay("web-1").get(disable_sync_subtasks=False) == ["succeeded", "web-1"]
assert known() == before, [pair for pair in zip(known(), before) if pair[0] != pair[1]]
print(before[0])
"""


@pytest.mark.parametrize("kind", ["django", "flask"])
def test_inside_the_app_of_a_web_framework_nothing_of_that_app_changes(
    redis_url: str, worker: FakeWorker, kind: str
) -> None:
    worker.answers["instance.start"] = lambda asked: {"name": asked.fields["instance"]}
    done = subprocess.run(
        [sys.executable, "-c", APPS, redis_url, kind],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["proj" if kind == "django" else kind]), done.stderr


def test_it_works_inside_a_task_of_another_app(redis_url: str, worker: FakeWorker) -> None:
    worker.answers["instance.start"] = lambda _: VIEW
    app = Celery("theirs", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.task_always_eager = True

    @app.task  # type: ignore[untyped-decorator]
    def theirs() -> object:
        with Taskvisor(redis_url) as client:
            return client.start("web-1").wait(ANSWER_LIMIT_S)

    assert theirs.apply().get(disable_sync_subtasks=False) == VIEW


def test_a_forked_process_opens_its_own_connections(client: Taskvisor, worker: FakeWorker) -> None:
    worker.answers["instance.start"] = lambda _: VIEW
    assert client.start("web-1").wait(ANSWER_LIMIT_S) == VIEW
    pid = os.fork()
    if pid == 0:
        os._exit(0 if client.start("web-2").wait(ANSWER_LIMIT_S) == VIEW else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert client.start("web-3").wait(ANSWER_LIMIT_S) == VIEW


def test_children_forked_while_threads_ask_open_their_own_connections_and_none_hangs(redis_url: str) -> None:
    """In a process of its own, at several moments: before Celery is imported by its threads, meanwhile, and long after."""
    for pause_s in ("0", "0.1", "0.3", "0.6"):
        done = subprocess.run(
            [sys.executable, "-c", FORKS, redis_url, pause_s],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=240,
            check=False,
        )
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[0, 0, 0]", ""), pause_s


FORKS = """
import os, signal, sys, threading, time
from taskvisor.client import Taskvisor

url, pause_s = sys.argv[1], float(sys.argv[2])
client, stopped, failed = Taskvisor(url, timeout_s=20.0), threading.Event(), []

def ask():
    while not stopped.is_set():
        try:
            client.start("web-1")
            client.handle("op").state()
        except Exception as error:
            failed.append(error)
            raise

threads = [threading.Thread(target=ask) for _ in range(16)]
for thread in threads:
    thread.start()
time.sleep(pause_s)
children = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # a child that hangs is ended by it
        client.start("web-2")
        client.handle("op").state()
        os._exit(0)
    children.append(pid)
codes = [os.waitpid(pid, 0)[1] for pid in children]
stopped.set()
for thread in threads:
    thread.join()
assert not failed
print(codes)
"""


def test_many_threads_share_one_client(client: Taskvisor, worker: FakeWorker) -> None:
    worker.answers["instance.start"] = lambda asked: asked.fields["instance"]
    found: dict[str, object] = {}

    def ask(name: str) -> None:
        found[name] = client.start(name).wait(ANSWER_LIMIT_S)

    threads = [threading.Thread(target=ask, args=(f"web-{number}",)) for number in range(25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    assert found == {f"web-{number}": f"web-{number}" for number in range(25)}


def test_user_data_is_not_shown_to_those_who_look_at_messages(redis_url: str, client: Taskvisor) -> None:
    import json

    import redis

    client.build(name="web-1", image="x", user_data="password: geheim")
    with redis.Redis.from_url(redis_py_url_for(redis_url), decode_responses=True) as reader:
        envelope = json.loads(str(reader.lindex("compute", 0)))
    assert "geheim" not in json.dumps(envelope["headers"]) + json.dumps(envelope["properties"])


def test_a_url_that_is_no_redis_is_refused() -> None:
    with pytest.raises(Refused, match="amqp://x"):
        Taskvisor("amqp://x")


def test_certificates_are_checked_unless_the_url_says_otherwise() -> None:
    assert celery_url_for("rediss://h/1") == "rediss://h/1?ssl_cert_reqs=required"
    assert celery_url_for("rediss://h/1?ssl_cert_reqs=none") == "rediss://h/1?ssl_cert_reqs=none"


def test_importing_it_brings_nothing_of_a_worker() -> None:
    heavy = ("pydantic", "libvirt", "lxml", "pyroute2", "tasks", "workers", "virt", "net", "celery", "redis")
    program = f"import sys; import taskvisor.client; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
