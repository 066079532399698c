"""Records as files: how many processes share one simulated host, and how a killed one leaves it whole.

One small JSON file per thing. A write is a temporary file and a rename(2), so a reader sees a whole record or none.
Read-modify-write happens under one flock(2), which the kernel releases when its holder dies. Writers hold it, so one
temporary file serves them all: a killed writer's is used again, and never lies among the records. Nothing is synced:
the world survives processes, not power. Must never know what a domain or a disk is.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from taskvisor.model.errors import CannotAsk

LOCK_LIMIT_S = 10.0
"""A holder needs well under a millisecond; one that was stopped (SIGSTOP) is waited for no longer than this."""

LOCK_PAUSE_S = 0.0002

T = TypeVar("T")


def read_file(path: Path) -> bytes | None:
    """The file's content; None when it is not there, though its directory is. Else CannotAsk."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        if path.parent.is_dir():
            return None
        raise CannotAsk(f"cannot look for {path}: its directory is not there; has the host been removed?") from None
    except OSError as error:
        raise CannotAsk(f"cannot read {path}: {error.strerror}") from error


class Lock:
    """Mutual exclusion between all processes of a simulated host, and the pen that only its holder may use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_suffix(".part")

    @contextmanager
    def held(self) -> Iterator[None]:
        """The calling process alone changes the world. CannotAsk when another holds the lock for LOCK_LIMIT_S.

        Opened each time: a descriptor that were kept open would be shared with, and unlocked by, a forked child.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise CannotAsk(f"cannot open {self._path}: {error.strerror}; has the host been removed?") from error
        try:
            self._take(descriptor)
            yield
        finally:
            os.close(descriptor)

    def put_file(self, path: Path, content: bytes) -> None:
        """The file has that content, whole. The lock must be held."""
        try:
            self._part.write_bytes(content)
            self._part.rename(path)
        except OSError as error:
            raise CannotAsk(f"cannot write {path}: {error.strerror}") from error

    def _take(self, descriptor: int) -> None:
        deadline = time.monotonic() + LOCK_LIMIT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise CannotAsk(f"{self._path} is held by another process for {LOCK_LIMIT_S} s") from None
                time.sleep(LOCK_PAUSE_S)
            else:
                return


class Counter:
    """A number that only grows, in a file of eight bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def next(self) -> int:
        """A number never returned before. The world's lock must be held.

        Written in place: write(2) copies eight bytes within one page, which no signal can cut in two.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                number = int.from_bytes(os.pread(descriptor, 8, 0), "big") + 1
                os.pwrite(descriptor, number.to_bytes(8, "big"), 0)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise CannotAsk(f"cannot count in {self._path}: {error.strerror}") from error
        return number


class Shelf(Generic[T]):
    """A directory of records of one kind, each in a file named after its key. Keys are plain file names."""

    def __init__(self, directory: Path, kind: type[T], lock: Lock) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._lock = lock
        self._decoder = msgspec.json.Decoder(kind)

    def read(self, key: str) -> T | None:
        """The record; None when there is none of that key. CannotAsk when that cannot be known."""
        content = read_file(self._file(key))
        return None if content is None else self._decode(key, content)

    def list_keys(self) -> tuple[str, ...]:
        """The keys of all records, in order."""
        try:
            names = os.listdir(self._directory)
        except OSError as error:
            raise CannotAsk(f"cannot list {self._directory}: {error.strerror}") from error
        return tuple(sorted(name.removesuffix(".json") for name in names))

    def list_all(self) -> tuple[tuple[str, T], ...]:
        """All records with their keys. One that goes while it is being listed is left out."""
        found = ((key, self.read(key)) for key in self.list_keys())
        return tuple((key, record) for key, record in found if record is not None)

    def put(self, key: str, record: T) -> None:
        """The record is there, in place of an older one. The lock must be held."""
        self._lock.put_file(self._file(key), msgspec.json.encode(record))

    def remove(self, key: str) -> None:
        """No record of that key is there. The world's lock must be held."""
        try:
            self._file(key).unlink(missing_ok=True)
        except OSError as error:
            raise CannotAsk(f"cannot remove {self._file(key)}: {error.strerror}") from error

    def _file(self, key: str) -> Path:
        return self._directory / f"{key}.json"

    def _decode(self, key: str, content: bytes) -> T:
        try:
            return self._decoder.decode(content)
        except msgspec.DecodeError as error:
            raise CannotAsk(f"{self._file(key)} is not a record of the simulated host: {error}") from error
