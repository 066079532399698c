"""NICs of the guest. What each is plugged into: `virt.domain.connection`."""

from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from virt.domain.address import PciAddressConfig
from virt.domain.config import Config, DeviceConfig, element, element_of, on_off, unless_empty, yes_no
from virt.domain.connection import Connection


class InterfaceModel(StrEnum):
    """The card that the guest sees."""

    VIRTIO = "virtio"
    E1000 = "e1000"
    E1000E = "e1000e"
    RTL8139 = "rtl8139"
    NE2K_PCI = "ne2k_pci"
    PCNET = "pcnet"
    VMXNET3 = "vmxnet3"


class InterfaceBackend(StrEnum):
    """What moves the packets of a virtio card."""

    QEMU = "qemu"
    VHOST = "vhost"  # the host's kernel


class LinkState(StrEnum):
    """Whether the guest sees a cable."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, kw_only=True)
class InterfaceDriverConfig(Config):
    """How QEMU drives a virtio card.

        <driver name="vhost" queues="4" rx_queue_size="1024" tx_queue_size="1024" iommu="on" packed="on"/>

    https://libvirt.org/formatdomain.html#setting-nic-driver-specific-options
    """

    name: InterfaceBackend | None = None
    queues: int | None = None
    rx_queue_size: int | None = None
    tx_queue_size: int | None = None
    iommu: bool | None = None
    packed: bool | None = None

    def to_element(self) -> etree._Element:
        return element(
            "driver",
            name=self.name,
            queues=self.queues,
            rx_queue_size=self.rx_queue_size,
            tx_queue_size=self.tx_queue_size,
            iommu=on_off(self.iommu),
            packed=on_off(self.packed),
        )


@dataclass(frozen=True, kw_only=True)
class RateLimitConfig:
    """How much passes in one direction: on average, at the peak, and in one burst at peak speed."""

    average_kib_s: int
    peak_kib_s: int | None = None
    burst_kib: int | None = None


@dataclass(frozen=True, kw_only=True)
class BandwidthConfig(Config):
    """How much passes, as the guest sees the directions.

        <bandwidth>
          <inbound average="1000" peak="5000" burst="5120"/>
          <outbound average="128"/>
        </bandwidth>

    https://libvirt.org/formatdomain.html#quality-of-service
    """

    inbound: RateLimitConfig | None = None
    outbound: RateLimitConfig | None = None

    def to_element(self) -> etree._Element:
        return element("bandwidth", [_rate("inbound", self.inbound), _rate("outbound", self.outbound)])


@dataclass(frozen=True, kw_only=True)
class OpenVswitchPortConfig(Config):
    """The port of an Open vSwitch bridge.

        <virtualport type="openvswitch">
          <parameters interfaceid="16cd9b2c-…" profileid="…"/>
        </virtualport>

    https://libvirt.org/formatdomain.html#bridge-to-lan
    """

    interface_id: str
    profile_id: str | None = None

    def to_element(self) -> etree._Element:
        parameters = element("parameters", interfaceid=self.interface_id, profileid=self.profile_id)
        return element("virtualport", [parameters], type="openvswitch")


@dataclass(frozen=True, kw_only=True)
class InterfaceConfig(DeviceConfig):
    """A NIC.

        <interface type="bridge">
          <mac address="52:54:00:aa:bb:cc"/>
          <source bridge="brq6ba7b810-9d"/>
          <vlan>
            <tag id="42"/>
          </vlan>
          <virtualport/>
          <bandwidth/>
          <target dev="tap16cd9b2c-ad"/>
          <model type="virtio"/>
          <driver/>
          <link state="up"/>
          <mtu size="1450"/>
          <boot order="2"/>
          <alias name="ua-…"/>
          <address …/>
        </interface>

    https://libvirt.org/formatdomain.html#network-interfaces
    """

    connection: Connection
    mac: str
    model: InterfaceModel | None = None
    driver: InterfaceDriverConfig | None = None
    mtu: int | None = None
    vlan_tags: tuple[int, ...] = ()
    virtual_port: OpenVswitchPortConfig | None = None
    bandwidth: BandwidthConfig | None = None
    link: LinkState | None = None
    trust_guest_rx_filters: bool | None = None
    boot_order: int | None = None
    alias: str | None = None
    address: PciAddressConfig | None = None

    def to_element(self) -> etree._Element:
        return element(
            "interface",
            [
                element("mac", address=self.mac),
                self.connection.source(),
                unless_empty(element("vlan", [element("tag", id=tag) for tag in self.vlan_tags])),
                element_of(self.virtual_port),
                element_of(self.bandwidth),
                self.connection.target(),
                unless_empty(element("model", type=self.model)),
                element_of(self.driver),
                unless_empty(element("link", state=self.link)),
                unless_empty(element("mtu", size=self.mtu)),
                unless_empty(element("boot", order=self.boot_order)),
                unless_empty(element("alias", name=self.alias)),
                element_of(self.address),
            ],
            type=self.connection.interface_type,
            managed=yes_no(self.connection.managed),
            trustGuestRxFilters=yes_no(self.trust_guest_rx_filters),
        )


def _rate(tag: str, rate: RateLimitConfig | None) -> etree._Element | None:
    if rate is None:
        return None
    return element(tag, average=rate.average_kib_s, peak=rate.peak_kib_s, burst=rate.burst_kib)
