"""Beat may run twice: the schedule is locked, and the lock of a dead one expires."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from taskvisor.state.connection import open_redis
from tests.fixtures.machine import ROOT
from tests.system.nodes import wait_until

pytestmark = pytest.mark.real

SWEEP_S = "0.5"


class Beat:
    """One beat, and what it says."""

    def __init__(self, redis_url: str, state_dir: Path, name: str) -> None:
        self._log = state_dir / f"{name}.log"
        environment = {
            **os.environ,
            "TASKVISOR_REDIS_URL": redis_url,
            "TASKVISOR_STATE_DIR": str(state_dir),
            "TASKVISOR_ALLOW_VOLATILE_REDIS": "true",
            "TASKVISOR_SWEEP_S": SWEEP_S,
            "TASKVISOR_LOG_LEVEL": "debug",  # redbeat says only so that it waits for the lock
            "PYTHONPATH": str(ROOT),
        }
        with self._log.open("wb") as log:
            argv = [sys.executable, "-m", "workers", "beat"]
            self.process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log, cwd=state_dir)

    def says(self, words: str) -> bool:
        said = self._log.read_text()
        assert self.process.poll() is None, said
        return words in said

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=10)


@contextmanager
def beating(redis_url: str, state_dir: Path, name: str) -> Iterator[Beat]:
    beat = Beat(redis_url, state_dir, name)
    try:
        yield beat
    finally:
        beat.kill()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    opened = open_redis(redis_url, timeout_s=5)
    yield opened
    opened.close()


SCHEDULE = "taskvisor:beat:"


def put_back(client: redis.Redis) -> None:
    """The clock is put back by years: what was sent last was sent long after now."""
    future = {"__type__": "datetime", "year": 2099, "month": 1, "day": 1, "hour": 0, "minute": 0, "second": 0}
    meta = json.dumps({"last_run_at": {**future, "microsecond": 0, "timezone": "UTC"}})
    for key in client.zrange(f"{SCHEDULE}:schedule", 0, -1):
        client.hset(str(key), "meta", meta)
        client.zadd(f"{SCHEDULE}:schedule", {str(key): 4_070_908_800})


def senders(client: redis.Redis) -> set[int]:
    """The processes that sent the messages in `compute`; Celery names its sender gen<pid>@<machine>."""
    origins = [json.loads(raw)["headers"]["origin"] for raw in client.lrange("compute", 0, -1)]
    return {int(origin.removeprefix("gen").partition("@")[0]) for origin in origins}


def test_of_two_beats_one_sends_and_the_other_takes_over_when_it_dies(
    redis_url: str, client: redis.Redis, tmp_state_dir: Path
) -> None:
    with beating(redis_url, tmp_state_dir, "first") as first:
        wait_until(lambda: senders(client), "the first to send")
        with beating(redis_url, tmp_state_dir, "second") as second:
            wait_until(lambda: second.says("Acquiring lock"), "the second to want the schedule")
            sent = client.llen("compute")
            wait_until(lambda: client.llen("compute") >= sent + 5, "more to be sent while both run")
            assert senders(client) == {first.process.pid}

            first.kill()
            wait_until(lambda: second.process.pid in senders(client), "the second to take over")


def test_beat_sends_on_when_the_clock_was_put_back_by_years(
    redis_url: str, client: redis.Redis, tmp_state_dir: Path
) -> None:
    with beating(redis_url, tmp_state_dir, "first") as first:
        wait_until(lambda: senders(client), "it to send")
        put_back(client)
        sent = client.llen("compute")
        wait_until(lambda: client.llen("compute") >= sent + 3, "it to send on")
        assert first.says("clock_was_put_back")
