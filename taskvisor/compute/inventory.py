"""What may be claimed of a host: its totals, times the ratios an operator chose, less what is reserved for the host itself."""

from dataclasses import dataclass

from taskvisor.model.network import NO_LINKS, HostLinks
from taskvisor.model.observed import HypervisorFacts
from taskvisor.model.records import Inventory, Resources


@dataclass(frozen=True, kw_only=True)
class Ratios:
    """An operator's choices: how often each resource may be promised, and what is kept back."""

    vcpu_ratio: float
    memory_ratio: float
    disk_ratio: float
    reserved_memory_mib: int
    reserved_disk_gib: int


def inventory_for(
    facts: HypervisorFacts, disk_gib: tuple[int, int], ratios: Ratios, now: float, links: HostLinks = NO_LINKS
) -> Inventory:
    """`disk_gib` is (total, free) of the file system that instances lie on."""
    total_disk_gib, free_disk_gib = disk_gib
    limits = Resources(
        vcpus=int(facts.cpus * ratios.vcpu_ratio),
        memory_mib=max(0, int(facts.memory_mib * ratios.memory_ratio) - ratios.reserved_memory_mib),
        disk_gib=max(0, int(total_disk_gib * ratios.disk_ratio) - ratios.reserved_disk_gib),
    )
    return Inventory(
        total=Resources(vcpus=facts.cpus, memory_mib=facts.memory_mib, disk_gib=total_disk_gib),
        limits=limits,
        arch=facts.arch,
        virt_type=facts.virt_type,
        hypervisor_version=facts.hypervisor_version,
        domains=facts.domains,
        disk_free_gib=free_disk_gib,
        reported_at=now,
        physical_networks=tuple(sorted(links.uplinks)),
        tunnel_address=links.tunnel_address,
    )
