"""A gate between the client's calls and fork(2): a fork waits until no other thread is inside one, and none enters meanwhile.

A child that is forked while another thread holds a lock finds it held for ever: those of kombu's and Celery's cached properties,
which belong to classes, and Python's own of a module that is being imported. Of children forked while 16 threads sent their
first requests, one in ten was seen to hang. Python's hooks (https://docs.python.org/3/library/os.html#os.register_at_fork) let a
fork wait instead, for as long as one call takes.
"""

import concurrent.futures.thread  # noqa: F401 - see `GATE`
import logging  # noqa: F401
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

FORK_WAIT_LIMIT_S = 30.0
"""Calls are bounded, and shorter; a fork goes on in any case."""


class ForkGate:
    """One for a process: calls `pass_through` it, forks `shut` it and `open_again`."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._own = threading.local()
        self._inside = 0
        self._shut = False

    @contextmanager
    def pass_through(self) -> Iterator[None]:
        """No other thread forks this process in the block. A thread that is inside already enters at once."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def shut(self) -> None:
        """Nobody but the caller is inside, and nobody enters; two threads that fork take turns."""
        deadline = time.monotonic() + FORK_WAIT_LIMIT_S
        with self._changed:
            self._changed.wait_for(lambda: not self._shut, timeout=FORK_WAIT_LIMIT_S)
            self._shut = True
            self._changed.wait_for(
                lambda: self._inside == self._own_entries(), timeout=max(0.0, deadline - time.monotonic())
            )

    def open_again(self) -> None:
        """In the parent, after its fork."""
        with self._changed:
            self._shut = False
            self._changed.notify_all()

    def begin_anew(self) -> None:
        """In the child, whose other threads are gone, whatever they held."""
        self._changed = threading.Condition(threading.Lock())
        self._inside = self._own_entries()
        self._shut = False

    def _enter(self) -> None:
        self._own.depth = getattr(self._own, "depth", 0) + 1
        if self._own.depth > 1:
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._shut, timeout=FORK_WAIT_LIMIT_S)
            self._inside += 1

    def _leave(self) -> None:
        self._own.depth -= 1
        if self._own.depth > 0:
            return
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def _own_entries(self) -> int:
        return 1 if getattr(self._own, "depth", 0) else 0


GATE = ForkGate()
"""Modules that Celery imports and that have hooks with locks of their own are imported above: hooks that are registered while a
fork waits here would run only by halves, and release what was never acquired. Hooks run last registered first, so no other's
lock is held while ours waits."""
os.register_at_fork(before=GATE.shut, after_in_parent=GATE.open_again, after_in_child=GATE.begin_anew)
