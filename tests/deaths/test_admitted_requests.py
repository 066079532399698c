"""A request that was let in is answered by its operation's end, whatever kept its first message from being sent."""

from typing import cast

import pytest
from celery import Celery
from celery.exceptions import Ignore
from structlog.testing import capture_logs

from tasks.delete import DeleteFlow
from tasks.door import Admitted
from tasks.edge import Edge
from tasks.node import Node
from taskvisor.model.operation import StepRecord
from tests.support.records import instance, operation


def test_that_redis_was_silent_after_a_request_was_let_in_is_not_told_as_its_failure() -> None:
    app = Celery("edge", broker="redis+socket:///nowhere/redis.sock", set_as_current=False)
    app.conf.task_publish_retry_policy = {"max_retries": 0}
    edge = Edge(app, lambda: cast(Node, None))
    edge.register()
    admitted = operation(
        "an-operation",
        instance(),
        flow="instance.delete",
        steps=tuple(StepRecord(name=step.name) for step in DeleteFlow.steps),
    )

    with capture_logs() as logs, pytest.raises(Ignore):
        edge._entries.answer(Admitted(operation=admitted))

    assert [(entry["event"], entry["op"]) for entry in logs] == [("launch_left_to_sweep", "an-operation")]
