"""What a guest's options ask of a host's NUMA cells and CPUs. Pure; where that is found is `taskvisor.model.numa_fit`'s.

The rules are Nova's (nova/virt/hardware.py).
"""

from taskvisor.model.errors import Refused
from taskvisor.model.numa import GuestCell, NumaAsk
from taskvisor.model.records import Flavor
from virt.options import GuestOptions
from virt.options.cpu import CpuPolicy, EmulatorThreads


def numa_ask_for(flavor: Flavor, options: GuestOptions) -> NumaAsk | None:
    """What is to be found on the host; None for a guest that may lie anywhere. Refused as in the two below."""
    cells, pinned = guest_cells_for(flavor, options), dedicated_vcpus(flavor, options)
    if not cells:
        return None
    return NumaAsk(
        cells=cells,
        pinned=pinned,
        thread_policy=options.cpu.thread_policy,
        emulator_cpus=1 if pinned and options.cpu.emulator_threads is EmulatorThreads.ISOLATE else 0,
        page_size=options.memory.page_size,
    )


def dedicated_vcpus(flavor: Flavor, options: GuestOptions) -> frozenset[int]:
    """Which of the guest's CPUs are pinned. Refused when one that is named is not there, or mixed is none or all."""
    match options.cpu.policy:
        case CpuPolicy.SHARED:
            return frozenset()
        case CpuPolicy.DEDICATED:
            return frozenset(range(flavor.vcpus))
    mask = options.cpu.dedicated or options.cpu.realtime_mask
    chosen = frozenset() if mask is None else mask.cpus(flavor.vcpus)
    if not chosen < frozenset(range(flavor.vcpus)) or not chosen:
        raise Refused(
            f"hw:cpu_dedicated_mask: of {flavor.vcpus} CPUs it must name some and not all, and none that is not there"
        )
    return chosen


def guest_cells_for(flavor: Flavor, options: GuestOptions) -> tuple[GuestCell, ...]:
    """The guest's NUMA nodes; none where nothing asks for them. Refused when they do not add up to the flavor."""
    memory = options.memory
    pinned = options.cpu.policy is not CpuPolicy.SHARED
    count = memory.numa_nodes or (1 if pinned or memory.page_size is not None else 0)
    if count == 0:
        return ()
    if memory.numa_cpus or memory.numa_mem_mib:
        return _given_cells(flavor, options, count)
    if flavor.vcpus % count or flavor.memory_mib % count:
        raise Refused(
            f"hw:numa_nodes={count}: {flavor.vcpus} CPUs and {flavor.memory_mib} MiB are not to be parted equally; "
            "say hw:numa_cpus.N and hw:numa_mem.N for each"
        )
    each = flavor.vcpus // count
    return tuple(
        GuestCell(
            id=node, vcpus=frozenset(range(node * each, (node + 1) * each)), memory_mib=flavor.memory_mib // count
        )
        for node in range(count)
    )


def _given_cells(flavor: Flavor, options: GuestOptions, count: int) -> tuple[GuestCell, ...]:
    cpus, sizes = options.memory.numa_cpus, options.memory.numa_mem_mib
    if not cpus or not sizes:
        raise Refused("hw:numa_cpus.N and hw:numa_mem.N: say both, or neither")
    given = [cpu for node in cpus for cpu in cpus[node]]
    if sorted(given) != list(range(flavor.vcpus)):
        raise Refused(f"hw:numa_cpus.N: together they must name each of the flavor's {flavor.vcpus} CPUs once")
    if sum(sizes.values()) != flavor.memory_mib:
        raise Refused(
            f"hw:numa_mem.N: they add up to {sum(sizes.values())} MiB, the flavor has {flavor.memory_mib}; correct them"
        )
    return tuple(GuestCell(id=node, vcpus=cpus[node], memory_mib=sizes[node]) for node in range(count))
