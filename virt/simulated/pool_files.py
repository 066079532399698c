"""Where a simulated host keeps what would be an LVM volume or an RBD image: a file below `pools`, by the disk's path."""

from pathlib import Path

from taskvisor.model.errors import Refused
from taskvisor.model.ids import InstanceId
from virt.stores.place import owner_of_name, pool_disk_at

SEPARATOR = "!"
"""In place of a path's slashes: no name of a group, volume, pool or image has it."""


def file_of(root: Path, path: str) -> Path | None:
    """The file that stands for the disk: itself, unless it is a guest's own in a volume group or a Ceph pool.

    None for devices and RBD images that are no guest's own: of these a simulated host knows nothing.
    """
    try:
        disk = pool_disk_at(path)
    except Refused:
        return Path(path)
    return None if disk.owner is None else root / "pools" / path.lstrip("/").replace("/", SEPARATOR)


def read_pool_files(root: Path) -> dict[Path, InstanceId]:
    """Each such file, and whose it is."""
    found = {path: owner_of_name(path.name.rpartition(SEPARATOR)[2]) for path in (root / "pools").glob("*")}
    return {path: owner for path, owner in found.items() if owner is not None}
