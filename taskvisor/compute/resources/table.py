"""The kinds of resources that an installation has, as one: what a guest asks of all of them, and what a host has of all."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from taskvisor.compute.resources.cells import Cells
from taskvisor.compute.resources.disk import Disk
from taskvisor.compute.resources.encrypted import EncryptedGuests
from taskvisor.compute.resources.kind import (
    Asked,
    GuestWants,
    HostHas,
    KindFactory,
    Offered,
    ResourceChoices,
    ResourceKind,
)
from taskvisor.compute.resources.memory import Memory
from taskvisor.compute.resources.pci import Pci
from taskvisor.compute.resources.pcpus import Pcpus
from taskvisor.compute.resources.vcpus import Vcpus
from taskvisor.model.records import Flavor, Resources


@dataclass(frozen=True, kw_only=True)
class ResourceTable:
    """Kinds by name. Where two count under one name, the later one does."""

    kinds: Mapping[str, ResourceKind]
    choices: ResourceChoices = field(default_factory=ResourceChoices)

    def asked(self, guest: GuestWants) -> Asked:
        """What the guest asks of all kinds, as it can be known before a host is chosen. Refused as the kinds say."""
        amounts: dict[str, int] = {}
        things: dict[str, int] = {}
        for kind in self.kinds.values():
            asked = kind.asked(guest)
            amounts |= asked.amounts
            things |= asked.things
        return Asked(amounts=amounts, things=things)

    def offered(self, host: HostHas) -> Offered:
        """What the host has of all kinds."""
        amounts: dict[str, int] = {}
        things: dict[str, tuple[str, ...]] = {}
        for kind in self.kinds.values():
            offered = kind.offered(host)
            amounts |= offered.amounts
            things |= offered.things
        return Offered(amounts=amounts, things=things)

    def resources_for(self, guest: GuestWants) -> Resources:
        """The amounts that the guest claims wherever it lies; of further kinds those that it asks anything of."""
        return Resources.of_amounts(self.asked(guest).amounts)


OUR_KINDS: Mapping[str, KindFactory] = {
    "vcpus": Vcpus,
    "memory": Memory,
    "disk": Disk,
    "pcpus": Pcpus,
    "cells": Cells,
    "pci": Pci,
    "encrypted": EncryptedGuests,
}

OUR_TABLE = ResourceTable(kinds={name: kind(ResourceChoices()) for name, kind in OUR_KINDS.items()})
"""Our kinds, with nothing chosen."""


def resources_for(flavor: Flavor) -> Resources:
    """What a guest of that size claims where nothing else is asked or chosen: of disk, all that it has."""
    return OUR_TABLE.resources_for(GuestWants(flavor=flavor))
