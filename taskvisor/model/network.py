"""Networks, the ports on them, and who may talk to whom: what is recorded, and what a host must know of it. Touches nothing.

IPv4 and IPv6 addresses and networks are text in their canonical form (RFC 5952 for IPv6), as `ipaddress` writes them; MACs are
lower case with colons.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from taskvisor.model.ids import FloatingId, HostName, InstanceId, NetworkId, PortId, SecurityGroupId


class NetworkKind(StrEnum):
    """How a network's segment is made on each host, and what joins it to others."""

    NAT = "nat"  # a bridge local to each host; addresses translated on the way out
    FLAT = "flat"  # a bridge onto a physical interface
    VLAN = "vlan"  # a bridge onto one VLAN of a physical interface (IEEE 802.1Q)
    VXLAN = "vxlan"  # a bridge, and a tunnel to every host that has ports of it (RFC 7348)
    ROUTED = "routed"  # no shared segment: a route to each TAP
    OVS = "ovs"  # a port of an Open vSwitch bridge that is there
    MACVTAP = "macvtap"  # straight onto a physical interface, past the host
    EXISTING = "existing"  # a port of a Linux bridge that the operator made


PHYSICAL_KINDS = frozenset({NetworkKind.FLAT, NetworkKind.VLAN, NetworkKind.MACVTAP})
"""Those that stand on an interface of the host."""


SEED_ONLY_KINDS = frozenset({NetworkKind.OVS, NetworkKind.MACVTAP})
"""Whose guests no host serves, `dhcp` or not: they are told all by their seed."""


class Ipv6Mode(StrEnum):
    """How guests come by their IPv6 address: RFC 4862 from advertisements, or RFC 8415 from DHCPv6."""

    SLAAC = "slaac"
    DHCPV6 = "dhcpv6"


@dataclass(frozen=True, kw_only=True)
class Route:
    """A route that guests are told of: `destination` is a network, `via` an address of the subnet."""

    destination: str
    via: str


@dataclass(frozen=True, kw_only=True)
class Network:
    """A segment that ports are on. `cidr` is IPv4. `gateway` is held by each host's bridge where the kind has one of ours
    (`nat`, `vxlan`, `routed`), else by somebody's router; likewise `gateway6`.

    `segment`: the VLAN (1 to 4094) of `vlan` and `ovs` (None: untagged), the VNI (1 to 16777215) of `vxlan`. `physical` names
    the physical network of `flat`, `vlan` and `macvtap`: each host says which interface it has there. `bridge`: of `existing` and
    `ovs`.
    """

    id: NetworkId
    name: str
    kind: NetworkKind
    cidr: str
    gateway: str
    dns: tuple[str, ...] = ()
    mtu: int = 1500
    dhcp: bool = True
    nat: bool = True
    cidr6: str | None = None
    gateway6: str | None = None
    ipv6_mode: Ipv6Mode = Ipv6Mode.SLAAC
    segment: int | None = None
    physical: str | None = None
    bridge: str | None = None
    routes: tuple[Route, ...] = ()
    ntp: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HostLinks:
    """What a host is connected to: its interface on each physical network, by that network's name, and its end of tunnels."""

    uplinks: Mapping[str, str] = field(default_factory=dict)
    tunnel_address: str | None = None


NO_LINKS = HostLinks()


@dataclass(frozen=True, kw_only=True)
class AddressPair:
    """Another sender that a port may speak as: an address or a network (v4 or v6), by the port's own MAC or another."""

    address: str
    mac: str | None = None


@dataclass(frozen=True, kw_only=True)
class Bandwidth:
    """A limit of one direction, in libvirt's units (https://libvirt.org/formatnetwork.html#quality-of-service).

    `peak_kib_s` is for at most `burst_kib` at a time; None: there is no peak beyond the average.
    """

    average_kib_s: int
    peak_kib_s: int | None = None
    burst_kib: int | None = None


@dataclass(frozen=True, kw_only=True)
class Qos:
    """As the guest sees it: `inbound` is what it receives, `outbound` what it sends. None: no limit."""

    inbound: Bandwidth | None = None
    outbound: Bandwidth | None = None


@dataclass(frozen=True, kw_only=True)
class Port:
    """One NIC's place on a network. `index` is the NIC's number in the guest, from 0. `address6` None: it has none.

    `security_groups` are ids; a port without any lets everything out and nothing in but answers. `anti_spoofing` False: it may
    speak as anybody, and no group filters it. `queues` 0: by the guest's CPUs.
    """

    id: PortId
    instance_id: InstanceId
    network_id: NetworkId
    network: str
    index: int
    mac: str
    address: str
    address6: str | None = None
    security_groups: tuple[SecurityGroupId, ...] = ()
    allowed_pairs: tuple[AddressPair, ...] = ()
    anti_spoofing: bool = True
    qos: Qos | None = None
    queues: int = 1

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its own addresses, IPv4 first."""
        return (self.address,) if self.address6 is None else (self.address, self.address6)


class Direction(StrEnum):
    """As the guest sees it."""

    INGRESS = "ingress"
    EGRESS = "egress"


class IpFamily(StrEnum):
    V4 = "ipv4"
    V6 = "ipv6"


@dataclass(frozen=True, kw_only=True)
class SecurityRule:
    """Lets something pass; what no rule lets pass is dropped. Answers pass by themselves.

    `protocol`: tcp, udp, sctp, icmp (ICMPv6 where the family is that), or an IP protocol's number as text; None: any. Ports are
    of tcp, udp and sctp; for icmp `first_port` is the type and `last_port` the code; None: any. `remote` is a network;
    `remote_group` stands for the addresses of all ports in that group; with neither it is anybody.
    """

    direction: Direction
    family: IpFamily
    protocol: str | None = None
    first_port: int | None = None
    last_port: int | None = None
    remote: str | None = None
    remote_group: SecurityGroupId | None = None


@dataclass(frozen=True, kw_only=True)
class SecurityGroup:
    """A set of rules under a name. A port has what the rules of all of its groups let pass."""

    id: SecurityGroupId
    name: str
    rules: tuple[SecurityRule, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FloatingAddress:
    """An outer IPv4 address that is translated, one to one, to a port's; None: to none just now."""

    id: FloatingId
    address: str
    port_id: PortId | None = None


@dataclass(frozen=True, kw_only=True)
class Member:
    """A port as others of its network, or of its groups, must know it. `host`: where its guest is."""

    port_id: PortId
    host: HostName
    mac: str
    addresses: tuple[str, ...]
    security_groups: tuple[SecurityGroupId, ...] = ()


def member_for(port: Port, host: HostName) -> Member:
    """The port as others must know it, whose guest is on that host."""
    return Member(
        port_id=port.id,
        host=host,
        mac=port.mac,
        addresses=port.addresses,
        security_groups=port.security_groups,
    )


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """All that a host must know of a network beyond its own ports, at one moment.

    `members`: every port on the network, of all hosts. `tunnels`: the tunnel address of each host that has one. `groups`: those
    that ports of the network are in. `group_addresses`: for each group that a rule of those names as remote, the addresses of
    the ports in it, whatever network they are on. `floating`: those that are bound to ports of the network.
    """

    network: Network
    members: tuple[Member, ...] = ()
    tunnels: Mapping[HostName, str] = field(default_factory=dict)
    groups: tuple[SecurityGroup, ...] = ()
    group_addresses: Mapping[SecurityGroupId, tuple[str, ...]] = field(default_factory=dict)
    floating: tuple[FloatingAddress, ...] = ()
