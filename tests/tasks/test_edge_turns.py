"""What a caller sees of a request that waits for its turn, when Celery is slow to store it."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.app.trace import trace_task
from celery.signals import after_task_publish

from taskvisor.model.errors import Conflicting
from tests.support.fleet import Fleet
from tests.tasks.edges import open_edge_app


@pytest.fixture
def app(redis_url: str, fleet: Fleet) -> Iterator[Celery]:
    """The edge, and an instance that another operation holds."""
    fleet.build("web")
    fleet.begin("instance.reboot", "holder", instance="web")
    with open_edge_app(redis_url, fleet) as opened:
        yield opened
        gc.collect()  # results that Celery made say good-bye to Redis when they go


def look(app: Celery, *, looks: int = 0) -> None:
    """A worker takes the request for the `looks`th time again."""
    task, fields = app.tasks["instance.stop"], {"instance": "web", "wait_turn_s": 1}
    request = {"id": "patient", "kwargs": fields, "retries": looks, "delivery_info": {"routing_key": "compute"}}
    trace_task(task, "patient", (), fields, request=request, app=app)


def shown(app: Celery) -> tuple[str, str]:
    """The state that the caller sees, and the sentence."""
    meta = app.backend.get_task_meta("patient", cache=False)
    return meta["status"], str(meta["result"])


def test_a_request_that_waits_for_its_turn_shows_who_holds_the_instance(app: Celery) -> None:
    look(app)

    state, said = shown(app)
    assert state == "RETRY"
    assert "instance web is held by operation holder" in said


def test_the_last_look_tells_its_caller_who_holds_the_instance(app: Celery) -> None:
    look(app, looks=2)

    state, said = shown(app)
    assert state == "FAILURE"
    assert "instance web is held by operation holder" in said


def test_who_is_slow_to_say_that_a_request_waits_does_not_hide_its_end(app: Celery) -> None:
    """The next look may be over before the process that asked for it goes on: then RETRY would stay for good."""
    ends: list[str] = []

    def end_it(**_: Any) -> None:
        app.backend.mark_as_failure("patient", Conflicting("its turn did not come"))
        ends.append(shown(app)[0])

    after_task_publish.connect(end_it, weak=False)
    try:
        look(app)
    finally:
        after_task_publish.disconnect(end_it)

    assert (ends, shown(app)) == (["FAILURE"], ("FAILURE", "its turn did not come"))
