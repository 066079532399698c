"""Guests' disks as files in their directories: overlays of cached images, or raw. A DiskStore; knows of no other place."""

import stat
from pathlib import Path

from taskvisor.model.disk_backend import Preallocation
from taskvisor.model.errors import Refused
from taskvisor.model.plan import CachedImage, DiskPlan
from taskvisor.model.states import ImageFormat
from virt.progress import Progress
from virt.qcow2_header import NotQcow2, read_header
from virt.stores.data_disk import ensure_data_disk
from virt.stores.overlay import ensure_overlay
from virt.stores.raw_disk import ensure_raw_root
from virt.stores.store import SourceDisk


class FileStore:
    """Raw files are preallocated as told, when they are made and when they grow."""

    def __init__(self, *, preallocation: Preallocation = Preallocation.NONE) -> None:
        self._preallocation = preallocation

    def ensure_root(self, disk: DiskPlan, base: CachedImage, progress: Progress) -> None:
        """See `overlay.ensure_overlay` and `raw_disk.ensure_raw_root`."""
        path = Path(disk.path)
        if disk.format is ImageFormat.QCOW2:
            ensure_overlay(path, base=base, size_bytes=disk.size_bytes)
            return
        ensure_raw_root(
            path, base=base, size_bytes=disk.size_bytes, preallocation=self._preallocation, progress=progress
        )

    def ensure_data(self, disk: DiskPlan) -> None:
        """See `data_disk.ensure_data_disk`."""
        if disk.content is None:
            raise Refused(f"{disk.path} is planned to be made from something else, so it is not made empty")
        ensure_data_disk(
            Path(disk.path), content=disk.content, size_bytes=disk.size_bytes, preallocation=self._preallocation
        )

    def read_source(self, path: str, disk_format: ImageFormat) -> SourceDisk:
        """How the file is read. Its format is said, never looked for: a guest could forge it."""
        file = Path(path)
        try:
            virtual_bytes = read_header(file).virtual_bytes if disk_format is ImageFormat.QCOW2 else _raw_bytes(file)
        except (FileNotFoundError, NotQcow2) as error:
            raise Refused(f"{path} is not a {disk_format} disk that could be copied: {error}") from error
        return SourceDisk(name=file, format=disk_format, virtual_bytes=virtual_bytes)


def _raw_bytes(path: Path) -> int:
    facts = path.lstat()
    if not stat.S_ISREG(facts.st_mode):
        raise Refused(f"{path} is no file, so no disk of ours that could be copied")
    return facts.st_size
