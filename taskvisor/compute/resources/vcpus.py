"""Virtual CPUs that share the host's: Nova's VCPU. Those that are pinned are `pcpus`."""

from taskvisor.compute.resources.kind import Asked, GuestWants, HostHas, Offered, ResourceChoices

VCPUS = "vcpus"


class Vcpus:
    """A guest asks for its CPUs that are not pinned; a host has its CPUs that are not for pinned ones."""

    def __init__(self, choices: ResourceChoices) -> None:
        self._dedicated = choices.dedicated_cpus

    def asked(self, guest: GuestWants) -> Asked:
        pinned = 0 if guest.numa is None else len(guest.numa.pinned)
        return Asked(amounts={VCPUS: guest.flavor.vcpus - pinned})

    def offered(self, host: HostHas) -> Offered:
        kept = self._dedicated & frozenset().union(*(cell.cpus for cell in host.facts.cells))
        return Offered(amounts={VCPUS: host.facts.cpus - len(kept)})
