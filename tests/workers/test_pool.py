"""The pool of a node on a real event loop, its process real; the messages on the process's pipe are written here."""

# mypy: allow-untyped-calls

import inspect
import os
import pickle
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.concurrency import asynpool, prefork
from kombu.asynchronous import Hub

from workers.app import app
from workers.pool import Pool, TaskPool

from .conftest import wait_until

MESSAGE = pickle.dumps((asynpool.ACK, ("a job", 0, 0.0, 1, None)))
WHOLE = struct.pack(">i", len(MESSAGE)) + MESSAGE


class Listening:
    """A pool of one process and its loop. What the process is heard to say is in `heard`."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.pool = Pool(processes=1, threads=False, synack=False)
        self.heard: list[tuple[int, object]] = []
        self.pool._result_handler.on_state_change = self.heard.append
        self.pool.register_with_event_loop(self.hub)
        self._turns = self.hub.create_loop()
        self.until(lambda: self.heard, "the process to say that it is up")
        self.heard.clear()

    @property
    def process(self) -> Any:
        return self.pool._pool[0]

    def say(self, part: bytes) -> None:
        os.write(self.process.outq._writer.fileno(), part)

    def turn(self) -> None:
        next(self._turns)

    def until(self, holds: Callable[[], object], what: str) -> None:
        wait_until(lambda: self.turn() or holds(), what)  # type: ignore[func-returns-value]

    def lose_connection(self) -> None:
        """As Celery does when the broker is gone: the loop forgets all, and the pool is registered anew."""
        self.hub.reset()
        self.pool.register_with_event_loop(self.hub)
        self._turns = self.hub.create_loop()

    def close(self) -> None:
        self.pool.terminate()
        self.pool.join()
        self.hub.close()


@pytest.fixture
def listening() -> Iterator[Listening]:
    one = Listening()
    yield one
    one.close()


@pytest.mark.parametrize("begun", [2, 4, len(WHOLE) // 2, len(WHOLE) - 1], ids=lambda length: f"{length}_bytes_read")
def test_a_result_half_read_when_the_connection_is_lost_is_read_to_its_end(listening: Listening, begun: int) -> None:
    listening.say(WHOLE[:begun])
    listening.turn()

    listening.lose_connection()
    listening.say(WHOLE[begun:])

    listening.until(lambda: listening.heard, "the result")
    assert listening.heard == [pickle.loads(MESSAGE)]  # noqa: S301 - its own bytes


def test_results_that_come_after_a_half_read_one_are_heard_too(listening: Listening) -> None:
    listening.say(WHOLE[:7])
    listening.turn()

    listening.lose_connection()
    listening.lose_connection()
    listening.say(WHOLE[7:] + WHOLE + WHOLE)

    listening.until(lambda: len(listening.heard) >= 3, "three results")
    assert len(listening.heard) == 3


def test_a_process_is_heard_whose_predecessor_died_in_the_midst_of_a_result(listening: Listening) -> None:
    listening.say(WHOLE[:7])
    listening.turn()
    died = listening.process

    os.kill(died.pid, 9)
    wait_until(lambda: died.exitcode is not None, "the process to die")
    listening.pool.maintain_pool()
    successor = listening.process
    listening.lose_connection()

    assert successor.outqR_fd == died.outqR_fd, "the test is about a pipe of the same number"
    listening.until(lambda: listening.heard, "the next process to say that it is up")
    assert listening.heard == [(asynpool.WORKER_UP, (successor.pid,))], "it was heard itself, not one after it"


def test_nodes_have_this_pool() -> None:
    assert app.conf.worker_pool == f"{TaskPool.__module__}:{TaskPool.__name__}"
    assert TaskPool.Pool is Pool


def test_what_is_relied_upon_of_celery_is_there() -> None:
    assert prefork.TaskPool.Pool is asynpool.AsynPool
    assert list(inspect.signature(asynpool.ResultHandler._recv_message).parameters)[:4] == [
        "self", "add_reader", "fd", "callback",
    ]  # fmt: skip
    assert inspect.isgeneratorfunction(asynpool.ResultHandler._recv_message)
    source = inspect.getsource(asynpool.AsynPool)
    assert "self._result_handler.register_with_event_loop(hub)" in source
    assert "self._fileno_to_outq[proc.outqR_fd] = proc" in source
