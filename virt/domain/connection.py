"""What a NIC is plugged into on the host."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from virt.domain.address import PciAddressConfig
from virt.domain.config import element, unless_empty, yes_no


class InterfaceType(StrEnum):
    """libvirt's `type` of an interface."""

    ETHERNET = "ethernet"
    BRIDGE = "bridge"
    DIRECT = "direct"
    HOSTDEV = "hostdev"
    VHOSTUSER = "vhostuser"


class MacvtapMode(StrEnum):
    """Where frames between two guests on one device of the host go."""

    VEPA = "vepa"  # out to the switch, which sends them back
    BRIDGE = "bridge"  # straight to the other guest
    PRIVATE = "private"  # nowhere
    PASSTHROUGH = "passthrough"  # the device is this guest's alone


class SocketMode(StrEnum):
    """Which end of a socket QEMU is."""

    CLIENT = "client"
    SERVER = "server"


class Connection(ABC):
    """The interface's type, its `<source>` and its `<target>`, which go together."""

    @property
    @abstractmethod
    def interface_type(self) -> InterfaceType: ...

    @property
    def managed(self) -> bool | None:
        """Whether libvirt takes a device of the host from its driver and gives it back. None where there is none."""
        return None

    def source(self) -> etree._Element | None:
        """`<source …/>`; None for a connection without one."""
        return None

    def target(self) -> etree._Element | None:
        """`<target …/>`; None where libvirt names the host's end."""
        return None


@dataclass(frozen=True, kw_only=True)
class TapConnection(Connection):
    """A TAP that is there already: libvirt opens it, and neither makes, changes nor removes it.

        <interface type="ethernet">
          <target dev="tap16cd9b2c-ad" managed="no"/>

    https://libvirt.org/formatdomain.html#generic-ethernet-connection (`managed` since 5.7.0)
    """

    tap: str

    @property
    def interface_type(self) -> InterfaceType:
        return InterfaceType.ETHERNET

    def target(self) -> etree._Element:
        return element("target", dev=self.tap, managed="no")


@dataclass(frozen=True, kw_only=True)
class BridgeConnection(Connection):
    """A TAP that libvirt makes and puts into a bridge.

        <interface type="bridge">
          <source bridge="brq6ba7b810-9d"/>
          <target dev="tap16cd9b2c-ad"/>

    https://libvirt.org/formatdomain.html#bridge-to-lan
    """

    bridge: str
    tap: str | None = None

    @property
    def interface_type(self) -> InterfaceType:
        return InterfaceType.BRIDGE

    def source(self) -> etree._Element:
        return element("source", bridge=self.bridge)

    def target(self) -> etree._Element | None:
        return unless_empty(element("target", dev=self.tap))


@dataclass(frozen=True, kw_only=True)
class MacvtapConnection(Connection):
    """A macvtap on a device of the host.

        <interface type="direct">
          <source dev="eth0" mode="passthrough"/>

    https://libvirt.org/formatdomain.html#direct-attachment-to-physical-interface
    """

    device: str
    mode: MacvtapMode

    @property
    def interface_type(self) -> InterfaceType:
        return InterfaceType.DIRECT

    def source(self) -> etree._Element:
        return element("source", dev=self.device, mode=self.mode)


@dataclass(frozen=True, kw_only=True)
class HostdevConnection(Connection):
    """A virtual function of the host's NIC, given to the guest.

        <interface type="hostdev" managed="yes">
          <source>
            <address type="pci" domain="0x0000" bus="0x3b" slot="0x02" function="0x1"/>
          </source>

    https://libvirt.org/formatdomain.html#pci-passthrough
    """

    address: PciAddressConfig
    is_managed: bool

    @property
    def interface_type(self) -> InterfaceType:
        return InterfaceType.HOSTDEV

    @property
    def managed(self) -> bool | None:
        return self.is_managed or None  # libvirt says by silence that it is not

    def source(self) -> etree._Element:
        return element("source", [self.address.to_element()])


@dataclass(frozen=True, kw_only=True)
class VhostUserConnection(Connection):
    """A switch in user space that maps the guest's memory, which must be shared (`MemoryBackingConfig.access`).

        <interface type="vhostuser">
          <source type="unix" path="/run/openvswitch/vhu16cd9b2c-ad" mode="server">
            <reconnect enabled="yes" timeout="10"/>
          </source>

    https://libvirt.org/formatdomain.html#vhost-user-interface
    """

    path: str
    mode: SocketMode
    reconnect: bool | None = None
    reconnect_time_limit_s: int | None = None

    @property
    def interface_type(self) -> InterfaceType:
        return InterfaceType.VHOSTUSER

    def source(self) -> etree._Element:
        reconnect = element("reconnect", enabled=yes_no(self.reconnect), timeout=self.reconnect_time_limit_s)
        return element("source", [unless_empty(reconnect)], type="unix", path=self.path, mode=self.mode)
