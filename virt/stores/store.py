"""What every kind of place that guests' disks lie in can do: one module a kind, and nobody else knows how it is done there.

A disk has its final name when it is complete, whatever its maker died of; then it is the guest's, and is never made anew.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from taskvisor.model.ids import InstanceId
from taskvisor.model.plan import CachedImage, DiskPlan
from taskvisor.model.states import ImageFormat
from virt.progress import Progress
from virt.space import Space


@dataclass(frozen=True, kw_only=True)
class SourceDisk:
    """A disk that is to be read whole: what QEMU opens (a path, or a name like rbd:…), as what, and how large it is."""

    name: Path | str
    format: ImageFormat
    virtual_bytes: int


class DiskStore(Protocol):
    """Makes disks, grows them, and says how they are read."""

    def ensure_root(self, disk: DiskPlan, base: CachedImage, progress: Progress) -> None:
        """`disk.path` has the content of `base` and is at least `disk.size_bytes` large (0: as large as base).

        One that is there is grown, never shrunk. Refused when base is larger than the size asked; Contradiction for what
        bears its name and is not it.
        """
        ...

    def ensure_data(self, disk: DiskPlan) -> None:
        """`disk.path` is `disk.size_bytes` large and held `disk.content` when it was made. One that is there is kept."""
        ...

    def read_source(self, path: str, disk_format: ImageFormat) -> SourceDisk:
        """How the disk is read. Refused when there is none."""
        ...


class PoolStore(DiskStore, Protocol):
    """A place apart from the instances' directories: a volume group, a Ceph pool. Disks there bear their owner's id."""

    def ensure_removed(self, instance_id: InstanceId) -> None:
        """Nothing of the instance is left there. Contradiction, and nothing is touched, for what bears its name only."""
        ...

    def list_owners(self) -> frozenset[InstanceId]:
        """The instances that have anything there, of this host or, where hosts share it, of any. CannotAsk."""
        ...

    def read_space(self) -> Space:
        """What it has in all, and free. CannotAsk."""
        ...

    def list_problems(self) -> tuple[str, ...]:
        """What keeps disks from being made there, each a sentence with what to do."""
        ...
