"""One producer, plain Celery on Redis, which takes the time from sending a request to reading that it has succeeded.

It waits for what Redis publishes of results, over one connection, as `AsyncResult.get` does: polling for fifty results at
once would cost the machine more than the builds that are measured.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self
from uuid import uuid4

import msgspec
import redis
from celery import Celery

from taskvisor.model.urls import celery_url_for, redis_py_url_for
from tests.bench.host import NotMeasured

OUTCOME_LIMIT_S = 60.0
RESULT_PREFIX = "celery-task-meta-"

Request = dict[str, Any]


class _Result(msgspec.Struct):
    """What is read of a Celery result."""

    status: str
    result: Any


@dataclass(frozen=True, kw_only=True)
class Run:
    """How some requests went: each one's time, in the order of their ends, and that of all together."""

    latencies_s: tuple[float, ...]
    elapsed_s: float

    @classmethod
    def of(cls, runs: Sequence[Self]) -> Self:
        """Several runs as one."""
        return cls(
            latencies_s=tuple(latency_s for run in runs for latency_s in run.latencies_s),
            elapsed_s=sum(run.elapsed_s for run in runs),
        )

    @property
    def per_s(self) -> float:
        return len(self.latencies_s) / self.elapsed_s


class Producer:
    """Sends requests of one task, so many in flight at a time. Not safe in threads; close it."""

    def __init__(self, redis_url: str) -> None:
        url = celery_url_for(redis_url)
        self._app = Celery("bench", broker=url, backend=url, set_as_current=False)
        self._client = redis.Redis.from_url(redis_py_url_for(redis_url), protocol=2)
        self._published = self._client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._published.psubscribe(RESULT_PREFIX + "*")
        self._decoder = msgspec.json.Decoder(_Result)

    def close(self) -> None:
        self._published.close()
        self._client.close()
        self._app.close()

    def run(self, task: str, requests: Iterable[Request], *, in_flight: int = 1) -> Run:
        """All have succeeded. NotMeasured when one fails, or none ends for a minute."""
        sent_at: dict[str, float] = {}
        latencies: list[float] = []
        waiting = list(reversed(list(requests)))
        began = time.perf_counter()
        while waiting or sent_at:
            if waiting and len(sent_at) < in_flight:
                operation_id = str(uuid4())
                sent_at[operation_id] = time.perf_counter()
                self._send(task, operation_id, waiting.pop())
                continue
            operation_id = self._next_success()
            with suppress(KeyError):  # published by something else
                latencies.append(time.perf_counter() - sent_at.pop(operation_id))
        return Run(latencies_s=tuple(latencies), elapsed_s=time.perf_counter() - began)

    def _send(self, task: str, operation_id: str, request: Request) -> None:
        # Nothing is ignored, but Celery would subscribe to each result on its own.
        self._app.send_task(task, kwargs=request, queue="compute", task_id=operation_id, ignore_result=True)

    def _next_success(self) -> str:
        deadline = time.monotonic() + OUTCOME_LIMIT_S
        while time.monotonic() < deadline:
            message = self._published.get_message(timeout=1.0)
            if message is None:
                continue
            result = self._decoder.decode(message["data"])
            operation_id: str = message["channel"].decode().removeprefix(RESULT_PREFIX)
            if result.status == "FAILURE":
                raise NotMeasured(f"operation {operation_id} failed: {result.result}")
            if result.status == "SUCCESS":
                return operation_id
        raise NotMeasured(f"no request ended within {OUTCOME_LIMIT_S:g} s")
