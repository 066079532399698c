"""file://: an image that lies on this host. Knows nothing of caches.

Who asks for a build names the path, and need not be trusted with this host's files. So a path is taken only below the
allowed directories, and never one that leads elsewhere: a symbolic link is not followed, and what is not a regular file
is not even opened (opening a device can start something). What counts is where the *open* file lies, as the kernel says
(/proc/self/fd): a path that was looked at may be another's by the time it is opened.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from taskvisor.model.errors import Refused, Retryable
from virt.images.source import (
    CHUNK_BYTES,
    RETRY_DELAY_S,
    Opened,
    ResumePoint,
    SourceIdentity,
    SourceLimits,
    resume_offset_for,
    shown_url,
)

_KINDS = {
    stat.S_IFLNK: "a symbolic link; give the path of the image itself",
    stat.S_IFBLK: "a block device, not a regular file; copy the disk into a file first",
    stat.S_IFCHR: "a character device, not a regular file, so it is no disk image",
    stat.S_IFIFO: "a pipe, not a regular file, so it is no disk image",
    stat.S_IFSOCK: "a socket, not a regular file, so it is no disk image",
    stat.S_IFDIR: "a directory, not a regular file, so it is no disk image",
}


@contextlib.contextmanager
def open_file(
    url: str, known: SourceIdentity | None, resume: ResumePoint | None, limits: SourceLimits
) -> Iterator[Opened | None]:
    """The file, opened; None when it is still `known`.

    Refused for what is not there, may not be read, is not a regular file or a link, or lies outside of the allowed
    directories.
    """
    path = _local_path(url)
    _require_not_deleted(path, limits)
    with _opened(path, limits) as file:
        identity = _identity(os.fstat(file.fileno()))
        if known is not None and identity.is_same(known):
            yield None
            return

        def confirm() -> None:
            with _file_errors(path):
                now = _identity(path.lstat())
            if not now.is_same(identity):
                raise Retryable(f"{path} was changed while it was read; it is read again", delay_s=RETRY_DELAY_S)

        offset = resume_offset_for(identity, resume)
        file.seek(offset)
        chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
        yield Opened(identity=identity, offset=offset, chunks=chunks, confirm=confirm, file=file)


def _local_path(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise Refused(f"{shown_url(url)} names no file on this host; write file:///absolute/path")
    return Path(unquote(parts.path))


def _require_not_deleted(path: Path, limits: SourceLimits) -> None:
    """Of a snapshot's file its callers know the image by name only, and where it lay is nothing they could mend."""
    if _is_below(path, limits.open_directories) and ".." not in path.parts and not os.path.lexists(path):
        raise Refused(f"{path} is gone: the image that it was has been deleted; build from another one")


@contextlib.contextmanager
def _opened(path: Path, limits: SourceLimits) -> Iterator[BinaryIO]:
    with _file_errors(path):
        _check_allowed(path.resolve(), limits)  # before anything is told of it: what a path *is* may be a secret too
        _check_regular(path, path.lstat().st_mode)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        _check_regular(path, os.fstat(descriptor).st_mode)
        _check_allowed(Path(os.readlink(f"/proc/self/fd/{descriptor}")), limits)
        yield file


def _check_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise Refused(f"{path} is {_KINDS.get(stat.S_IFMT(mode), 'not a regular file, so it is no disk image')}")


def _check_allowed(path: Path, limits: SourceLimits) -> None:
    """`path` has no link in it any more."""
    if not _is_below(path, limits.file_roots):
        roots = ", ".join(map(str, limits.file_roots))
        raise Refused(f"{path} is not among the directories that images are read from here ({roots})")
    if _is_below(path, limits.closed_directories) and not _is_below(path, limits.open_directories):
        raise Refused(f"{path} lies where no image is read from: it may hold secrets of this host or of its guests")


def _is_below(path: Path, directories: tuple[Path, ...]) -> bool:
    return any(path.is_relative_to(directory) for directory in directories)


def _identity(facts: os.stat_result) -> SourceIdentity:
    return SourceIdentity(size_bytes=facts.st_size, validator=f"{facts.st_dev}:{facts.st_ino}:{facts.st_mtime_ns}")


@contextlib.contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Refused(f"{path} does not exist on this host; put the image there, or give an http(s) URL") from error
    except PermissionError as error:
        raise Refused(f"{path} may not be read by the worker; change its permissions") from error
    except OSError as error:
        if error.errno == errno.ELOOP:  # it became a link since it was looked at, or its links form a loop
            raise Refused(f"{path} cannot be followed: it leads through links; give the path itself") from error
        raise
    except RuntimeError as error:
        raise Refused(f"{path} cannot be followed: its links form a loop") from error
