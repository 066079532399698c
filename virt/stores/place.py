"""Where a guest's own disks lie, by the back end that it was built with, and whose a name there is. Pure.

    qcow2   <directory>/disk                     raw   <directory>/disk.raw
    lvm     /dev/<group>/<instance id>_disk      rbd   <pool>/<instance id>_disk

What stands on no image (swap, ephemeral, target) lies beside the root disk, raw in each.
"""

import os
import re
from dataclasses import dataclass
from typing import Final

from taskvisor.model.disk_backend import BackendKind, DiskBackend
from taskvisor.model.errors import Refused
from taskvisor.model.ids import InstanceId
from taskvisor.model.plan import DiskLayout, DiskPlan, DiskRole, DiskStorage
from taskvisor.model.states import ImageFormat

ROOT_NAME: Final = "disk"
RAW_ROOT_NAME: Final = "disk.raw"
"""Another name than an overlay's: who asks disks what they stand on must not read a guest's own bytes as a header."""
_OWNED_NAME: Final = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})_.+")
_BLOCK_PATH: Final = re.compile(r"/dev/(?P<pool>[A-Za-z0-9+_.-]+)/(?P<name>[A-Za-z0-9+_.-]+)")
_RBD_PATH: Final = re.compile(r"(?P<pool>[A-Za-z0-9_.-]+)/(?P<name>[A-Za-z0-9_.-]+)")
_STORAGES: Final = {BackendKind.LVM: DiskStorage.BLOCK, BackendKind.RBD: DiskStorage.RBD}
_PATHS: Final = {BackendKind.LVM: _BLOCK_PATH, BackendKind.RBD: _RBD_PATH}


@dataclass(frozen=True, kw_only=True)
class DiskPlace:
    path: str
    storage: DiskStorage
    format: ImageFormat


@dataclass(frozen=True, kw_only=True)
class PoolDisk:
    """A disk's name within its volume group or Ceph pool."""

    backend: DiskBackend
    name: str

    @property
    def owner(self) -> InstanceId | None:
        """The instance that the name is of; None for a name that is none of ours."""
        return owner_of_name(self.name)


def disk_place_for(backend: DiskBackend, *, instance_id: InstanceId, directory: str, file_name: str) -> DiskPlace:
    """Where the disk that would be `file_name` in the instance's directory is made, and its format there."""
    name = f"{instance_id}_{file_name}"
    match backend.kind:
        case BackendKind.LVM:
            return DiskPlace(path=f"/dev/{backend.pool}/{name}", storage=DiskStorage.BLOCK, format=ImageFormat.RAW)
        case BackendKind.RBD:
            return DiskPlace(path=f"{backend.pool}/{name}", storage=DiskStorage.RBD, format=ImageFormat.RAW)
    is_overlay = backend.kind is BackendKind.QCOW2 and file_name == ROOT_NAME
    if file_name == ROOT_NAME and not is_overlay:
        file_name = RAW_ROOT_NAME
    return DiskPlace(
        path=os.path.join(directory, file_name),
        storage=DiskStorage.FILE,
        format=ImageFormat.QCOW2 if is_overlay else ImageFormat.RAW,
    )


def pool_disk_at(path: str) -> PoolDisk:
    """The disk that lies in a volume group or a Ceph pool, by its path. Refused for a path that names neither."""
    for kind, pattern in _PATHS.items():
        if found := pattern.fullmatch(path):
            return PoolDisk(backend=DiskBackend(kind=kind, pool=found["pool"]), name=found["name"])
    raise Refused(f"{path} is neither /dev/GROUP/VOLUME nor POOL/IMAGE, so no disk of ours lies there")


def is_pool_disk(disk: DiskPlan) -> bool:
    """Whether it is the guest's own, and lies outside of its directory."""
    return disk.role is not DiskRole.VOLUME and disk.storage in _STORAGES.values()


def pools_of(layout: DiskLayout) -> tuple[DiskBackend, ...]:
    """The volume groups and Ceph pools that disks of the guest's own are made in."""
    return tuple(dict.fromkeys(pool_disk_at(disk.path).backend for disk in layout.disks if is_pool_disk(disk)))


def owner_of_name(name: str) -> InstanceId | None:
    """The instance that a volume's or image's name begins with; None when it begins with none."""
    found = _OWNED_NAME.fullmatch(name)
    return None if found is None else InstanceId(found[1])
