"""Producers of other make build and delete guests, and are told what is wrong in the words that the Python client is told."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest

from taskvisor.client import Taskvisor
from taskvisor.model.errors import Refused, TaskvisorError
from taskvisor.model.finding import Code
from taskvisor.model.outcome import result_key_for
from tests.fixtures.redis_servers import RedisServer
from tests.support.published import require_published, require_published_result
from tests.system.nodes import LIMIT_S, PREFIX, Nodes, running_nodes, wait_until
from tests.system.producers import Producer, celery_node, flower, redis_cli
from tests.workers.conftest import message

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

DATABASE = 12
KINDS = ("redis-cli", "celery-node", "flower")
IMAGE = "simulated://debian?virtual_gib=1"
BUILD: dict[str, Any] = {"image": IMAGE, "flavor": "c1-m64-d1"}


@pytest.fixture(scope="module")
def nodes(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A simulated host for all tests of this module; that no process of it has ended is seen at the end."""
    redis_server.flush(DATABASE)
    with running_nodes(redis_server.url(DATABASE), tmp_path_factory.mktemp("state")) as running:
        running.leaves = {Code.DEAD_LETTERS}
        pids = [running.pid(role) for role in ("steps", "control")]
        yield running
        assert [running.pid(role) for role in ("steps", "control")] == pids
        assert all(map(running.runs, ("steps", "control")))


@pytest.fixture(scope="module", params=KINDS)
def producer(
    request: pytest.FixtureRequest,
    nodes: Nodes,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Producer]:
    with ExitStack() as stack:
        match request.param:
            case "redis-cli":
                yield redis_cli(redis_server, DATABASE)
            case "celery-node":
                yield celery_node(redis_server, DATABASE)
            case _:
                yield stack.enter_context(flower(nodes, tmp_path_factory.mktemp("flower")))


@pytest.fixture
def client(nodes: Nodes) -> Iterator[Taskvisor]:
    with Taskvisor(nodes.redis_url) as opened:
        yield opened


def _json(fields: object) -> str:
    return json.dumps(fields)


def test_a_guest_is_built_shown_and_deleted(nodes: Nodes, producer: Producer) -> None:
    request_id = str(uuid4())

    built = producer.run("ask", "instance.build", _json({**BUILD, "name": "web"}), request_id)
    shown = producer.run("show", request_id)
    deleted = producer.run("ask", "instance.delete", _json({"instance": "web"}))

    assert (built.code, built.err) == (0, "")
    instance = json.loads(built.out)
    require_published_result("instance.build", instance)
    assert (instance["name"], instance["power_state"]) == ("web", "running")
    assert json.loads(shown.out)["result"] == instance
    assert deleted.code == 0
    require_published_result("instance.delete", json.loads(deleted.out))
    assert nodes.catalog.find_instance("web") is None


def test_the_same_id_is_the_same_request_and_its_result_can_be_read_again(nodes: Nodes, producer: Producer) -> None:
    request_id = str(uuid4())
    fields = _json({**BUILD, "name": "twice"})

    first = producer.run("ask", "instance.build", fields, request_id)
    second = producer.run("ask", "instance.build", fields, request_id)
    again = producer.run("wait", request_id)

    assert first.code == second.code == again.code == 0
    assert json.loads(first.out) == json.loads(second.out) == json.loads(again.out)
    nodes.ask("instance.delete", instance="twice")


def test_an_expired_result_is_told_again_under_the_same_id(nodes: Nodes, producer: Producer) -> None:
    request_id = str(uuid4())
    fields = _json({**BUILD, "name": "expired"})
    first = producer.run("ask", "instance.build", fields, request_id)
    nodes.redis.delete(result_key_for(request_id))

    gone = producer.run("wait", request_id, TIMEOUT_S="1")
    again = producer.run("ask", "instance.build", fields, request_id)

    assert gone.code == 2
    assert "its result has expired" in gone.err
    assert "send it again under the same id" in gone.err
    assert json.loads(again.out) == json.loads(first.out)
    nodes.ask("instance.delete", instance="expired")


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "an unknown flavor": (
        "instance.plan",
        {"name": "web", "image": IMAGE, "flavor": "huge"},
        "flavor: 'huge': there is no such flavor; see `taskvisor flavor list`, or give a size like c1-m512-d1",
    ),
    "a number for a name": ("instance.plan", {**BUILD, "name": 7}, "name: 7: input should be a valid string"),
    "a text for a number": (
        "instance.plan",
        {**BUILD, "name": "web", "flavor": {"vcpus": "2", "memory_mib": 64}},
        "flavor.vcpus: '2': input should be a valid integer",
    ),
    "an unknown field": (
        "instance.plan",
        {**BUILD, "name": "web", "imageFormat": "raw"},
        "imageFormat: unknown field; remove it or check its spelling",
    ),
    "a field that is missing": ("instance.plan", {"image": IMAGE}, "name: missing; it must be given"),
    "an instance that is not there": (
        "instance.stop",
        {"instance": "nobody"},
        "instance: 'nobody': there is no instance of that name or id; see `taskvisor list`",
    ),
    "an unknown task": (
        "instance.bild",
        {**BUILD, "name": "web"},
        "task: 'instance.bild': no worker here knows one of that name; instance.build may be meant;"
        " docs/producers.md lists what can be asked",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_every_producer_is_told_the_same_words(client: Taskvisor, producer: Producer, kind: str) -> None:
    task, fields, words = WRONG[kind]

    with pytest.raises(Refused) as ours:
        client._ask(task, fields, None).wait(LIMIT_S)  # the typed methods can't ask for most of these
    theirs = producer.run("ask", task, _json(fields))

    assert str(ours.value) == words
    assert (theirs.code, theirs.err) == (1, f"Refused: {words}")


def test_arguments_that_are_no_json_are_told_so(producer: Producer) -> None:
    said = producer.run("ask", "instance.build", "{name: web")

    assert said.code in (1, 2)
    assert re.search("not valid JSON|can't be decoded|Expecting property name|in JSON at position", said.err)
    assert "Traceback" not in said.err


def test_a_queue_that_nobody_reads_is_told_of_when_time_is_up(nodes: Nodes, producer: Producer) -> None:
    said = producer.run("ask", "instance.delete", _json({"instance": "x"}), QUEUE="compute2", TIMEOUT_S="1")

    assert said.code == 2
    assert "no worker has taken" in said.err
    assert "does a control node run? see `taskvisor hosts`" in said.err
    nodes.redis.delete("compute2")


def test_a_request_that_nobody_took_in_time_is_not_carried_out(nodes: Nodes, producer: Producer) -> None:
    said = producer.run("ask", "instance.build", _json({**BUILD, "name": "late"}), EXPIRES_S="-1")

    expected = "the request expired before a worker took it, and nothing was done; send it again under the same id"
    assert (said.code, said.err) == (1, f"TaskRevokedError: {expected}")
    assert nodes.catalog.find_instance("late") is None


def test_a_redis_that_is_not_there_is_told_of(redis_server: RedisServer) -> None:
    for producer, environment in (
        (redis_cli(redis_server, DATABASE), {"REDIS_CLI": "redis-cli -s /nowhere"}),
        (celery_node(redis_server, DATABASE), {"REDIS_URL": "redis:///0?path=/nowhere"}),
    ):
        said = producer.run("ask", "instance.delete", _json({"instance": "x"}), **environment)
        assert said.code == 2
        assert re.search("Redis did not take the request|Redis can't be reached", said.err)


def test_flower_wants_a_password(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> None:
    with flower(nodes, tmp_path_factory.mktemp("flower")) as producer:
        said = producer.run("ask", "instance.delete", _json({"instance": "x"}), FLOWER_AUTH="")

    assert said.code == 2
    assert said.err.startswith("Flower wants a user and a password in FLOWER_AUTH")


MISTAKEN: dict[str, tuple[dict[str, Any], str]] = {
    "arguments by place": (
        {"task": "instance.delete", "args": ["web"]},
        "instance.delete takes its fields by name (kwargs); 1 came without one",
    ),
    "a wish's arguments by place": (
        {"task": "operation.cancel", "args": ["x"]},
        "operation.cancel takes its fields by name (kwargs); 1 came without one",
    ),
    "a body that is no list": (
        {"body": "e30="},
        "the message can't be taken: body: not [args, kwargs, embed]; see docs/producers.md",
    ),
    "a body that is no base64": ({"body": "a"}, "the message can't be taken: body: can't be decoded"),
    "no content type": ({"without": "content-type"}, "the message can't be taken: content-type: missing"),
    "another serializer": (
        {"content_type": "application/x-python-serialize"},
        "the message can't be taken: content-type: not accepted here",
    ),
    "no task": ({"without": "headers.task"}, "the message can't be taken: headers.task: missing"),
    "an expiry that is no time": ({"headers__expires": "soon"}, "the message can't be taken: headers.expires: not an"),
    "two megabytes": ({"args": ["x" * 2_000_000]}, "the message can't be taken: message: 2"),
}


@pytest.mark.parametrize("kind", MISTAKEN)
def test_a_message_whose_id_can_be_read_is_answered(nodes: Nodes, kind: str) -> None:
    changes, words = MISTAKEN[kind]
    request_id = f"mistaken-{uuid4()}"

    nodes.redis.lpush("compute", message(**{"task": "instance.delete", "headers__id": request_id, **changes}))

    with pytest.raises(Refused) as told:
        nodes.producer.AsyncResult(request_id).get(timeout=LIMIT_S)
    assert str(told.value).startswith(words)
    record = json.loads(str(nodes.redis.get(result_key_for(request_id))))
    require_published("outcome.json", record)
    assert record["traceback"] is None
    assert 0 < int(str(nodes.redis.ttl(result_key_for(request_id)))) <= 86400


def test_a_message_that_goes_wrong_hides_no_result_that_is_there(nodes: Nodes) -> None:
    built = nodes.ask("instance.build", "good", **BUILD, name="good")

    nodes.redis.lpush("compute", message(without="headers.task", headers__id="good"))
    wait_until(lambda: not nodes.redis.exists("compute", "compute.inflight.kvm1"), "the message to be judged")

    assert nodes.producer.AsyncResult("good").get(timeout=LIMIT_S) == built
    nodes.ask("instance.delete", instance="good")


def test_what_is_stored_published_and_streamed_is_as_the_schemas_say(nodes: Nodes) -> None:
    request_id = str(uuid4())
    heard = nodes.redis.pubsub()  # type: ignore[no-untyped-call]
    heard.subscribe(result_key_for(request_id))
    nodes.ask("instance.build", request_id, **BUILD, name="heard")
    records: list[dict[str, Any]] = []

    def has_ended() -> bool:
        one = heard.get_message(ignore_subscribe_messages=True, timeout=1.0)
        if one is not None:
            records.append(json.loads(str(one["data"])))
        return bool(records) and records[-1]["status"] == "SUCCESS"

    wait_until(has_ended, "the published end")
    heard.close()
    for record in records:
        require_published("outcome.json", record)
    for progress in (record["result"] for record in records[:-1]):
        require_published("progress.json", progress)
    steps = [record["result"]["step"] for record in records[:-1]]
    assert steps[-5:] == ["prepare_disk", "fetch_image", "render_xml", "plug_vif", "define_and_start"]
    assert json.loads(str(nodes.redis.get(result_key_for(request_id)))) == records[-1]
    nodes.ask("instance.delete", instance="heard")
    for _, entry in nodes.redis.xrange(f"{PREFIX}events") or ():
        require_published("event.json", entry)


def test_a_refusal_is_stored_without_a_traceback(nodes: Nodes) -> None:
    wrong: tuple[tuple[str, dict[str, Any]], ...] = (
        ("instance.build", {"name": 7}),
        ("shop.send_mail", {}),
        ("operation.retry", {}),
    )
    for task, fields in wrong:
        asked = nodes.send(task, **fields)
        with pytest.raises(TaskvisorError):
            asked.get(timeout=LIMIT_S)
        record = json.loads(str(nodes.redis.get(result_key_for(asked.id))))
        require_published("outcome.json", record)
        assert record["traceback"] is None
