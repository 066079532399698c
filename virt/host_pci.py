"""A host's PCI devices, read from libvirt's node devices. Knows no connection, and not which of them guests may have.

Bridges are left out. https://libvirt.org/formatnode.html#pci
"""

import re
from typing import Final

from lxml import etree

from taskvisor.model.errors import UnreadableRecord
from taskvisor.model.observed import PciDevice
from virt.libvirt_xml import parse_tree

BRIDGE_CLASS: Final = "0x06"
"""Of the PCI code and ID assignment specification: what leads to other devices is not given away."""
_ID: Final = re.compile(r"0x[0-9a-f]{1,4}")


def parse_pci_device(node_device_xml: str) -> PciDevice | None:
    """The device; None for a bridge. UnreadableRecord when this is no PCI device."""
    capability = parse_tree(node_device_xml, "device").find("capability[@type='pci']")
    if capability is None:
        raise UnreadableRecord("cannot read a PCI device: libvirt's text has no capability of that type")
    if capability.findtext("class", "").startswith(BRIDGE_CLASS):
        return None
    try:
        domain, bus, slot, function = (
            int(capability.findtext(part, "")) for part in ("domain", "bus", "slot", "function")
        )
    except ValueError as error:
        raise UnreadableRecord(f"cannot read a PCI device's address: {error}") from error
    numa = capability.find("numa")
    cell = None if numa is None else numa.get("node")
    return PciDevice(
        address=f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}",
        vendor_id=_id_of(capability, "vendor"),
        product_id=_id_of(capability, "product"),
        cell=int(cell) if cell is not None and cell.isdecimal() else None,
    )


def _id_of(capability: etree._Element, part: str) -> str:
    found = capability.find(part)
    text = None if found is None else found.get("id")
    if text is None or not _ID.fullmatch(text.lower()):
        raise UnreadableRecord(f"cannot read a PCI device: {text!r} is no {part}")
    return f"{int(text, 16):04x}"
