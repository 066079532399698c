"""Where a device sits on a bus of the guest, or of the host."""

from dataclasses import dataclass

from lxml import etree

from virt.domain.config import Config, element


@dataclass(frozen=True, kw_only=True)
class PciAddressConfig(Config):
    """A PCI function.

        <address type="pci" domain="0x0000" bus="0x00" slot="0x03" function="0x0"/>

    https://libvirt.org/formatdomain.html#device-addresses
    """

    bus: int
    slot: int
    domain: int = 0
    function: int = 0

    def to_element(self) -> etree._Element:
        # libvirt's `type` says how to read an address in the guest; one of the host's own devices has none.
        return element("address", type="pci", **self.numbers())

    def numbers(self) -> dict[str, str]:
        """The attributes, as libvirt writes them."""
        return {
            "domain": f"0x{self.domain:04x}",
            "bus": f"0x{self.bus:02x}",
            "slot": f"0x{self.slot:02x}",
            "function": f"0x{self.function:x}",
        }


@dataclass(frozen=True, kw_only=True)
class DriveAddressConfig(Config):
    """A unit on a controller that has many: SCSI, SATA, IDE.

        <address type="drive" controller="0" bus="0" target="0" unit="3"/>

    https://libvirt.org/formatdomain.html#device-addresses
    """

    controller: int = 0
    bus: int = 0
    target: int = 0
    unit: int

    def to_element(self) -> etree._Element:
        return element(
            "address", type="drive", controller=self.controller, bus=self.bus, target=self.target, unit=self.unit
        )
