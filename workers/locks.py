"""Locks that the kernel takes back from a dead process (flock(2)): a lock that is free is proof, time is none.

A lock is on an open file description, which fork shares: a node's lock is free only when all its pool processes are gone
as well, so whoever gets it knows that nothing of the former node still runs.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from taskvisor.model.ids import InstanceId
from taskvisor.model.tick import Turn


def open_lock(path: Path) -> int | None:
    """Hold the lock at `path` until the returned descriptor is closed; None when another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def open_lock_within(path: Path, *, time_limit_s: float) -> int | None:
    """As `open_lock`, but a lock that is held is waited for; None when it is still held after the limit."""
    deadline = time.monotonic() + time_limit_s
    while (descriptor := open_lock(path)) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return descriptor


class HostTickLocks:
    """Implements the ticker's `HostTurns` with one file a task, which holds when it was begun last.

    The time is the kernel's monotonic clock, the same for all processes of the host until it boots, and set by nobody: after a
    boot it is earlier than what the file says, and then nothing comes too soon.
    """

    def __init__(self, directory: Path, *, steady: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._steady = steady

    @contextmanager
    def hold(self, task: str, *, soon_s: float) -> Iterator[Turn]:
        descriptor = open_lock(self._directory / f"{task}.lock")
        if descriptor is None:
            yield Turn.RUNNING
            return
        try:
            yield self._begun(descriptor, soon_s)
        finally:
            os.close(descriptor)

    def _begun(self, descriptor: int, soon_s: float) -> Turn:
        now_s, text = self._steady(), os.pread(descriptor, 64, 0).decode(errors="replace")
        with suppress(ValueError):
            if 0 <= now_s - float(text) < soon_s:
                return Turn.TOO_SOON
        os.pwrite(descriptor, f"{now_s:32.6f}".encode(), 0)
        return Turn.TAKEN


def lock_path(state_dir: Path, host: str, role: str) -> Path:
    """What the node of that role of that host holds for as long as it runs."""
    return state_dir / "locks" / f"{host}.{role}.lock"


class InstanceLocks:
    """Implements the flow engine's `Exclusion` with one file per instance. Files of deleted instances are removed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def hold(self, instance_id: InstanceId) -> Iterator[bool]:
        path = self._directory / f"{instance_id}.lock"
        descriptor = open_lock(path)
        if descriptor is None:
            yield False
            return
        held = _is_still_at(path, descriptor)
        try:
            yield held
        finally:
            if held:  # what lies at the path is then ours; otherwise it may be the lock of another
                path.unlink(missing_ok=True)
            os.close(descriptor)


def _is_still_at(path: Path, descriptor: int) -> bool:
    """A former holder unlinks the file before it lets go: who opened it in between holds a lock on nothing."""
    try:
        return os.stat(path).st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False
