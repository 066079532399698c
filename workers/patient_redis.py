"""redis-py's client as the transport has it: a Redis that says "not now" is one to come back to, as if the connection had broken.

Without it NOREPLICAS, READONLY, OOM and their like, said while Celery connects, end the worker.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.client import Pipeline

from taskvisor.state.connection import says_not_now


class PatientRedis(redis.Redis):
    """Raises redis.ConnectionError in place of a "not now", which Celery knows to wait for."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        with _not_now_as_connection_loss():
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "PatientPipeline":
        return PatientPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class PatientPipeline(Pipeline):
    """A pipeline of such a client."""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        with _not_now_as_connection_loss():
            return super().execute(raise_on_error)


@contextmanager
def _not_now_as_connection_loss() -> Iterator[None]:
    try:
        yield
    except redis.ResponseError as error:
        if says_not_now(error):
            raise redis.ConnectionError(f"Redis refused for now: {error}") from error
        raise
