"""Room for a raw file, taken when it is made. Keeps what is in the file.

Sources: posix_fallocate(3), lseek(2) (SEEK_HOLE: what was reserved and never written is a hole still).
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from taskvisor.model.disk_backend import Preallocation
from virt.progress import Progress

_BLOCK: Final = bytes(4 << 20)


def ensure_allocated(path: Path, preallocation: Preallocation, progress: Progress) -> None:
    """The file's room is taken as `preallocation` says; OSError (ENOSPC) when there is not so much."""
    if preallocation is Preallocation.NONE:
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        size_bytes = os.fstat(descriptor).st_size
        if size_bytes:
            os.posix_fallocate(descriptor, 0, size_bytes)
        if preallocation is Preallocation.FULL:
            _write_holes(descriptor, size_bytes, progress)
    finally:
        os.close(descriptor)


def _write_holes(descriptor: int, size_bytes: int, progress: Progress) -> None:
    for begin, end in _holes(descriptor, size_bytes):
        for offset in range(begin, end, len(_BLOCK)):
            progress(offset, size_bytes)
            _write_at(descriptor, offset, memoryview(_BLOCK)[: min(len(_BLOCK), end - offset)])


def _holes(descriptor: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    offset = 0
    while offset < size_bytes:
        begin = os.lseek(descriptor, offset, os.SEEK_HOLE)
        if begin >= size_bytes:
            return
        offset = _next_data(descriptor, begin, size_bytes)
        yield begin, offset


def _next_data(descriptor: int, offset: int, size_bytes: int) -> int:
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole up to the end
            return size_bytes
        raise


def _write_at(descriptor: int, offset: int, block: memoryview) -> None:
    while block:
        written = os.pwrite(descriptor, block, offset)
        offset, block = offset + written, block[written:]
