"""Who asks meanwhile: callers that each have one request under way at a time, and see to it that it is answered.

A caller knows Celery and Redis and nothing else. It gives each request an id of its own, and when it sees no sign of it
asks again under the same id: the promise is that this is one operation, however often it was asked.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from taskvisor.model.errors import CannotAsk
from taskvisor.model.ids import OperationId
from taskvisor.model.urls import celery_url_for
from tests.deaths.hosts import Installation

ASK_AGAIN_S = 3.0
ANSWER_LIMIT_S = 100.0
WISHES_LIMIT = 3
"""An operation that failed is wished for anew so often."""
LOOK_S = 0.03


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One request."""

    task: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Life:
    """What becomes of one guest. It runs at the end if it is `kept`, else it is deleted."""

    name: str
    wishes: tuple[Wish, ...]
    kept: bool


@dataclass(kw_only=True)
class Tally:
    """What all callers have seen so far."""

    asked: Counter[str] = field(default_factory=Counter)
    """Operations that ended well, by task."""
    sent: int = 0
    """Messages: more than operations when callers had to ask again."""
    failed: list[str] = field(default_factory=list)
    """Operations that ended otherwise, and why."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def ended(self) -> int:
        return sum(self.asked.values()) + len(self.failed)


def life_for(name: str, chance: Random, fields: Mapping[str, Any], *, kept: bool) -> Life:
    """A build, some changes by chance, and the end that is wanted."""
    wishes = [Wish(task="instance.build", fields={"name": name, **fields})]
    for number in range(chance.randint(1, 3)):
        wishes += chance.choice(
            (
                [_change("reboot", name, type="hard")],
                [_change("stop", name, timeout_s=0), _change("start", name)],
                [_change("snapshot", name, image=f"{name}-{number}")],
            )
        )
    if not kept:
        wishes.append(_change("delete", name))
    return Life(name=name, wishes=tuple(wishes), kept=kept)


def _change(verb: str, name: str, **fields: Any) -> Wish:
    return Wish(task=f"instance.{verb}", fields={"instance": name, **fields})


class Caller(threading.Thread):
    """Sees lives through, one after another. `problem` is why it could not."""

    def __init__(self, installation: Installation, lives: list[Life], chance: Random, tally: Tally) -> None:
        super().__init__(daemon=True)
        self._installation = installation
        self._lives = lives
        self._chance = chance
        self._tally = tally
        url = celery_url_for(installation.server.url())
        self._celery = Celery("caller", broker=url, set_as_current=False)  # it looks for its answers itself
        self.problem: Exception | None = None

    def run(self) -> None:
        try:
            for life in self._lives:
                for wish in life.wishes:
                    self._until_granted(wish)
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits
            self.problem = error
        finally:
            self._celery.close()

    def _until_granted(self, wish: Wish) -> None:
        for _ in range(WISHES_LIMIT):
            operation_id = str(UUID(int=self._chance.getrandbits(128), version=4))
            status, result = self._answer(operation_id, wish)
            with self._tally.lock:
                if status == "SUCCESS":
                    self._tally.asked[wish.task] += 1
                    return
                self._tally.failed.append(f"{wish.task} {operation_id}: {result}")
        raise AssertionError(f"{wish} was not granted in {WISHES_LIMIT} operations: {self._tally.failed}")

    def _answer(self, operation_id: str, wish: Wish) -> tuple[str, Any]:
        deadline = time.monotonic() + ANSWER_LIMIT_S
        ask_at = time.monotonic()
        while time.monotonic() < deadline:
            if time.monotonic() >= ask_at and self._knows_nothing_of(operation_id):
                self._send(operation_id, wish)
                ask_at = time.monotonic() + ASK_AGAIN_S
            answer = _unless_silent(lambda: self._installation.redis.get(f"celery-task-meta-{operation_id}"))
            seen = json.loads(answer) if answer else {}
            if seen.get("status") in ("SUCCESS", "FAILURE"):
                return seen["status"], seen["result"]
            time.sleep(LOOK_S)
        operation = self._installation.catalog.read_operation(OperationId(operation_id))
        raise AssertionError(f"{wish} as {operation_id} was not answered in {ANSWER_LIMIT_S} s: {operation}")

    def _knows_nothing_of(self, operation_id: str) -> bool:
        try:
            return self._installation.catalog.read_operation(OperationId(operation_id)) is None
        except CannotAsk:
            return False  # Redis is away: neither seen nor unseen

    def _send(self, operation_id: str, wish: Wish) -> None:
        with self._tally.lock:
            self._tally.sent += 1
        try:
            self._celery.send_task(wish.task, kwargs=dict(wish.fields), queue="compute", task_id=operation_id)
        except (OperationalError, redis.RedisError):
            return  # asked again in a while, under the same id


def _unless_silent(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except redis.RedisError:
        return None
