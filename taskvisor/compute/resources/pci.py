"""PCI devices that guests may have, each one guest's alone.

A guest asks by alias, or by vendor and product; a host has those of its devices that its operator named.
"""

import re
from typing import Final

from taskvisor.compute.resources.kind import Asked, GuestWants, HostHas, Offered, ResourceChoices
from taskvisor.model.errors import Refused
from taskvisor.model.observed import PciDevice

IDS: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}")


class Pci:
    """Things named after their addresses, pci:0000:3b:00.0, of sorts named after what they are, pci:10de:1db4."""

    def __init__(self, choices: ResourceChoices) -> None:
        self._named = frozenset(choices.pci_devices)
        self._aliases = choices.pci_aliases

    def asked(self, guest: GuestWants) -> Asked:
        """Refused for an alias that the operator has not given."""
        things: dict[str, int] = {}
        for request in guest.pci:
            sort = self.sort_of(request.alias)
            things[sort] = things.get(sort, 0) + request.count
        return Asked(things=things)

    def offered(self, host: HostHas) -> Offered:
        things: dict[str, tuple[str, ...]] = {}
        for device in sorted(allowed_devices(host.facts.pci_devices, self._named), key=lambda found: found.address):
            sort = f"pci:{device.vendor_id}:{device.product_id}"
            things[sort] = (*things.get(sort, ()), f"pci:{device.address}")
        return Offered(things=things)

    def sort_of(self, alias: str) -> str:
        """What devices under that alias are. Refused for one that is not known."""
        ids = alias if IDS.fullmatch(alias) else self._aliases.get(alias)
        if ids is None:
            known = ", ".join(sorted(self._aliases)) or "none"
            raise Refused(
                f"pci_passthrough:alias={alias}: no such alias; known are: {known} (TASKVISOR_PCI_ALIASES);"
                " or say vendor:product, like 10de:1db4"
            )
        return f"pci:{ids}"


def allowed_devices(devices: tuple[PciDevice, ...], named: frozenset[str]) -> tuple[PciDevice, ...]:
    """Those that the operator named, by address or by vendor:product."""
    return tuple(
        device for device in devices if device.address in named or f"{device.vendor_id}:{device.product_id}" in named
    )
