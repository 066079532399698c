"""Requests about networks, groups and floating addresses over a fleet, through the edge as Celery calls it. No worker runs."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from celery.app.trace import trace_task

from taskvisor.client import Taskvisor
from tests.support.fleet import Fleet
from tests.support.published import require_published_arguments, require_published_result
from tests.tasks.edges import open_edge_app

ANSWER_LIMIT_S = 30.0


class NetworkDesk:
    """Takes requests as a control node does, and reads the messages that hosts get of them."""

    def __init__(self, app: Celery, fleet: Fleet, client: Taskvisor) -> None:
        self._app = app
        self._fleet = fleet
        self._client = client
        self._asked = 0

    def ask(self, task: str, request_id: str | None = None, **fields: Any) -> Any:
        """What its caller is told; a refusal is raised, as to him."""
        self._asked += 1
        request_id = request_id or f"request-{self._asked}"
        self.take(task, request_id, **fields)
        told = self._client.handle(request_id).wait(ANSWER_LIMIT_S)
        require_published_arguments(task, fields)
        require_published_result(task, told)
        return told

    def take(self, task: str, request_id: str, **fields: Any) -> None:
        """The request's message is taken, once more maybe."""
        request = {"id": request_id, "kwargs": fields, "retries": 0, "delivery_info": {"routing_key": "compute"}}
        trace_task(self._app.tasks[task], request_id, (), fields, request=request, app=self._app)

    def read_messages(self, host: str) -> list[tuple[str, Any]]:
        """What the host's control node was sent since the last look: tasks with their fields."""
        queue = f"host.{host}.control"
        with self._fleet.client.pipeline() as pipe:
            pipe.lrange(queue, 0, -1)
            pipe.delete(queue)
            lying = pipe.execute()[0]
        envelopes = [json.loads(text) for text in reversed(lying)]
        return [(one["headers"]["task"], json.loads(base64.b64decode(one["body"]))[1]) for one in envelopes]


@contextmanager
def open_network_desk(redis_url: str, fleet: Fleet) -> Iterator[NetworkDesk]:
    with open_edge_app(redis_url, fleet) as app, Taskvisor(redis_url) as client:
        app.conf.result_expires = 3600
        yield NetworkDesk(app, fleet, client)
