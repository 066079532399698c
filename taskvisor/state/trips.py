"""Round trips to Redis of one process, counted as they are made: how many, how long each took, how many met silence.

Invariant: counting makes no trip. What was counted is handed over when somebody asks (`Tally.take`), now and then, with a trip
that the counting then sees as any other. What a process counted and had not handed over when it died is lost.
Must never know what is asked of Redis.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
from redis.client import Pipeline

SILENCE = (redis.ConnectionError, redis.TimeoutError)
KEPT_LIMIT = 10_000
"""Of durations that nobody took: a process whose tally is never asked for must not grow."""


@dataclass(frozen=True, kw_only=True)
class Trips:
    """Since they were last taken: the durations of the trips that were answered, and how many met silence."""

    durations_s: tuple[float, ...]
    silent: int


class Tally:
    """Of one client. Safe in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._durations_s: list[float] = []
        self._silent = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """A trip is made meanwhile. An error that Redis answers is an answer."""
        began_s = time.perf_counter()
        try:
            yield
        except SILENCE:
            with self._lock:
                self._silent += 1
            raise
        except redis.RedisError:
            self._note(time.perf_counter() - began_s)
            raise
        self._note(time.perf_counter() - began_s)

    def take(self) -> Trips:
        """What was counted since the last call."""
        with self._lock:
            durations_s, self._durations_s = self._durations_s, []
            silent, self._silent = self._silent, 0
        return Trips(durations_s=tuple(durations_s), silent=silent)

    def _note(self, duration_s: float) -> None:
        with self._lock:
            if len(self._durations_s) < KEPT_LIMIT:
                self._durations_s.append(duration_s)


class CountedRedis(redis.Redis):
    """redis-py's client, with a tally of its trips. A script is one trip, and so is a pipeline."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.tally = Tally()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        with self.tally.one():
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "CountedPipeline":
        return CountedPipeline(self.tally, self.connection_pool, self.response_callbacks, transaction, shard_hint)


class CountedPipeline(Pipeline):
    """A pipeline of a counted client."""

    def __init__(self, tally: Tally, *args: Any) -> None:
        super().__init__(*args)
        self._tally = tally

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        if not self.command_stack:
            return super().execute(raise_on_error)
        with self._tally.one():
            return super().execute(raise_on_error)
