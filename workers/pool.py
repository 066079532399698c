"""The prefork pool of a node: Celery's, which hears its processes across every reconnect to Redis.

A pool process writes a result as a header and a body, so its node often has read one and not yet the other. When the
connection to the broker is lost at that moment, Celery 5.7 resets its event loop, forgets the message it had begun, and after
the reconnect takes the rest of it for the beginning of the next. It can't make sense of that, stops to listen to the process,
and waits for ever for a result that it has thrown away: the node lives, and takes no more work. Here what was begun goes on.

Relied upon, private to Celery 5.7 (tests/workers/test_pool.py fails when one of them moves):

    asynpool.AsynPool         ResultHandler, _result_handler, _fileno_to_outq, register_with_event_loop
    asynpool.ResultHandler    _recv_message, fileno_to_outq
    prefork.TaskPool          Pool
"""

# Celery has types for few of its methods.
# mypy: allow-untyped-calls

from collections.abc import Callable, Generator, Iterator
from inspect import GEN_SUSPENDED, getgeneratorstate
from typing import Any

import structlog
from celery.concurrency import asynpool, prefork

log = structlog.get_logger(__name__)

Reading = Generator[None]
"""Resumed whenever its pipe is readable; ends when it has read one message and handed it on."""


class ResultHandler(asynpool.ResultHandler):
    """Celery's, but that it remembers which messages it has begun to read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._begun: dict[int, tuple[object, Reading]] = {}

    def _recv_message(self, add_reader: Callable[..., None], fd: int, callback: Callable[[object], None]) -> Reading:
        reading: Reading = super()._recv_message(add_reader, fd, callback)
        self._begun[fd] = self.fileno_to_outq.get(fd), reading
        return reading

    def half_read(self) -> Iterator[tuple[int, Reading]]:
        """The pipes in the middle of a message of a process that is still theirs, and what reads on."""
        for fd, (process, reading) in self._begun.items():
            if getgeneratorstate(reading) == GEN_SUSPENDED and self.fileno_to_outq.get(fd) is process:
                yield fd, reading


class Pool(asynpool.AsynPool):
    """Celery's, but that it reads on where it was when the event loop was reset."""

    ResultHandler = ResultHandler

    def register_with_event_loop(self, hub: Any) -> None:
        super().register_with_event_loop(hub)
        for fd, reading in self._result_handler.half_read():
            hub.add_reader(fd, reading)
            log.info("half_read_result_resumed", fd=fd)


class TaskPool(prefork.TaskPool):
    """What the setting `worker_pool` names."""

    Pool = Pool
