"""What a kind of resource is: the contract of the plug-ins.

A kind counts *amounts* (a number under a name, of which a host has a total and guests claim parts) or *things* (each of which
one guest alone may have, named like cpu:7), or both. It must never know who holds what: that is the store's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from taskvisor.model.numa import NumaAsk, PciAsk
from taskvisor.model.observed import HypervisorFacts
from taskvisor.model.records import Flavor


@dataclass(frozen=True, kw_only=True)
class GuestWants:
    """A guest, as far as resources are concerned. `numa` None: it may lie anywhere. `image_properties` under Nova's names."""

    flavor: Flavor
    image_properties: Mapping[str, str] = field(default_factory=dict)
    numa: NumaAsk | None = None
    pci: tuple[PciAsk, ...] = ()
    encrypted: bool = False


@dataclass(frozen=True, kw_only=True)
class HostHas:
    """A host, as its hypervisor and its file systems say. `disk_gib` is total and free."""

    facts: HypervisorFacts
    disk_gib: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a guest asks: amounts by name, and of things how many of each sort."""

    amounts: Mapping[str, int] = field(default_factory=dict)
    things: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Offered:
    """What a host has: amounts by name, and the things of each sort by their names."""

    amounts: Mapping[str, int] = field(default_factory=dict)
    things: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


NOTHING_ASKED = Asked()
NOTHING_OFFERED = Offered()


class ResourceKind(Protocol):
    """One kind. Both calls are pure, and of the same arguments always the same."""

    def asked(self, guest: GuestWants) -> Asked:
        """What of this kind the guest asks. Refused, in words, when it asks what no host can have."""
        ...

    def offered(self, host: HostHas) -> Offered:
        """What of this kind the host has."""
        ...


@dataclass(frozen=True, kw_only=True)
class ResourceChoices:
    """What an operator chose that kinds need to know. `pci_devices`: which of a host's guests may have, as addresses or as
    vendor:product. `pci_aliases`: what flavors call them, by name, as vendor:product.
    """

    guest_overhead_mib: int = 0
    dedicated_cpus: frozenset[int] = frozenset()
    pci_devices: tuple[str, ...] = ()
    pci_aliases: Mapping[str, str] = field(default_factory=dict)


KindFactory = Callable[[ResourceChoices], ResourceKind]
"""What an entry point names: called once a process, with the operator's choices."""
