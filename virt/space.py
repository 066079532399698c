"""How full the host's file systems are, and which of their errors mean "not on this host"."""

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from taskvisor.model.errors import DoesNotFit

GIB = 1 << 30
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_UNUSABLE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG})


class NoSpace(DoesNotFit):
    """A file system is full. Whoever can make room tells it by this from what else does not fit."""

    @property
    def code(self) -> str:
        """Callers are told of the reaction, which is the same."""
        return DoesNotFit.__name__


@dataclass(frozen=True, kw_only=True)
class Space:
    """Of one file system; `free_bytes` is what is left for us, without the blocks reserved for root."""

    total_bytes: int
    free_bytes: int


def read_space(path: Path) -> Space:
    """The space of the file system that `path`, or its nearest existing parent, lies on."""
    while not path.exists() and path != path.parent:
        path = path.parent
    facts = os.statvfs(path)
    return Space(total_bytes=facts.f_blocks * facts.f_frsize, free_bytes=facts.f_bavail * facts.f_frsize)


def check_space(path: Path, needed_bytes: int, what: str) -> None:
    """NoSpace (a DoesNotFit) when the file system of `path` has fewer than `needed_bytes` free."""
    if read_space(path).free_bytes < needed_bytes:
        raise no_space(path, needed_bytes, what)


def no_space(path: Path, needed_bytes: int | None, what: str) -> NoSpace:
    """The error for a full file system, with its numbers; `what` completes "cannot …"."""
    free = f"{gib(read_space(path).free_bytes)} free"
    needed = f", and {gib(needed_bytes)} more are needed" if needed_bytes is not None else ""
    return NoSpace(f"cannot {what}: the file system of {path} has {free}{needed}; free some space, or build elsewhere")


@contextlib.contextmanager
def host_errors(path: Path, what: str) -> Iterator[None]:
    """Errors of writing below `path` become DoesNotFit where this host, not the request, is at fault.

    Full, read-only, forbidden or failing storage, and one that has no files so large, will not heal within a step's tries;
    another host may do. Any other OSError passes through.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise no_space(path, None, what) from error
        if error.errno in _UNUSABLE:
            problem = f"{error.strerror} ({error.filename or path})"
            raise DoesNotFit(f"cannot {what} on this host: {problem}; see `taskvisor preflight` there") from error
        raise


def gib(size_bytes: int) -> str:
    """A size for people: GiB with two digits, or MiB below one GiB."""
    return f"{size_bytes / GIB:.2f} GiB" if size_bytes >= GIB else f"{size_bytes / (1 << 20):.1f} MiB"


def whole_gib(size_bytes: int) -> int:
    """The size in GiB, rounded up: what a flavor must have at least."""
    return -(-size_bytes // GIB)
