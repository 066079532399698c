"""The file of a guest's disk, looked at by its header alone, without QEMU: a guest may have it open. Judges nothing."""

import os
from pathlib import Path

from taskvisor.model.errors import CannotAsk
from taskvisor.model.observed import DiskFileFacts
from taskvisor.model.states import ImageFormat
from virt.qcow2_header import HEADER_READ_BYTES, MAGIC, NotQcow2, parse_header


def read_disk_file(path: Path) -> DiskFileFacts | None:
    """What its header says; what has no header of qcow2's is raw. None when no file is there; CannotAsk when that can't be known.

    A file that begins as qcow2 and is cut short is raw, too: so it differs from what it should be.
    """
    try:
        with path.open("rb") as file:
            head, size_bytes = file.read(HEADER_READ_BYTES), os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CannotAsk(f"cannot read the disk {path}: {error.strerror}") from error
    try:
        header = parse_header(head) if head.startswith(MAGIC) else None
    except NotQcow2:
        header = None
    if header is None:
        return DiskFileFacts(format=ImageFormat.RAW, virtual_bytes=size_bytes)
    base = header.backing_file
    return DiskFileFacts(
        format=ImageFormat.QCOW2,
        virtual_bytes=header.virtual_bytes,
        base_path=base,
        base_is_there=base is None or is_there(path.parent / base),
    )


def is_there(path: Path) -> bool:
    """Whether a file of that name is there; CannotAsk when that can't be known."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise CannotAsk(f"cannot look for {path}: {error.strerror}") from error
    return True
