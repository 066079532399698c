"""One producer, plain Celery on Redis, that sends builds and takes the time until their outcome is published."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec
import redis
from celery import Celery

from taskvisor.model.urls import celery_url_for, redis_py_url_for
from tests.bench.host import NotMeasured

SILENCE_LIMIT_S = 60.0
PREFIX = "celery-task-meta-"


class _Meta(msgspec.Struct):
    status: str
    result: Any = None


@dataclass(frozen=True, kw_only=True)
class Run:
    latencies_s: list[float]
    elapsed_s: float


class Producer:
    def __init__(self, redis_url: str) -> None:
        url = celery_url_for(redis_url)
        self._app = Celery("bench", broker=url, backend=url, set_as_current=False)
        self._client = redis.Redis.from_url(redis_py_url_for(redis_url), protocol=2)
        self._outcomes = self._client.pubsub(ignore_subscribe_messages=True)
        self._outcomes.psubscribe(PREFIX + "*")
        self._decoder = msgspec.json.Decoder(_Meta)

    def run(self, task: str, asks: Iterable[dict[str, Any]], *, in_flight: int = 1) -> Run:
        began = time.perf_counter()
        sent: dict[str, float] = {}
        latencies: list[float] = []
        todo = iter(asks)
        ask = next(todo, None)
        while ask is not None or sent:
            if ask is not None and len(sent) < in_flight:
                operation_id = str(uuid4())
                sent[operation_id] = time.perf_counter()
                self._app.send_task(task, kwargs=ask, queue="compute", task_id=operation_id, ignore_result=True)
                ask = next(todo, None)
            else:
                operation_id = self._next_end()
                if operation_id in sent:
                    latencies.append(time.perf_counter() - sent.pop(operation_id))
        return Run(latencies_s=latencies, elapsed_s=time.perf_counter() - began)

    def _next_end(self) -> str:
        deadline = time.monotonic() + SILENCE_LIMIT_S
        while time.monotonic() < deadline:
            message = self._outcomes.get_message(timeout=1.0)
            if message is None:
                continue
            meta = self._decoder.decode(message["data"])
            if meta.status == "FAILURE":
                raise NotMeasured(str(meta.result))
            if meta.status == "SUCCESS":
                return message["channel"].decode().removeprefix(PREFIX)
        raise NotMeasured("no outcome")

    def close(self) -> None:
        self._outcomes.close()
        self._client.close()
        self._app.close()
