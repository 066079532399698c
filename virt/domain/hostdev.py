"""Devices of the host that are given to the guest: PCI functions and mediated devices."""

from dataclasses import dataclass

from lxml import etree

from virt.domain.address import PciAddressConfig
from virt.domain.config import DeviceConfig, element, element_of, on_off, unless_empty, yes_no


@dataclass(frozen=True, kw_only=True)
class PciHostdevConfig(DeviceConfig):
    """A PCI function of the host. `managed`: libvirt takes it from its driver at the start, and gives it back at the end.

        <hostdev mode="subsystem" type="pci" managed="yes">
          <source>
            <address domain="0x0000" bus="0x3b" slot="0x00" function="0x0"/>
          </source>
          <boot order="2"/>
          <alias name="ua-gpu"/>
          <rom bar="off"/>
          <address …/>
        </hostdev>

    https://libvirt.org/formatdomain.html#usb-pci-scsi-devices
    """

    source: PciAddressConfig
    managed: bool
    boot_order: int | None = None
    alias: str | None = None
    rom_bar: bool | None = None
    address: PciAddressConfig | None = None

    def to_element(self) -> etree._Element:
        return element(
            "hostdev",
            [
                element("source", [element("address", **self.source.numbers())]),
                unless_empty(element("boot", order=self.boot_order)),
                unless_empty(element("alias", name=self.alias)),
                unless_empty(element("rom", bar=on_off(self.rom_bar))),
                element_of(self.address),
            ],
            mode="subsystem",
            type="pci",
            managed=yes_no(self.managed),
        )


@dataclass(frozen=True, kw_only=True)
class MdevHostdevConfig(DeviceConfig):
    """A mediated device, such as a slice of a GPU.

        <hostdev mode="subsystem" type="mdev" model="vfio-pci" display="on" ramfb="on">
          <source>
            <address uuid="c2177883-f1bb-47f0-914d-32a22e3a8804"/>
          </source>
          <alias name="ua-vgpu"/>
        </hostdev>

    https://libvirt.org/formatdomain.html#usb-pci-scsi-devices
    """

    uuid: str
    display: bool | None = None
    ramfb: bool | None = None
    alias: str | None = None

    def to_element(self) -> etree._Element:
        return element(
            "hostdev",
            [
                element("source", [element("address", uuid=self.uuid)]),
                unless_empty(element("alias", name=self.alias)),
            ],
            mode="subsystem",
            type="mdev",
            model="vfio-pci",
            display=on_off(self.display),
            ramfb=on_off(self.ramfb),
        )
