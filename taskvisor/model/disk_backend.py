"""How a guest's own disks are kept on its host. Plain words: what is done for each is virt's."""

from dataclasses import dataclass
from enum import StrEnum


class BackendKind(StrEnum):
    QCOW2 = "qcow2"  # files: the root disk is an overlay of the cached image
    RAW = "raw"  # files: the root disk is a copy of the image
    LVM = "lvm"  # logical volumes of a volume group
    RBD = "rbd"  # images of a Ceph pool


@dataclass(frozen=True, kw_only=True)
class DiskBackend:
    """Where a guest's disks are made. `pool`: the LVM volume group or the Ceph pool; empty where they are files.

    A guest keeps the one that it was built with, whatever its host is told to use later.
    """

    kind: BackendKind = BackendKind.QCOW2
    pool: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.pool}" if self.pool else str(self.kind)


QCOW2_FILES = DiskBackend()
"""What every guest had before there was a choice."""


class Preallocation(StrEnum):
    """How much of a raw file is allocated when it is made, in qemu-img's words."""

    NONE = "none"  # a sparse file: room is taken as the guest writes
    FALLOC = "falloc"  # reserved, not written
    FULL = "full"  # written: the guest's writes never wait for the file system
