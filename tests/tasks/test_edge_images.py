"""Requests about images through Celery: what a caller sees, and what a host is asked. No worker runs."""

import base64
import gc
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from celery import Celery
from celery.app.trace import trace_task

from tasks.edge import Edge
from tasks.node import Node
from taskvisor.client import Taskvisor
from taskvisor.model.errors import Refused
from taskvisor.model.ids import HostName, OperationId, image_id_for
from taskvisor.model.urls import celery_url_for
from taskvisor.model.view import image_view
from tests.support.fleet import PERIOD_S, Fleet

REGISTER = {"name": "debian", "source": "simulated://debian"}


@pytest.fixture
def app(redis_url: str, fleet: Fleet) -> Iterator[Celery]:
    """The edge over a fleet with a snapshot, as its host's node has it."""
    fleet.build("web")
    fleet.ask("instance.snapshot", "snap", instance="web", image="gold")
    url = celery_url_for(redis_url)
    opened = Celery("edge", broker=url, backend=url, set_as_current=False)
    there = fleet.hosts[HostName("h1")]
    node = SimpleNamespace(
        host=there.name, door=fleet.door, sweep=fleet.sweep, report=there.report, ticker=there.ticker, drain_at_once=1
    )
    opened.conf.result_expires = 3600
    edge = Edge(opened, lambda: cast(Node, node))
    edge.register()
    yield opened
    opened.close()
    gc.collect()  # results that Celery made say good-bye to Redis when they go


@pytest.fixture
def client(redis_url: str) -> Iterator[Taskvisor]:
    with Taskvisor(redis_url) as opened:
        yield opened


def take(app: Celery, task: str, request_id: str, **fields: Any) -> None:
    """A control node takes the request."""
    request = {"id": request_id, "kwargs": fields, "retries": 0, "delivery_info": {"routing_key": "compute"}}
    trace_task(app.tasks[task], request_id, (), fields, request=request, app=app)


def messages(fleet: Fleet, queue: str = "host.h1.control") -> list[tuple[str, dict[str, Any]]]:
    """What lies in a queue: tasks with their fields. It is taken out."""
    with fleet.client.pipeline() as pipe:
        pipe.lrange(queue, 0, -1)
        pipe.delete(queue)
        lying = pipe.execute()[0]
    envelopes = [json.loads(text) for text in reversed(lying)]
    return [(one["headers"]["task"], json.loads(base64.b64decode(one["body"]))[1]) for one in envelopes]


def test_a_registered_image_is_its_requests_result_also_when_it_is_asked_twice(
    app: Celery, fleet: Fleet, client: Taskvisor
) -> None:
    take(app, "image.register", "reg", **REGISTER)
    image = fleet.store.catalog.read_image("debian")
    assert image is not None
    assert client.handle("reg").wait(5) == image_view(image)

    take(app, "image.delete", "del", image="debian")
    take(app, "image.register", "reg", **REGISTER)

    assert client.handle("reg").wait(5) == image_view(image)
    assert client.handle("del").wait(5) == {"id": image.id, "name": "debian", "state": "deleted"}
    assert fleet.store.catalog.read_image("debian") is None, "a late double must not bring it back"


def test_the_same_under_another_id_is_told_that_it_is_so_already(app: Celery, client: Taskvisor) -> None:
    take(app, "image.register", "reg", **REGISTER)
    take(app, "image.register", "again", **REGISTER)

    assert client.handle("again").wait(5) == {**client.handle("reg").wait(5), "already": True}


def test_a_refusal_is_its_callers_result(app: Celery, client: Taskvisor) -> None:
    take(app, "image.register", "reg", name="debian", source="debian")

    with pytest.raises(Refused, match="source: 'debian': must be an absolute path or a URL"):
        client.handle("reg").wait(5)


def test_the_host_of_a_snapshot_is_asked_and_the_caller_waits_for_its_end(
    app: Celery, fleet: Fleet, client: Taskvisor
) -> None:
    take(app, "image.delete", "del", image="gold")

    seen, image_id = client.handle("del").look(), image_id_for(OperationId("snap"))
    assert (seen.state, seen.ended) == ("RETRY", False)
    assert "image 'gold' is being deleted" in (seen.held or "")
    ((task, fields),) = messages(fleet)
    assert (task, fields) == ("host.remove_image", {"image": "gold", "id": image_id})
    app.tasks[task](**fields)
    assert client.handle("del").wait(5) == {"id": image_id, "name": "gold", "state": "deleted"}
    assert fleet.store.catalog.read_image("gold") is None


def test_the_sweep_asks_again(app: Celery, fleet: Fleet) -> None:
    take(app, "image.delete", "del", image="gold")
    messages(fleet)
    fleet.clock.sleep(PERIOD_S + 1.0)

    app.tasks["operation.sweep"]()

    assert [task for task, _ in messages(fleet)] == ["host.remove_image"]


def test_a_broker_that_is_away_leaves_it_to_the_sweep(
    app: Celery, fleet: Fleet, client: Taskvisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object, **__: object) -> None:
        raise ConnectionError("the broker is away")

    with monkeypatch.context() as patch:
        patch.setattr(app, "send_task", silent)
        take(app, "image.delete", "del", image="gold")
    assert client.handle("del").look().state == "RETRY"
    fleet.clock.sleep(PERIOD_S + 1.0)

    app.tasks["operation.sweep"]()

    assert len(messages(fleet)) == 1


def test_what_is_not_deleted_is_no_hosts_business(app: Celery, fleet: Fleet) -> None:
    gold = fleet.store.catalog.read_image("gold")
    assert gold is not None

    app.tasks["host.remove_image"](image="gold", id=gold.id)

    assert fleet.store.catalog.read_image("gold") == gold
