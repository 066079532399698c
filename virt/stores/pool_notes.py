"""In which volume groups and Ceph pools a guest may have disks: a file in its directory, written before any is made.

So that a guest's disks are found and removed also when its host has been told of another group since.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from taskvisor.model.disk_backend import DiskBackend
from taskvisor.model.errors import Contradiction
from virt.durable import write_durably

NOTE_FILE = "pools.json"


def note_pools(directory: Path, pools: Iterable[DiskBackend]) -> None:
    """The note names these pools, beside those that it named before. Without any there is no note."""
    before = read_pools(directory)
    noted = tuple(dict.fromkeys((*before, *pools)))
    if noted != before:
        write_durably(directory / NOTE_FILE, msgspec.json.encode(noted))


def read_pools(directory: Path) -> tuple[DiskBackend, ...]:
    """The pools noted. Contradiction for a note that cannot be read: disks may lie who knows where."""
    path = directory / NOTE_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[DiskBackend, ...])
    except FileNotFoundError:
        return ()
    except msgspec.DecodeError as error:
        raise Contradiction(f"{path} cannot be read ({error}); nothing was removed: mend it, then retry") from error
