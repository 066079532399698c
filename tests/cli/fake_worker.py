"""A worker in a thread: takes requests from `compute`, and looks at host-1, as they lie there, and answers them as a test says.

Results are stored by Celery's own back end, as `tasks.edge` does it.
"""

import base64
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis
from celery import Celery

from taskvisor.model.urls import celery_url_for, redis_py_url_for


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request, as it came."""

    task: str
    operation_id: str
    fields: Mapping[str, Any]


NOTHING = object()
"""What an answer returns that stores no result: it has written an operation's record, or is silent."""

Answer = Callable[[Asked], Any]


@dataclass
class FakeWorker:
    """`answers` has a function per task: its result is stored; what it raises is stored as a failure."""

    redis_url: str
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._client = redis.Redis.from_url(redis_py_url_for(self.redis_url), decode_responses=True)
        self._app = Celery("fake", backend=celery_url_for(self.redis_url), set_as_current=False)
        self._backend = self._app.backend  # now: later the environment may lead it astray
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "FakeWorker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(10)
        self._client.close()
        self._app.close()

    def store(self, operation_id: str, state: str, result: object) -> None:
        """The result of a request is this now."""
        self._backend.store_result(operation_id, result, state)

    def _run(self) -> None:
        while not self._stopped.is_set():
            taken = self._client.brpop(["compute", "host.host-1.control"], timeout=0.1)
            if taken is None:
                continue
            envelope = json.loads(str(taken[1]))
            _, fields, _ = json.loads(base64.b64decode(envelope["body"]))
            headers = envelope["headers"]
            asked = Asked(task=headers["task"], operation_id=headers["id"], fields=fields)
            self.asked.append(asked)
            self._answer(asked)

    def _answer(self, asked: Asked) -> None:
        answer = self.answers.get(asked.task)
        if answer is None:
            return
        try:
            result = answer(asked)
        except Exception as error:  # noqa: BLE001 - what the request comes to
            self.store(asked.operation_id, "FAILURE", error)
            return
        if result is not NOTHING:
            self.store(asked.operation_id, "SUCCESS", result)
