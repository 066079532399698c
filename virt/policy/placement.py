"""How a guest's NUMA nodes lie on the host's cells, and which of the host's CPUs they are pinned to. Pure; claims nothing.

The rules are Nova's (nova/virt/hardware.py): each node in a cell of its own, and no CPU of the host used twice.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from taskvisor.model.errors import DoesNotFit, Refused
from taskvisor.model.observed import HostCell
from taskvisor.model.records import Flavor
from virt.options import GuestOptions
from virt.options.cpu import CpuPolicy, CpuThreadPolicy, EmulatorThreads
from virt.options.memory import PageSize

SMALL_PAGE_KIB = 4
KIB_PER_MIB = 1024


@dataclass(frozen=True, kw_only=True)
class GuestCell:
    """A NUMA node of the guest, before it has a place."""

    id: int
    vcpus: frozenset[int]
    memory_mib: int


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """A node of the guest in a cell of the host. `pins`: which CPUs of the host each pinned CPU of the guest may use."""

    guest_cell: int
    host_cell: int
    pins: Mapping[int, frozenset[int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GuestPlacement:
    """Where a guest lies on its host. Whoever gives it to the policy holds the CPUs for this guest.

    `page_size_kib` None: ordinary pages.
    """

    cells: tuple[CellPlan, ...]
    emulator_cpus: frozenset[int] = frozenset()
    page_size_kib: int | None = None


@dataclass(frozen=True, kw_only=True)
class PciDevicePlan:
    """A device of the host that is held for this guest."""

    alias: str
    bus: int
    slot: int
    domain: int = 0
    function: int = 0


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


def placement_for(
    flavor: Flavor,
    options: GuestOptions,
    host_cells: Sequence[HostCell],
    *,
    taken: frozenset[int] = frozenset(),
) -> GuestPlacement:
    """Where the guest would lie, with the CPUs `taken` left alone. The first cells that fit, in the host's order.

    DoesNotFit when the host has no such place; Refused as in `guest_cells_for`.
    """
    cells = guest_cells_for(flavor, options)
    page_size_kib = page_size_for(options, cells, host_cells)
    pinned = dedicated_vcpus(flavor, options)
    extra = 1 if options.cpu.emulator_threads is EmulatorThreads.ISOLATE else 0
    found: dict[tuple[int, int], list[int]] = {}
    for guest in cells:
        for host in host_cells:
            wanted = len(guest.vcpus & pinned) + (extra if guest.id == 0 else 0)
            cpus = _cpus_in(host, wanted, options.cpu.thread_policy, taken)
            if cpus is not None and _has_memory(host, guest, page_size_kib):
                found[guest.id, host.id] = cpus
    matched = _matched([guest.id for guest in cells], [host.id for host in host_cells], found.keys())
    if matched is None:
        raise DoesNotFit(
            f"no {len(cells)} NUMA cells of this host have room for {len(pinned)} CPUs of their own and "
            f"{flavor.memory_mib} MiB" + (f" in pages of {page_size_kib} KiB" if page_size_kib else "")
        )
    return _placed(cells, matched, found, pinned, page_size_kib)


def page_size_for(options: GuestOptions, cells: Sequence[GuestCell], host_cells: Sequence[HostCell]) -> int | None:
    """The size of the guest's pages in KiB; None: ordinary ones.

    Refused when a node's memory is not made of whole pages, or it is not known what the host has; DoesNotFit when the
    host has none large enough.
    """
    asked = options.memory.page_size
    if asked in (None, PageSize.SMALL, SMALL_PAGE_KIB):
        return None
    if isinstance(asked, int):
        _require_whole_pages(asked, cells)
        return asked
    sizes = sorted({size for host in host_cells for size in host.pages if size > SMALL_PAGE_KIB}, reverse=True)
    for size in sizes:
        if all(_is_whole(size, cell) for cell in cells) and any(
            _room(host, size) >= _least(cells) for host in host_cells
        ):
            return size
    if asked is PageSize.ANY:
        return None
    if not host_cells:
        raise Refused(f"hw:mem_page_size={asked}: the pages of this host are not known; say a size, like 2MB")
    raise DoesNotFit(
        f"hw:mem_page_size={asked}: this host has no large pages of which the guest's memory could be made"
    )


def _require_whole_pages(size_kib: int, cells: Sequence[GuestCell]) -> None:
    for cell in cells:
        if not _is_whole(size_kib, cell):
            raise Refused(
                f"hw:mem_page_size={size_kib}: the {cell.memory_mib} MiB of node {cell.id} are no whole pages of "
                f"{size_kib} KiB; choose another size"
            )


def _is_whole(size_kib: int, cell: GuestCell) -> bool:
    return cell.memory_mib * KIB_PER_MIB % size_kib == 0


def _least(cells: Sequence[GuestCell]) -> int:
    return min(cell.memory_mib for cell in cells)


def _room(host: HostCell, size_kib: int) -> int:
    return host.pages.get(size_kib, 0) * size_kib // KIB_PER_MIB


def _has_memory(host: HostCell, guest: GuestCell, page_size_kib: int | None) -> bool:
    room = host.memory_mib if page_size_kib is None else _room(host, page_size_kib)
    return guest.memory_mib <= room


def _cpus_in(
    host: HostCell, wanted: int, thread_policy: CpuThreadPolicy | None, taken: frozenset[int]
) -> list[int] | None:
    """So many free CPUs of the cell, by the policy; None when it has not that many."""
    free = [sorted(core - taken) for core in host.cores]
    match thread_policy:
        case CpuThreadPolicy.ISOLATE:
            # A whole core each: its other threads stay idle, and must not be another guest's.
            chosen = [cpus[0] for core, cpus in zip(host.cores, free, strict=True) if len(cpus) == len(core)]
        case CpuThreadPolicy.REQUIRE:
            chosen = [cpu for cpus in free if len(cpus) > 1 for cpu in cpus]
        case _:
            chosen = [cpu for cpus in sorted(free, key=len, reverse=True) for cpu in cpus]
    return chosen[:wanted] if len(chosen) >= wanted else None


def _matched(guests: Sequence[int], hosts: Sequence[int], fits: Collection[tuple[int, int]]) -> dict[int, int] | None:
    """A host cell of its own for each guest cell (Kuhn's augmenting paths); None when there is none for one."""
    guest_of: dict[int, int] = {}

    def placed(guest: int, tried: set[int]) -> bool:
        # A free one before one that another would have to leave: so the host's order is kept where it can be.
        for host in sorted(hosts, key=lambda host: host in guest_of):
            if (guest, host) in fits and host not in tried:
                tried.add(host)
                if host not in guest_of or placed(guest_of[host], tried):
                    guest_of[host] = guest
                    return True
        return False

    if not all(placed(guest, set()) for guest in guests):
        return None
    return {guest: host for host, guest in guest_of.items()}


def _placed(
    cells: Sequence[GuestCell],
    matched: Mapping[int, int],
    found: Mapping[tuple[int, int], Sequence[int]],
    pinned: frozenset[int],
    page_size_kib: int | None,
) -> GuestPlacement:
    plans, emulator = [], frozenset[int]()
    for cell in cells:
        host, vcpus = matched[cell.id], sorted(cell.vcpus & pinned)
        cpus = found[cell.id, host]
        plans.append(
            CellPlan(
                guest_cell=cell.id,
                host_cell=host,
                pins={vcpu: frozenset({cpu}) for vcpu, cpu in zip(vcpus, cpus, strict=False)},
            )
        )
        emulator |= frozenset(cpus[len(vcpus) :])  # one more than the guest's, where the emulator has its own
    return GuestPlacement(cells=tuple(plans), emulator_cpus=emulator, page_size_kib=page_size_kib)
