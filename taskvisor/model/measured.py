"""What was measured of a host and its guests, as counters and amounts. Raw: what follows from two of them is the monitors'.

What nobody could tell is None, and is then told to nobody: a number that is not known is never 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from taskvisor.model.ids import InstanceId
from taskvisor.model.states import PowerState


@dataclass(frozen=True, kw_only=True)
class CpuTimes:
    """Nanoseconds that all CPUs of the host together have spent so since it booted."""

    user_ns: int
    kernel_ns: int
    idle_ns: int
    iowait_ns: int


@dataclass(frozen=True, kw_only=True)
class MemoryAmounts:
    """The host's memory, as the kernel counts it."""

    total_kib: int
    free_kib: int
    buffers_kib: int
    cached_kib: int


@dataclass(frozen=True, kw_only=True)
class DiskCounters:
    """Of all disks of a guest together, since it was started."""

    read_bytes: int
    read_requests: int
    write_bytes: int
    write_requests: int


@dataclass(frozen=True, kw_only=True)
class TrafficCounters:
    """Of all links together, since each was made. As their owner sees it: `rx` is what the host, or the guest, receives."""

    rx_bytes: int
    rx_packets: int
    rx_drops: int
    tx_bytes: int
    tx_packets: int
    tx_drops: int


@dataclass(frozen=True, kw_only=True)
class GuestUsage:
    """A domain. `cpu_ns` is what its CPUs have used together; a guest whose QEMU hangs tells only its state."""

    instance_id: InstanceId
    power_state: PowerState
    vcpus: int | None = None
    cpu_ns: int | None = None
    memory_kib: int | None = None
    rss_kib: int | None = None
    unused_kib: int | None = None
    """What the guest itself calls free, if its balloon tells."""
    disks: DiskCounters | None = None
    traffic: TrafficCounters | None = None


@dataclass(frozen=True, kw_only=True)
class HostUsage:
    """What the hypervisor says of its host and of every domain on it, ours or not."""

    cpu_mhz: int | None
    cpu: CpuTimes | None
    memory: MemoryAmounts | None
    guests: tuple[GuestUsage, ...]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What was measured at one time, by metric."""

    at: float
    values: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class EvictedImages:
    """What an image cache let go of."""

    images: int
    freed_bytes: int
