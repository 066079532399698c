"""What may be claimed of a host: its totals, times the ratios an operator chose, less what is reserved for the host itself.

A host that says what can't be, or was told to keep more than it has, is not refused here: it is marked, and nothing may be
claimed of it until that is put right.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import ceil

from taskvisor.compute.resources.kind import HostHas, Offered
from taskvisor.compute.resources.table import OUR_TABLE, ResourceTable
from taskvisor.model.network import NO_LINKS, HostLinks
from taskvisor.model.observed import HostCell, HypervisorFacts, PciDevice
from taskvisor.model.records import Inventory, Resources


@dataclass(frozen=True, kw_only=True)
class Ratios:
    """An operator's choices: how often each resource may be promised, and what is kept back.

    `ratios` and `reserved` are those of further kinds, by the names of their amounts: once, and nothing, where not said.
    """

    vcpu_ratio: float
    memory_ratio: float
    disk_ratio: float
    reserved_memory_mib: int
    reserved_disk_gib: int
    reserved_cpus: int = 0
    ratios: Mapping[str, float] = field(default_factory=dict)
    reserved: Mapping[str, int] = field(default_factory=dict)

    def ratio_of(self, amount: str) -> float:
        """How often one of it may be promised."""
        ours = {"vcpus": self.vcpu_ratio, "memory_mib": self.memory_ratio, "disk_gib": self.disk_ratio}
        return ours.get(amount) or self.ratios.get(amount, 1.0)

    def reserved_of(self, amount: str) -> int:
        """What is kept back of what may be promised; a CPU that is kept is not promised several times either."""
        ours = {
            "vcpus": ceil(self.reserved_cpus * self.vcpu_ratio),
            "memory_mib": self.reserved_memory_mib,
            "disk_gib": self.reserved_disk_gib,
        }
        return ours[amount] if amount in ours else self.reserved.get(amount, 0)

    def promised(self, amount: str, total: int) -> int:
        """What may be claimed of so much; less than nothing where more is kept back than that."""
        return int(total * self.ratio_of(amount)) - self.reserved_of(amount)


def inventory_for(
    facts: HypervisorFacts,
    disk_gib: tuple[int, int],
    ratios: Ratios,
    now: float,
    links: HostLinks = NO_LINKS,
    *,
    table: ResourceTable = OUR_TABLE,
    traits: tuple[str, ...] = (),
) -> Inventory:
    """`disk_gib` is (total, free) of the file system that instances lie on."""
    problems = tuple(_problems(facts, disk_gib))
    cells = () if any(_cell_problems(facts)) else facts.cells
    sound = replace(facts, cpus=max(0, facts.cpus), memory_mib=max(0, facts.memory_mib), cells=cells)
    total_gib, free_gib = (max(0, size) for size in disk_gib)
    offered = table.offered(HostHas(facts=sound, disk_gib=(total_gib, free_gib)))
    limits = {name: ratios.promised(name, total) for name, total in offered.amounts.items()}
    problems += tuple(_broken_promises(limits, offered.amounts, ratios))
    return Inventory(
        total=Resources.of_amounts(offered.amounts),
        limits=Resources() if problems else Resources.of_amounts(limits),
        arch=facts.arch,
        virt_type=facts.virt_type,
        hypervisor_version=facts.hypervisor_version,
        domains=facts.domains,
        disk_free_gib=free_gib,
        reported_at=now,
        physical_networks=tuple(sorted(links.uplinks)),
        tunnel_address=links.tunnel_address,
        cpu_model=facts.cpu_model,
        traits=traits,
        cells=cells,
        pci_devices=_offered_devices(facts, offered),
        things={} if problems else offered.things,
        problems=problems,
    )


def _offered_devices(facts: HypervisorFacts, offered: Offered) -> tuple[PciDevice, ...]:
    """Those of the host's that guests may have; the others are nobody's business."""
    names = {thing for things in offered.things.values() for thing in things}
    found = (device for device in facts.pci_devices if f"pci:{device.address}" in names)
    return tuple(sorted(found, key=lambda device: device.address))


def _problems(facts: HypervisorFacts, disk_gib: tuple[int, int]) -> Iterator[str]:
    """What the host said that no host can be."""
    total_gib, free_gib = disk_gib
    if facts.cpus <= 0:
        yield f"it says that it has {facts.cpus} CPUs"
    if facts.memory_mib <= 0:
        yield f"it says that it has {facts.memory_mib} MiB of memory"
    if total_gib < 0 or free_gib < 0:
        yield f"it says that it has a disk of {total_gib} GiB, of which {free_gib} are free"
    elif free_gib > total_gib:
        yield f"it says that {free_gib} GiB of its disk are free, and that it has {total_gib}"
    yield from _cell_problems(facts)


def _cell_problems(facts: HypervisorFacts) -> Iterator[str]:
    cells = facts.cells
    if not cells:
        return
    cpus = sorted(cpu for cell in cells for core in cell.cores for cpu in core)
    if len(set(cpus)) != len(cpus):
        twice = next(cpu for index, cpu in enumerate(cpus) if cpu in cpus[:index])
        yield f"it says that CPU {twice} is in two cores"
    elif len(cpus) > max(0, facts.cpus):
        yield f"it says that its NUMA cells have {len(cpus)} CPUs, and that it has {facts.cpus}"
    for cell in cells:
        yield from _memory_problems(cell)


def _memory_problems(cell: HostCell) -> Iterator[str]:
    pages_mib = sum(size_kib * pages for size_kib, pages in cell.pages.items()) // 1024
    if cell.memory_mib < 0 or any(pages < 0 for pages in cell.pages.values()):
        yield f"it says that NUMA cell {cell.id} has {cell.memory_mib} MiB, or less than no pages"
    elif pages_mib > cell.memory_mib + 1:  # both are rounded
        yield f"it says that NUMA cell {cell.id} has {cell.memory_mib} MiB, and pages of {pages_mib} MiB"


def _broken_promises(limits: Mapping[str, int], totals: Mapping[str, int], ratios: Ratios) -> Iterator[str]:
    for name, limit in limits.items():
        if limit < 0:
            kept = ratios.reserved_cpus if name == "vcpus" else ratios.reserved_of(name)
            yield f"{kept} of its {name} are to be kept back, and it has {totals[name]}"
