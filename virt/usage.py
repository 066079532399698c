"""What libvirt has counted of a host and its domains: one call for all domains, and three short ones for the host.

https://libvirt.org/html/libvirt-libvirt-domain.html#virConnectGetAllDomainStats says what each figure is. What a driver, or a
domain that is off, does not tell is None.

Of a domain that another call holds, NOWAIT tells only the state. But the first call that asks a QEMU which hangs is itself the
one that then holds the domain, and waits for it (seen with a stopped QEMU: for ever). So the call is given up after a time, and
made again: then the domain is held, and passed over. Each QEMU that hangs costs that once.
"""

from collections.abc import Callable, Mapping
from typing import Any

import libvirt
import structlog

from taskvisor.model.ids import InstanceId
from taskvisor.model.measured import CpuTimes, DiskCounters, GuestUsage, HostUsage, MemoryAmounts, TrafficCounters
from virt.answering import QemuSilent, answer_within
from virt.libvirt_errors import is_unknown_flag
from virt.lookup import power_state_for

log = structlog.get_logger(__name__)

GROUPS = (
    libvirt.VIR_DOMAIN_STATS_STATE
    | libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_VCPU
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
    | libvirt.VIR_DOMAIN_STATS_BLOCK
)

Stats = Mapping[str, Any]


STATS_LIMIT_S = 15.0
"""A QEMU that is alive answers in a millisecond or two; a host may have hundreds, and be busy."""
HUNG_LIMIT = 3
"""So many QEMUs that hang newly are found out in one look; more of them make it fail, and the next one find the others."""


def read_usage(connection: libvirt.virConnect) -> HostUsage:
    """All of it, as it is now. A domain that is made or goes meanwhile is there or is not. QemuSilent as above."""
    found = _domain_stats(connection)
    return HostUsage(
        cpu_mhz=connection.getInfo()[3] or None,  # 0 where the kernel does not tell
        cpu=_cpu_times(connection),
        memory=_memory(connection),
        guests=tuple(guest_usage_for(domain.UUIDString(), stats) for domain, stats in found),
    )


def _domain_stats(connection: libvirt.virConnect) -> list[tuple[libvirt.virDomain, Stats]]:
    flags = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
    for _ in range(HUNG_LIMIT):
        try:
            return answer_within(
                STATS_LIMIT_S, "measure the domains", lambda: connection.getAllDomainStats(GROUPS, flags)
            )
        except QemuSilent as silence:
            log.warning("domain_stats_given_up", reason=str(silence))
    return answer_within(STATS_LIMIT_S, "measure the domains", lambda: connection.getAllDomainStats(GROUPS, flags))


def guest_usage_for(uuid: str, stats: Stats) -> GuestUsage:
    """A domain, of libvirt's figures."""
    return GuestUsage(
        instance_id=InstanceId(uuid),
        power_state=power_state_for(stats.get("state.state", libvirt.VIR_DOMAIN_NOSTATE)),
        vcpus=stats.get("vcpu.current"),
        cpu_ns=stats.get("cpu.time"),
        memory_kib=stats.get("balloon.current"),
        rss_kib=stats.get("balloon.rss"),
        unused_kib=stats.get("balloon.unused"),
        disks=_disks(stats),
        traffic=_traffic(stats),
    )


def _disks(stats: Stats) -> DiskCounters | None:
    count = stats.get("block.count")
    if count is None or not any(f"block.{number}.rd.bytes" in stats for number in range(count)):
        return None
    summed = _summing(stats, "block", count)
    return DiskCounters(
        read_bytes=summed("rd.bytes"),
        read_requests=summed("rd.reqs"),
        write_bytes=summed("wr.bytes"),
        write_requests=summed("wr.reqs"),
    )


def _traffic(stats: Stats) -> TrafficCounters | None:
    """libvirt tells it from the guest's side: `rx` is what the guest receives."""
    count = stats.get("net.count")
    if count is None or not any(f"net.{number}.rx.bytes" in stats for number in range(count)):
        return None
    summed = _summing(stats, "net", count)
    return TrafficCounters(
        rx_bytes=summed("rx.bytes"),
        rx_packets=summed("rx.pkts"),
        rx_drops=summed("rx.drop"),
        tx_bytes=summed("tx.bytes"),
        tx_packets=summed("tx.pkts"),
        tx_drops=summed("tx.drop"),
    )


def _summing(stats: Stats, group: str, count: int) -> Callable[[str], int]:
    return lambda figure: sum(stats.get(f"{group}.{number}.{figure}", 0) for number in range(count))


def _cpu_times(connection: libvirt.virConnect) -> CpuTimes | None:
    times = _told(lambda: connection.getCPUStats(libvirt.VIR_NODE_CPU_STATS_ALL_CPUS))
    if times is None:
        return None
    try:
        return CpuTimes(
            user_ns=times[libvirt.VIR_NODE_CPU_STATS_USER],
            kernel_ns=times[libvirt.VIR_NODE_CPU_STATS_KERNEL],
            idle_ns=times[libvirt.VIR_NODE_CPU_STATS_IDLE],
            iowait_ns=times[libvirt.VIR_NODE_CPU_STATS_IOWAIT],
        )
    except KeyError:
        return None


def _memory(connection: libvirt.virConnect) -> MemoryAmounts | None:
    amounts = _told(lambda: connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS))
    if amounts is None:
        return None
    try:
        return MemoryAmounts(
            total_kib=amounts[libvirt.VIR_NODE_MEMORY_STATS_TOTAL],
            free_kib=amounts[libvirt.VIR_NODE_MEMORY_STATS_FREE],
            buffers_kib=amounts[libvirt.VIR_NODE_MEMORY_STATS_BUFFERS],
            cached_kib=amounts[libvirt.VIR_NODE_MEMORY_STATS_CACHED],
        )
    except KeyError:
        return None


def _told(ask: Callable[[], dict[str, int]]) -> dict[str, int] | None:
    """None when this driver does not tell it."""
    try:
        return ask()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT or is_unknown_flag(error):
            return None
        raise
