"""How a guest's NUMA nodes lie on a host's cells, and which of the host's CPUs they are pinned to. Pure; claims nothing.

The rules are Nova's (nova/virt/hardware.py): each node in a cell of its own, and no CPU of the host used twice.
"""

from collections.abc import Collection, Mapping, Sequence

from taskvisor.model.errors import DoesNotFit, Refused
from taskvisor.model.numa import CellPlan, CpuThreadPolicy, GuestCell, GuestPlacement, NumaAsk, PageSize
from taskvisor.model.observed import HostCell

SMALL_PAGE_KIB = 4
KIB_PER_MIB = 1024


def numa_fit_for(
    ask: NumaAsk, host_cells: Sequence[HostCell], *, taken: frozenset[int] = frozenset()
) -> GuestPlacement:
    """Where the guest would lie, with the CPUs `taken` left alone. The first cells that fit, in the host's order.

    `host_cells` have the memory and the pages that are still to be had. DoesNotFit when the host has no such place; Refused as
    in `page_size_for`.
    """
    page_size_kib = page_size_for(ask.page_size, ask.cells, host_cells)
    found: dict[tuple[int, int], list[int]] = {}
    for guest in ask.cells:
        for host in host_cells:
            wanted = len(guest.vcpus & ask.pinned) + (ask.emulator_cpus if guest.id == 0 else 0)
            cpus = _cpus_in(host, wanted, ask.thread_policy, taken)
            if cpus is not None and _has_memory(host, guest, page_size_kib):
                found[guest.id, host.id] = cpus
    matched = _matched([guest.id for guest in ask.cells], [host.id for host in host_cells], found.keys())
    if matched is None:
        memory_mib = sum(cell.memory_mib for cell in ask.cells)
        raise DoesNotFit(
            f"no {len(ask.cells)} NUMA cells of this host have room for {len(ask.pinned)} CPUs of their own and "
            f"{memory_mib} MiB" + (f" in pages of {page_size_kib} KiB" if page_size_kib else "")
        )
    return _placed(ask, matched, found, page_size_kib)


def page_size_for(
    asked: PageSize | int | None, cells: Sequence[GuestCell], host_cells: Sequence[HostCell]
) -> int | None:
    """The size of the guest's pages in KiB; None: ordinary ones.

    Refused when a node's memory is not made of whole pages, or it is not known what the host has; DoesNotFit when the
    host has none large enough.
    """
    if asked in (None, PageSize.SMALL, SMALL_PAGE_KIB):
        return None
    if isinstance(asked, int):
        _require_whole_pages(asked, cells)
        return asked
    sizes = sorted({size for host in host_cells for size in host.pages if size > SMALL_PAGE_KIB}, reverse=True)
    for size in sizes:
        if all(_is_whole(size, cell) for cell in cells) and any(
            _room_mib(host, size) >= _least_mib(cells) for host in host_cells
        ):
            return size
    if asked is PageSize.ANY:
        return None
    if not host_cells:
        raise Refused(f"hw:mem_page_size={asked}: the pages of this host are not known; say a size, like 2MB")
    raise DoesNotFit(
        f"hw:mem_page_size={asked}: this host has no large pages of which the guest's memory could be made"
    )


def with_siblings(cpus: frozenset[int], host_cells: Sequence[HostCell]) -> frozenset[int]:
    """These CPUs and the other threads of their cores: what a guest with a core to each of its CPUs keeps from others."""
    cores = (core for cell in host_cells for core in cell.cores if core & cpus)
    return cpus.union(*cores)


def _require_whole_pages(size_kib: int, cells: Sequence[GuestCell]) -> None:
    for cell in cells:
        if not _is_whole(size_kib, cell):
            raise Refused(
                f"hw:mem_page_size={size_kib}: the {cell.memory_mib} MiB of node {cell.id} are no whole pages of "
                f"{size_kib} KiB; choose another size"
            )


def _is_whole(size_kib: int, cell: GuestCell) -> bool:
    return cell.memory_mib * KIB_PER_MIB % size_kib == 0


def _least_mib(cells: Sequence[GuestCell]) -> int:
    return min(cell.memory_mib for cell in cells)


def _room_mib(host: HostCell, size_kib: int) -> int:
    return host.pages.get(size_kib, 0) * size_kib // KIB_PER_MIB


def _has_memory(host: HostCell, guest: GuestCell, page_size_kib: int | None) -> bool:
    room_mib = host.memory_mib if page_size_kib is None else _room_mib(host, page_size_kib)
    return guest.memory_mib <= room_mib


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
    ask: NumaAsk,
    matched: Mapping[int, int],
    found: Mapping[tuple[int, int], Sequence[int]],
    page_size_kib: int | None,
) -> GuestPlacement:
    plans, emulator = [], frozenset[int]()
    for cell in ask.cells:
        host, vcpus = matched[cell.id], sorted(cell.vcpus & ask.pinned)
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
