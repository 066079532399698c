"""Disks of guests in a pool as they are planned, and an image as the cache has it."""

import hashlib
from pathlib import Path

from taskvisor.model.disk_backend import DiskBackend
from taskvisor.model.ids import InstanceId
from taskvisor.model.plan import CachedImage, DiskBus, DiskContent, DiskPlan, DiskRole
from taskvisor.model.states import ImageFormat
from tests.virt.made_images import MIB
from virt.stores.place import disk_place_for

GUEST = InstanceId("6ba7b810-9dad-51d1-80b4-00c04fd430c8")
OTHER = InstanceId("6ba7b811-9dad-51d1-80b4-00c04fd430c8")


def cached(path: Path) -> CachedImage:
    """A qcow2 image of 4 MiB."""
    return CachedImage(
        path=str(path),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        format=ImageFormat.QCOW2,
        size_bytes=path.stat().st_size,
        virtual_bytes=4 * MIB,
    )


def root_in(backend: DiskBackend, owner: InstanceId = GUEST, size_bytes: int = 0) -> DiskPlan:
    return _plan(backend, DiskRole.ROOT, "disk", size_bytes, None, owner)


def swap_in(backend: DiskBackend, owner: InstanceId = GUEST, content: DiskContent = DiskContent.SWAP) -> DiskPlan:
    return _plan(backend, DiskRole.SWAP, "disk.swap", 64 * MIB, content, owner)


def _plan(
    backend: DiskBackend, role: DiskRole, name: str, size_bytes: int, content: DiskContent | None, owner: InstanceId
) -> DiskPlan:
    place = disk_place_for(backend, instance_id=owner, directory="", file_name=name)
    return DiskPlan(
        role=role,
        path=place.path,
        format=place.format,
        bus=DiskBus.VIRTIO,
        device="vda",
        size_bytes=size_bytes,
        storage=place.storage,
        content=content,
    )
