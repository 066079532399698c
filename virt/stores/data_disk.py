"""A disk that stands on no image: a raw file, sparse unless told, with swap space, a file system, or nothing on it. Made once.

Once it has its name it is the guest's, who may have put anything on it: it is never looked into, made anew or resized.
That also means that no tool of the host reads what a guest wrote. Knows nothing of flavors: its caller decides what and
how large. Sources: mkswap(8), mke2fs(8), mkfs.fat(8).
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from taskvisor.model.disk_backend import Preallocation
from taskvisor.model.errors import Contradiction
from taskvisor.model.plan import DiskContent
from virt.command import CommandFailed, run_command
from virt.durable import ensure_no_file, rename_durably, sync_file
from virt.progress import ignore_progress
from virt.space import check_space
from virt.stores.preallocation import ensure_allocated

SWAP_LABEL: Final = "swap"
EPHEMERAL_LABEL: Final = "ephemeral0"
"""Nova's, and what images look for."""
TIME_LIMIT_S: Final = 300.0
"""Of a tool that writes metadata only; it grows with the disk."""
MAKERS: Final[Mapping[DiskContent, tuple[str, ...]]] = {
    DiskContent.SWAP: ("mkswap", "-q", "-L", SWAP_LABEL),
    # The journal is left to the holes of the sparse file, which read as the zeros that it would be. So are the tables of
    # inodes, without a word; `lazy_itable_init=1` would have the guest write them, and the file grow, at its first mount.
    DiskContent.EXT4: ("mkfs.ext4", "-q", "-F", "-L", EPHEMERAL_LABEL, "-E", "lazy_journal_init=1"),
    DiskContent.VFAT: ("mkfs.vfat", "-F", "32", "-n", EPHEMERAL_LABEL.upper()),
}
"""What is run on the file, whose path comes last. A blank disk needs nothing."""
_SPACE_TO_WRITE_BYTES: Final = 1 << 20


def ensure_data_disk(
    path: Path, *, content: DiskContent, size_bytes: int, preallocation: Preallocation = Preallocation.NONE
) -> None:
    """`path` is a raw file of that size, which held `content` when it was made. At most one subprocess when new, else none.

    Contradiction when what is there is no file, or is of another size; NoSpace when the file system is full, DoesNotFit when
    the tool is not installed. It gets its name when it is whole and on disk.
    """
    try:
        facts = path.lstat()
    except FileNotFoundError:
        _create(path, content, size_bytes, preallocation)
        return
    if not stat.S_ISREG(facts.st_mode) or facts.st_size != size_bytes:
        raise Contradiction(
            f"{path} is there, but is no disk of {size_bytes} bytes (it has {facts.st_size}); "
            "left alone: a guest's data may be in it; move it away, then retry"
        )


def _create(path: Path, content: DiskContent, size_bytes: int, preallocation: Preallocation) -> None:
    aside = path.with_name(f"{path.name}.new")
    ensure_no_file(aside)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, size_bytes)
    finally:
        os.close(descriptor)
    fill(aside, content)
    ensure_allocated(aside, preallocation, ignore_progress)  # last: mkfs.ext4 gives all room back
    sync_file(aside)
    rename_durably(aside, path)


def fill(path: Path, content: DiskContent) -> None:
    """What lies at `path`, a file or a device that reads as zeros, holds `content`. Errors as in `ensure_data_disk`."""
    if content not in MAKERS:
        return
    try:
        run_command([*MAKERS[content], str(path)], time_limit_s=TIME_LIMIT_S)
    except CommandFailed:
        # Not every tool says why it could not write. What it wrote is still there, so a full file system is full now.
        check_space(path, _SPACE_TO_WRITE_BYTES, f"write {path}")
        raise
