"""What the disks of this host stand on, asked of the disks themselves: the backing file that each header names.

Records may be lost or late; a disk's own header is what QEMU will open. Knows nothing of the cache. A disk that cannot be
read is CannotAsk, never "stands on nothing". Raw disks stand on nothing, and so do LVM volumes and RBD images.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from taskvisor.model.errors import CannotAsk
from virt.durable import is_regular
from virt.layout import RAW_FILES
from virt.qcow2_header import HEADER_READ_BYTES, MAGIC, NotQcow2, parse_header

FILES_LIMIT: Final = 100_000
CHAIN_LIMIT: Final = 64
"""No honest chain is longer, and a loop ends."""


def read_backing_names(roots: tuple[Path, ...]) -> frozenset[str]:
    """Each name that a qcow2 disk below `roots` gives to its backing file, and each in the chains from there.

    As written in the header, and as a real path. CannotAsk when any directory or file cannot be read, or a header that
    begins as qcow2 does not parse. A root that is not there has no disks.
    """
    names: set[str] = set()
    try:
        for path in _files_below(roots):
            names |= _names_from(path)
    except NotQcow2 as error:
        raise CannotAsk(f"a disk cannot be asked what it stands on: {error}") from error
    except OSError as error:
        raise CannotAsk(
            f"a disk cannot be asked what it stands on: {error.strerror} ({error.filename})", delay_s=5.0
        ) from error
    return frozenset(names)


def _files_below(roots: tuple[Path, ...]) -> Iterator[Path]:
    seen = 0
    for root in roots:
        if not root.exists():
            continue
        for directory, _, names in os.walk(root, onerror=_raise):
            for name in names:
                if name.removesuffix(".new") in RAW_FILES:  # its first bytes are the guest's to write
                    continue
                seen += 1
                if seen > FILES_LIMIT:
                    raise CannotAsk(f"more than {FILES_LIMIT} files lie below {root}; not all were asked")
                yield Path(directory, name)


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # a directory that went meanwhile has no disks
        raise error


def _names_from(path: Path) -> set[str]:
    """Along the chain that begins at `path`."""
    names: set[str] = set()
    for _ in range(CHAIN_LIMIT):
        backing = _backing_of(path)
        if backing is None:
            break
        path = Path(os.path.realpath(path.parent / backing))
        if str(path) in names:
            break
        names |= {backing, str(path)}
    return names


def _backing_of(path: Path) -> str | None:
    """None for what is no qcow2 image, names no file that is there, or went meanwhile."""
    if not is_regular(Path(os.path.realpath(path))):
        return None
    try:
        with path.open("rb") as file:
            start = file.read(HEADER_READ_BYTES)
    except FileNotFoundError:
        return None
    if not start.startswith(MAGIC):
        return None
    try:
        return parse_header(start).backing_file
    except NotQcow2 as error:
        raise NotQcow2(f"{path}: {error}") from error
