"""What callers may ask of networks, validated, and the record that a valid request stands for. As `spec`, of which it is a part.

Whether a network fits beside those that are there is not asked here (`network_clash`).
"""

import re
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, NetmaskValueError
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from taskvisor.model.ids import NetworkId
from taskvisor.model.network import Ipv6Mode, Network, NetworkKind, Route
from taskvisor.model.spec import Ipv4, Name, Spec
from taskvisor.model.subnets import SLAAC_PREFIX_BITS, Address, Subnet

VLANS, VNIS = range(1, 4095), range(1, 1 << 24)
"""IEEE 802.1Q §9.6: 0 and 4095 are reserved. RFC 7348 §5: 24 bits; 0 is nobody's."""
MTU_LEAST, MTU_LEAST6, MTU_MOST = 576, 1280, 65535
"""RFC 791 (every host takes 576 bytes), RFC 8200 §5, and what a link's MTU may be at most."""
ETHERNET_MTU, VXLAN_HEADERS_BYTES = 1500, 50
"""Outer Ethernet, IPv4, UDP and VXLAN headers (RFC 7348 §5) on an uplink of 1500."""
SEGMENTS = {NetworkKind.VLAN: ("VLAN", VLANS), NetworkKind.OVS: ("VLAN", VLANS), NetworkKind.VXLAN: ("VNI", VNIS)}
SEGMENT_NEEDED = frozenset({NetworkKind.VLAN, NetworkKind.VXLAN})
PHYSICAL_NEEDED = frozenset({NetworkKind.FLAT, NetworkKind.VLAN, NetworkKind.MACVTAP})
BRIDGE_NEEDED = frozenset({NetworkKind.EXISTING, NetworkKind.OVS})
TRANSLATED = frozenset({NetworkKind.NAT, NetworkKind.VXLAN})
"""Kinds whose traffic is translated on its way out unless asked otherwise."""
TRANSLATABLE = TRANSLATED | {NetworkKind.ROUTED}
"""Kinds whose gateway is ours, so that we can translate at all."""
PREFIX4, PREFIX6 = range(8, 31), range(48, 127)
"""A /30 has one address left for a guest, and so has a /126 with room to spare; larger subnets nobody means."""
NOT_FOR_GUESTS: tuple[tuple[Subnet, str], ...] = (
    (IPv4Network("0.0.0.0/8"), "'this network' (RFC 1122)"),
    (IPv4Network("127.0.0.0/8"), "loopback"),
    (IPv4Network("169.254.0.0/16"), "link-local"),
    (IPv4Network("224.0.0.0/4"), "multicast"),
    (IPv4Network("240.0.0.0/4"), "reserved"),
    (IPv6Network("::/8"), "unspecified, loopback and mapped addresses"),
    (IPv6Network("fe80::/10"), "link-local"),
    (IPv6Network("ff00::/8"), "multicast"),
)

T = TypeVar("T")


def _parsed(parse: Callable[[str], T], text: str, example: str) -> T:
    try:
        return parse(text)
    except (AddressValueError, NetmaskValueError) as error:
        raise ValueError(f"must be {example}") from error


def _address6(text: str) -> str:
    address = _parsed(IPv6Address, text, "an IPv6 address, like fd00:5::7")
    if address.scope_id is not None:
        raise ValueError("must be without a zone (what follows %)")
    return str(address)


def _address(text: str) -> str:
    return _address6(text) if ":" in text else str(_parsed(IPv4Address, text, "an IP address, like 10.5.0.53"))


def _subnet4(text: str) -> str:
    return str(_subnet(IPv4Network, text, "a network and its prefix, like 10.5.0.0/24", PREFIX4))


def _subnet6(text: str) -> str:
    return str(_subnet(IPv6Network, text, "an IPv6 network and its prefix, like fd00:5::/64", PREFIX6))


Kind = TypeVar("Kind", IPv4Network, IPv6Network)


def _subnet(kind: type[Kind], text: str, example: str, prefixes: range) -> Kind:
    subnet = _cidr(kind, text, example)
    if subnet.prefixlen not in prefixes:
        raise ValueError(f"its prefix must be {prefixes[0]} to {prefixes[-1]} bits, not {subnet.prefixlen}")
    for range_, what in NOT_FOR_GUESTS:
        if subnet.version == range_.version and subnet.overlaps(range_):
            raise ValueError(f"overlaps {range_}, which is {what}: guests can't have such addresses")
    return subnet


def _cidr(kind: type[Kind], text: str, example: str) -> Kind:
    """Raised are ValueErrors in words; a network with bits of a host is refused, and the one that was meant is named."""
    if "/" not in text:
        raise ValueError(f"must be {example}")
    try:
        return kind(text)
    except (AddressValueError, NetmaskValueError) as error:
        raise ValueError(f"must be {example}") from error
    except ValueError as error:
        raise ValueError(f"has bits beyond its prefix; {kind(text, strict=False)} may be meant") from error


def canonical_cidr(text: str) -> str:
    """Any network, also of one address, as `ipaddress` writes it. ValueError in words."""
    text = text if "/" in text else f"{text}/{128 if ':' in text else 32}"
    if ":" in text:
        return str(_cidr(IPv6Network, text, "a network, like fd00:5::/64"))
    return str(_cidr(IPv4Network, text, "a network, like 10.5.0.0/24"))


def _link_name(name: str) -> str:
    """What the kernel takes (dev_valid_name in net/core/dev.c)."""
    if not re.fullmatch(r"[^\s/:\x00-\x1f\x7f]+", name) or name in (".", ".."):
        raise ValueError("must be an interface's name: no blanks, slashes or colons")
    if len(name.encode()) > 15:
        raise ValueError(f"is {len(name.encode())} bytes; an interface's name has at most 15")
    return name


Ipv6 = Annotated[str, AfterValidator(_address6)]
Ip = Annotated[str, AfterValidator(_address)]
Subnet4 = Annotated[str, AfterValidator(_subnet4)]
Subnet6 = Annotated[str, AfterValidator(_subnet6)]
AnyCidr = Annotated[str, AfterValidator(canonical_cidr)]
LinkName = Annotated[str, AfterValidator(_link_name)]
Servers = Annotated[tuple[Ip, ...], Field(max_length=8, strict=False)]


class RouteSpec(Spec):
    """A route that guests are told of."""

    destination: AnyCidr
    via: Ip


class NetworkSpec(Spec):
    """What `network.create` makes. What is None follows from the rest: gateways are the first addresses of their subnets, `mtu`
    is 1500 or what a tunnel leaves of it, `nat` is yes for `nat` and `vxlan`.
    """

    name: Name
    kind: Annotated[NetworkKind, Field(strict=False)] = NetworkKind.NAT
    cidr: Subnet4
    gateway: Ipv4 | None = None
    cidr6: Subnet6 | None = None
    gateway6: Ipv6 | None = None
    ipv6_mode: Annotated[Ipv6Mode, Field(strict=False)] = Ipv6Mode.SLAAC
    segment: Annotated[int, Field(ge=1, le=VNIS[-1])] | None = None
    physical: Name | None = None
    bridge: LinkName | None = None
    mtu: Annotated[int, Field(ge=MTU_LEAST, le=MTU_MOST)] | None = None
    dhcp: bool = True
    nat: bool | None = None
    dns: Servers = ()
    ntp: Servers = ()
    routes: Annotated[tuple[RouteSpec, ...], Field(max_length=32, strict=False)] = ()

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "NetworkSpec":
        self._require_segment()
        for field, needed in (("physical", PHYSICAL_NEEDED), ("bridge", BRIDGE_NEEDED)):
            value = getattr(self, field)
            if self.kind in needed and value is None:
                raise ValueError(f"{field}: missing; a {self.kind.value} network must say which")
            if self.kind not in needed and value is not None:
                kinds = ", ".join(sorted(needed))
                raise ValueError(f"{field}: {value!r}: is for networks of kind {kinds}, not {self.kind.value}")
        if self.nat and self.kind not in TRANSLATABLE:
            raise ValueError(
                f"nat: True: the gateway of a {self.kind.value} network is not ours, so we can't translate"
            )
        return self

    def _require_segment(self) -> None:
        what, range_ = SEGMENTS.get(self.kind, ("segment", range(0)))
        if self.segment is None:
            if self.kind in SEGMENT_NEEDED:
                raise ValueError(f"segment: missing; a {self.kind.value} network must have a {what}")
        elif not range_:
            raise ValueError(f"segment: {self.segment}: a {self.kind.value} network has none; leave it out")
        elif self.segment not in range_:
            raise ValueError(f"segment: {self.segment}: a {what} is {range_[0]} to {range_[-1]}")

    @model_validator(mode="after")
    def _gateways_are_inside(self) -> "NetworkSpec":
        subnet = IPv4Network(self.cidr)
        if self.gateway is not None:
            _require_inside("gateway", IPv4Address(self.gateway), subnet)
        if self.cidr6 is None:
            if self.gateway6 is not None:
                raise ValueError(f"gateway6: {self.gateway6!r}: the network has no cidr6")
            return self
        subnet6 = IPv6Network(self.cidr6)
        if self.gateway6 is not None:
            _require_inside("gateway6", IPv6Address(self.gateway6), subnet6)
        if self.ipv6_mode is Ipv6Mode.SLAAC and subnet6.prefixlen != SLAAC_PREFIX_BITS:
            raise ValueError(
                f"cidr6: {self.cidr6!r}: must be a /64 where guests make their addresses (ipv6_mode slaac)"
            )
        if self.mtu is not None and self.mtu < MTU_LEAST6:
            raise ValueError(f"mtu: {self.mtu}: must be at least {MTU_LEAST6} with IPv6 (RFC 8200)")
        return self

    @model_validator(mode="after")
    def _servers_and_routes_are_sane(self) -> "NetworkSpec":
        for field in ("dns", "ntp"):
            _require_distinct(field, getattr(self, field))
        _require_distinct("routes: destination", tuple(route.destination for route in self.routes))
        for number, route in enumerate(self.routes):
            _require_reachable(f"routes.{number}", route, self.cidr, self.cidr6)
        return self


def _require_inside(field: str, address: Address, subnet: Subnet) -> None:
    if address.version != subnet.version or address not in subnet:
        raise ValueError(f"{field}: {str(address)!r}: must be in {subnet}")
    if address == subnet.network_address or (address.version == 4 and address == subnet.broadcast_address):
        raise ValueError(f"{field}: {str(address)!r}: is the network's own or its broadcast address")


def _require_distinct(field: str, values: tuple[str, ...]) -> None:
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"{field}: {twice!r}: is there twice")


def _require_reachable(field: str, route: RouteSpec, cidr: str, cidr6: str | None) -> None:
    if (":" in route.destination) != (":" in route.via):
        raise ValueError(f"{field}: {route.destination} via {route.via}: must both be IPv4, or both IPv6")
    if ":" in route.via and cidr6 is None:
        raise ValueError(f"{field}.via: {route.via!r}: the network has no cidr6")
    if ":" in route.via:
        _require_inside(f"{field}.via", IPv6Address(route.via), IPv6Network(cidr6 or "::/0"))
    else:
        _require_inside(f"{field}.via", IPv4Address(route.via), IPv4Network(cidr))


class NetworkRefSpec(Spec):
    """Which network: its name or its id."""

    network: Annotated[str, StringConstraints(min_length=1, max_length=63)]


def network_for(spec: NetworkSpec, network_id: NetworkId) -> Network:
    """The record that the request stands for, with all that it leaves open decided."""
    mtu = ETHERNET_MTU - (VXLAN_HEADERS_BYTES if spec.kind is NetworkKind.VXLAN else 0)
    gateway6 = spec.gateway6
    if spec.cidr6 is not None and gateway6 is None:
        gateway6 = str(IPv6Network(spec.cidr6).network_address + 1)
    return Network(
        id=network_id,
        name=spec.name,
        kind=spec.kind,
        cidr=spec.cidr,
        gateway=spec.gateway or str(IPv4Network(spec.cidr).network_address + 1),
        dns=spec.dns,
        mtu=spec.mtu or mtu,
        dhcp=spec.dhcp,
        nat=spec.kind in TRANSLATED if spec.nat is None else spec.nat,
        cidr6=spec.cidr6,
        gateway6=gateway6,
        ipv6_mode=spec.ipv6_mode,
        segment=spec.segment,
        physical=spec.physical,
        bridge=spec.bridge,
        routes=tuple(Route(destination=route.destination, via=route.via) for route in spec.routes),
        ntp=spec.ntp,
    )
