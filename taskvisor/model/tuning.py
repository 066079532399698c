"""How a volume is used: what its caller may choose of caching, discarding, sharing and speed. Words and values only."""

from dataclasses import dataclass
from enum import StrEnum


class VolumeCache(StrEnum):
    """How the host's page cache takes part (https://libvirt.org/formatdomain.html, `driver cache`)."""

    NONE = "none"
    WRITETHROUGH = "writethrough"
    WRITEBACK = "writeback"
    DIRECTSYNC = "directsync"
    UNSAFE = "unsafe"


class VolumeIo(StrEnum):
    """How QEMU asks the host's kernel. `native` needs cache none or directsync."""

    NATIVE = "native"
    THREADS = "threads"
    IO_URING = "io_uring"


class VolumeDiscard(StrEnum):
    """What becomes of the blocks that the guest trims."""

    UNMAP = "unmap"
    IGNORE = "ignore"


@dataclass(frozen=True, kw_only=True)
class VolumeLimits:
    """What a volume may do in a second. A total goes with neither of its parts."""

    total_bytes_s: int | None = None
    read_bytes_s: int | None = None
    write_bytes_s: int | None = None
    total_iops: int | None = None
    read_iops: int | None = None
    write_iops: int | None = None


@dataclass(frozen=True, kw_only=True)
class VolumeTuning:
    """How a guest's QEMU uses a volume. What is None is as for other disks."""

    shareable: bool = False
    readonly: bool = False
    cache: VolumeCache | None = None
    io: VolumeIo | None = None
    discard: VolumeDiscard | None = None
    limits: VolumeLimits = VolumeLimits()
