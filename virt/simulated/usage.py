"""What a simulated host would count: time goes by for its CPUs, and each guest that runs keeps one of its own a tenth busy."""

import re
from collections.abc import Iterable

from taskvisor.model.ids import InstanceId
from taskvisor.model.measured import CpuTimes, DiskCounters, GuestUsage, HostUsage, MemoryAmounts, TrafficCounters
from taskvisor.model.states import PowerState

MHZ = 1000
VCPUS, MEMORY_KIB = re.compile(r"<vcpu[^>]*>(\d+)</vcpu>"), re.compile(r"<memory unit=.KiB.>(\d+)</memory>")

Domain = tuple[InstanceId, PowerState, str | None]
"""Its id, its state, and the definition that it was started with."""


def usage_for(cpus: int, memory_mib: int, domains: Iterable[Domain], up_ns: int) -> HostUsage:
    """All of it, `up_ns` after the machine was booted."""
    guests = tuple(_guest(*domain, up_ns) for domain in domains)
    busy_ns = sum(guest.cpu_ns or 0 for guest in guests)
    used_kib = sum(guest.rss_kib or 0 for guest in guests)
    total_kib = memory_mib * 1024
    return HostUsage(
        cpu_mhz=MHZ,
        cpu=CpuTimes(user_ns=busy_ns, kernel_ns=0, idle_ns=max(0, cpus * up_ns - busy_ns), iowait_ns=0),
        memory=MemoryAmounts(total_kib=total_kib, free_kib=max(0, total_kib - used_kib), buffers_kib=0, cached_kib=0),
        guests=guests,
    )


def _guest(instance_id: InstanceId, power: PowerState, live_xml: str | None, up_ns: int) -> GuestUsage:
    if live_xml is None:
        return GuestUsage(instance_id=instance_id, power_state=power)
    vcpus, memory = VCPUS.search(live_xml), MEMORY_KIB.search(live_xml)
    memory_kib = int(memory[1]) if memory else None
    return GuestUsage(
        instance_id=instance_id,
        power_state=power,
        vcpus=int(vcpus[1]) if vcpus else 1,
        cpu_ns=up_ns // 10,
        memory_kib=memory_kib,
        rss_kib=memory_kib,
        disks=DiskCounters(read_bytes=0, read_requests=0, write_bytes=0, write_requests=0),
        traffic=TrafficCounters(rx_bytes=0, rx_packets=0, rx_drops=0, tx_bytes=0, tx_packets=0, tx_drops=0),
    )
