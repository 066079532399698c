"""CPUs of the host that one guest has for itself: Nova's PCPU. Which ones is decided by where the guest lies (`things`)."""

from taskvisor.compute.resources.kind import NOTHING_ASKED, NOTHING_OFFERED, Asked, GuestWants, HostHas, Offered
from taskvisor.compute.resources.kind import ResourceChoices as Choices
from taskvisor.model.numa import cpu_things

PCPUS = "pcpus"
CPU = "cpu"


class Pcpus:
    """A guest asks for one for each of its pinned CPUs, and for those of QEMU's own threads; a host has those that its
    operator set aside and that are there.
    """

    def __init__(self, choices: Choices) -> None:
        self._dedicated = choices.dedicated_cpus

    def asked(self, guest: GuestWants) -> Asked:
        if guest.numa is None or not guest.numa.own_cpus:
            return NOTHING_ASKED
        return Asked(amounts={PCPUS: guest.numa.own_cpus})

    def offered(self, host: HostHas) -> Offered:
        kept = self._dedicated & frozenset().union(*(cell.cpus for cell in host.facts.cells))
        if not kept:
            return NOTHING_OFFERED
        return Offered(amounts={PCPUS: len(kept)}, things={CPU: cpu_things(kept)})
