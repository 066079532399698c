"""What of a host is to be one guest's alone: CPUs, pages and memory of NUMA cells, PCI devices, and strangers' things.

Pure: given what the host has and what is held there, it says what the guest would have. The claim makes it so, or finds that
somebody was quicker; then another look decides anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from taskvisor.compute.resources.kind import GuestWants
from taskvisor.compute.resources.pci import Pci
from taskvisor.compute.resources.pcpus import CPU, PCPUS
from taskvisor.compute.resources.table import ResourceTable
from taskvisor.model.errors import DoesNotFit
from taskvisor.model.ids import InstanceId
from taskvisor.model.numa import (
    CpuThreadPolicy,
    GuestPlace,
    GuestPlacement,
    NumaAsk,
    PciDevicePlan,
    cell_memory_amount,
    cpu_things,
    pages_amount,
)
from taskvisor.model.numa_fit import KIB_PER_MIB, SMALL_PAGE_KIB, numa_fit_for, with_siblings
from taskvisor.model.observed import HostCell
from taskvisor.model.records import Claim, Host, Instance, Inventory, Resources

Held = Mapping[str, InstanceId]
"""What of a host is held, by the thing's name, and by whom."""


def wants_things(wants: GuestWants, table: ResourceTable) -> bool:
    """Whether it matters where on its host the guest lies: what is held there must be known to place it."""
    return wants.numa is not None or bool(table.asked(wants).things)


def claim_for(host: Host, instance_id: InstanceId, wants: GuestWants, table: ResourceTable, held: Held) -> Claim:
    """The claim of that guest on the host, with all that it would have alone. `held` is read after the host was.

    DoesNotFit, with every reason, when the host has no such place; Refused when no host can have.
    """
    inventory = host.inventory
    assert inventory is not None  # noqa: S101 - a host that has not reported is no candidate
    asked = table.asked(wants)
    taken = frozenset(held)
    numa, reasons = _numa_or_reasons(host, inventory, wants.numa, taken)
    near = frozenset() if numa is None else frozenset(cell.host_cell for cell in numa.cells)
    chosen = {sort: _free(inventory, sort, taken, near)[:count] for sort, count in asked.things.items()}
    reasons += [
        f"{sort} {count} asked, {len(chosen[sort])} of {len(inventory.things.get(sort, ()))} free"
        for sort, count in asked.things.items()
        if len(chosen[sort]) < count
    ]
    if reasons:
        raise DoesNotFit("; ".join(reasons))
    cpus = _own_cpus(wants.numa, numa, inventory.cells)
    amounts = _amounts_of(wants.numa, numa, own_cpus=len(cpus))
    things = (*cpu_things(cpus), *(thing for sort in chosen for thing in chosen[sort]))
    place = GuestPlace(numa=numa, pci_devices=_pci_plans(wants, table, chosen), things=things)
    return Claim(
        host=host.name,
        instance_id=instance_id,
        resources=Resources.of_amounts({**asked.amounts, **amounts}),
        limits=inventory.limits,
        things=things,
        place=place if numa is not None or things else None,
    )


def claim_of_resident(instance: Instance, wants: GuestWants, table: ResourceTable) -> Claim:
    """The claim of an instance that lies on its host already, with the place that it has there by its record. Whether there is
    room is no question any more: the limits are what it takes.
    """
    place = instance.place or GuestPlace()
    own_cpus = sum(thing.startswith(f"{CPU}:") for thing in place.things)
    amounts = {**table.asked(wants).amounts, **_amounts_of(wants.numa, place.numa, own_cpus=own_cpus)}
    resources = Resources.of_amounts(amounts)
    return Claim(
        host=instance.host,
        instance_id=instance.id,
        resources=resources,
        limits=resources,
        things=place.things,
        place=instance.place,
    )


def _numa_or_reasons(
    host: Host, inventory: Inventory, ask: NumaAsk | None, taken: frozenset[str]
) -> tuple[GuestPlacement | None, list[str]]:
    if ask is None:
        return None, []
    if not inventory.cells:
        return None, ["its NUMA cells are not known"]
    dedicated = frozenset(inventory.things.get(CPU, ()))
    if ask.own_cpus and not dedicated:
        return None, ["it has no CPUs for pinned guests (TASKVISOR_DEDICATED_CPUS there)"]
    free = dedicated - taken
    there = frozenset().union(*(cell.cpus for cell in inventory.cells))
    others = frozenset(cpu for cpu in there if f"cpu:{cpu}" not in free)
    try:
        return numa_fit_for(ask, _free_cells(host, inventory), taken=others), []
    except DoesNotFit as full:
        return None, [str(full)]


def _free_cells(host: Host, inventory: Inventory) -> tuple[HostCell, ...]:
    limits, used = dict(inventory.limits.amounts()), dict(host.used.amounts())

    def free(amount: str) -> int:
        return max(0, limits.get(amount, 0) - used.get(amount, 0))

    return tuple(
        replace(
            cell,
            memory_mib=free(cell_memory_amount(cell.id)),
            pages={size: free(pages_amount(size, cell.id)) for size in cell.pages if size > SMALL_PAGE_KIB},
        )
        for cell in inventory.cells
    )


def _own_cpus(ask: NumaAsk | None, numa: GuestPlacement | None, host_cells: Sequence[HostCell]) -> frozenset[int]:
    """The CPUs that a guest which lies there keeps from others."""
    if ask is None or numa is None:
        return frozenset()
    # A guest that has whole cores pays for their other threads too: nobody else can have them.
    return with_siblings(numa.cpus, host_cells) if ask.thread_policy is CpuThreadPolicy.ISOLATE else numa.cpus


def _amounts_of(ask: NumaAsk | None, numa: GuestPlacement | None, *, own_cpus: int) -> dict[str, int]:
    """What a guest that lies there takes besides what it asked for."""
    if ask is None or numa is None:
        return {}
    amounts = {PCPUS: own_cpus} if own_cpus else {}
    memory_mib = {cell.id: cell.memory_mib for cell in ask.cells}
    for plan in numa.cells:
        if numa.page_size_kib is None:
            amounts[cell_memory_amount(plan.host_cell)] = memory_mib[plan.guest_cell]
        else:
            pages = memory_mib[plan.guest_cell] * KIB_PER_MIB // numa.page_size_kib
            amounts[pages_amount(numa.page_size_kib, plan.host_cell)] = pages
    return amounts


def _free(inventory: Inventory, sort: str, taken: frozenset[str], near: frozenset[int]) -> tuple[str, ...]:
    """The free things of a sort; of PCI devices first those that are near the guest's memory."""
    cell_of = {f"pci:{device.address}": device.cell for device in inventory.pci_devices}
    free = (thing for thing in inventory.things.get(sort, ()) if thing not in taken)
    return tuple(sorted(free, key=lambda thing: cell_of.get(thing) not in near))


def _pci_plans(
    wants: GuestWants, table: ResourceTable, chosen: Mapping[str, Sequence[str]]
) -> tuple[PciDevicePlan, ...]:
    pci, left = Pci(table.choices), {sort: list(things) for sort, things in chosen.items()}
    return tuple(
        _plan_of(request.alias, left[pci.sort_of(request.alias)].pop(0))
        for request in wants.pci
        for _ in range(request.count)
    )


def _plan_of(alias: str, thing: str) -> PciDevicePlan:
    domain, bus, rest = thing.removeprefix("pci:").split(":")
    slot, _, function = rest.partition(".")
    return PciDevicePlan(
        alias=alias, domain=int(domain, 16), bus=int(bus, 16), slot=int(slot, 16), function=int(function, 16)
    )
