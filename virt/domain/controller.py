"""Controllers of the buses that the other devices sit on. libvirt adds those that are missing by itself."""

from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from virt.domain.address import PciAddressConfig
from virt.domain.config import Config, DeviceConfig, element, element_of, on_off, text_element, unless_empty


class ScsiModel(StrEnum):
    VIRTIO = "virtio-scsi"
    LSI_LOGIC = "lsilogic"
    LSI_SAS_1068 = "lsisas1068"
    LSI_SAS_1078 = "lsisas1078"
    VMPVSCSI = "vmpvscsi"


class UsbModel(StrEnum):
    NONE = "none"  # keeps libvirt from adding one by itself
    PIIX3_UHCI = "piix3-uhci"
    PIIX4_UHCI = "piix4-uhci"
    EHCI = "ehci"
    NEC_XHCI = "nec-xhci"
    QEMU_XHCI = "qemu-xhci"


class PciModel(StrEnum):
    PCI_ROOT = "pci-root"
    PCIE_ROOT = "pcie-root"
    PCIE_ROOT_PORT = "pcie-root-port"  # a place to plug one device in while the guest runs
    PCI_BRIDGE = "pci-bridge"
    PCIE_TO_PCI_BRIDGE = "pcie-to-pci-bridge"
    PCI_EXPANDER_BUS = "pci-expander-bus"
    PCIE_EXPANDER_BUS = "pcie-expander-bus"  # a root of its own, near one NUMA cell


@dataclass(frozen=True, kw_only=True)
class ScsiDriverConfig(Config):
    """How QEMU drives a virtio-scsi controller.

    <driver queues="4" cmd_per_lun="128" max_sectors="512" iothread="1" iommu="on"/>
    """

    queues: int | None = None
    commands_per_lun: int | None = None
    max_sectors: int | None = None
    iothread: int | None = None
    iommu: bool | None = None

    def to_element(self) -> etree._Element:
        return element(
            "driver",
            queues=self.queues,
            cmd_per_lun=self.commands_per_lun,
            max_sectors=self.max_sectors,
            iothread=self.iothread,
            iommu=on_off(self.iommu),
        )


@dataclass(frozen=True, kw_only=True)
class ScsiControllerConfig(DeviceConfig):
    """A SCSI host adapter.

        <controller type="scsi" index="0" model="virtio-scsi">
          <driver …/>
          <address …/>
        </controller>

    https://libvirt.org/formatdomain.html#controllers
    """

    index: int
    model: ScsiModel
    driver: ScsiDriverConfig | None = None
    address: PciAddressConfig | None = None

    def to_element(self) -> etree._Element:
        children = [element_of(self.driver), element_of(self.address)]
        return element("controller", children, type="scsi", index=self.index, model=self.model)


@dataclass(frozen=True, kw_only=True)
class UsbControllerConfig(DeviceConfig):
    """A USB host controller, or none.

        <controller type="usb" index="0" model="none"/>

    https://libvirt.org/formatdomain.html#controllers
    """

    index: int
    model: UsbModel
    ports: int | None = None
    address: PciAddressConfig | None = None

    def to_element(self) -> etree._Element:
        return element(
            "controller", [element_of(self.address)], type="usb", index=self.index, model=self.model, ports=self.ports
        )


@dataclass(frozen=True, kw_only=True)
class SataControllerConfig(DeviceConfig):
    """An AHCI controller.

        <controller type="sata" index="0"/>

    https://libvirt.org/formatdomain.html#controllers
    """

    index: int
    address: PciAddressConfig | None = None

    def to_element(self) -> etree._Element:
        return element("controller", [element_of(self.address)], type="sata", index=self.index)


@dataclass(frozen=True, kw_only=True)
class PciControllerConfig(DeviceConfig):
    """A PCI bus: the root, a port of it, or a bridge.

        <controller type="pci" index="1" model="pcie-root-port">
          <target chassis="1" port="0x10" hotplug="off">
            <node>0</node>
          </target>
          <address …/>
        </controller>
        <controller type="pci" index="0" model="pci-root">
          <pcihole64 unit="KiB">1048576</pcihole64>
        </controller>

    `numa_cell` is an expander bus's. https://libvirt.org/formatdomain.html#controllers
    """

    index: int
    model: PciModel
    chassis: int | None = None
    port: int | None = None
    bus_number: int | None = None
    hotplug: bool | None = None
    numa_cell: int | None = None
    hole_64_kib: int | None = None
    address: PciAddressConfig | None = None

    def to_element(self) -> etree._Element:
        target = element(
            "target",
            [text_element("node", self.numa_cell)],
            chassis=self.chassis,
            port=None if self.port is None else f"0x{self.port:x}",
            busNr=self.bus_number,
            hotplug=on_off(self.hotplug),
        )
        return element(
            "controller",
            [
                unless_empty(target),
                element_of(self.address),
                text_element("pcihole64", self.hole_64_kib, unit="KiB"),
            ],
            type="pci",
            index=self.index,
            model=self.model,
        )


@dataclass(frozen=True, kw_only=True)
class VirtioSerialControllerConfig(DeviceConfig):
    """What channels are plugged into.

        <controller type="virtio-serial" index="0" ports="16" vectors="4">
          <driver iommu="on"/>
          <address …/>
        </controller>

    https://libvirt.org/formatdomain.html#controllers
    """

    index: int
    ports: int | None = None
    vectors: int | None = None
    iommu: bool | None = None
    address: PciAddressConfig | None = None

    def to_element(self) -> etree._Element:
        return element(
            "controller",
            [unless_empty(element("driver", iommu=on_off(self.iommu))), element_of(self.address)],
            type="virtio-serial",
            index=self.index,
            ports=self.ports,
            vectors=self.vectors,
        )
