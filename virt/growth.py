"""How much the files of guests' disks may still grow: what they are to their guests, less what they take of the host.

Nova's disk_available_least stands on it. Looks at headers and at stat(2) only: guests have the disks open.
"""

import os
from pathlib import Path

from taskvisor.model.errors import CannotAsk
from virt.disk_file import read_disk_file

BLOCK_BYTES = 512
"""Of st_blocks, whatever the file system's are (stat(2))."""


def read_growth_bytes(directories: Path) -> int:
    """Of all files in the instances' directories below it. Files that vanish meanwhile are none; CannotAsk when it can't be read.

    Disks in volume groups and Ceph pools are not files: of these nothing is known here.
    """
    try:
        found = [entry.path for entry in os.scandir(directories) if entry.is_dir(follow_symlinks=False)]
        return sum(_growth_in(directory) for directory in found)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise CannotAsk(f"cannot look at the disks below {directories}: {error.strerror}") from error


def _growth_in(directory: str) -> int:
    try:
        files = [entry for entry in os.scandir(directory) if entry.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return 0  # its instance was deleted since
    return sum(_growth_of(Path(file.path)) for file in files)


def _growth_of(path: Path) -> int:
    facts = read_disk_file(path)
    if facts is None:
        return 0
    try:
        taken_bytes = path.stat().st_blocks * BLOCK_BYTES
    except FileNotFoundError:
        return 0
    return max(0, facts.virtual_bytes - taken_bytes)
