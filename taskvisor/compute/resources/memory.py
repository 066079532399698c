"""Memory, in MiB: a guest's own, and what QEMU takes beside it."""

from taskvisor.compute.resources.kind import Asked, GuestWants, HostHas, Offered, ResourceChoices

MEMORY = "memory_mib"


class Memory:
    """A guest asks for what it sees and the overhead that the operator reckons with; a host has all of its memory."""

    def __init__(self, choices: ResourceChoices) -> None:
        self._overhead_mib = choices.guest_overhead_mib

    def asked(self, guest: GuestWants) -> Asked:
        return Asked(amounts={MEMORY: guest.flavor.memory_mib + self._overhead_mib})

    def offered(self, host: HostHas) -> Offered:
        return Offered(amounts={MEMORY: host.facts.memory_mib})
