"""What a NIC's links are called and who owns them: pure functions of port and network. Touches nothing, asks nothing.

Names are Nova's and Neutron's: a prefix and the first eleven characters of the id, 14 of the 15 bytes that a link's
name may have (IFNAMSIZ is 16 with its terminating zero). Eleven characters can collide, so a name proves nothing:
whatever we make bears its owner's full ids in its alias (`ip link set … alias`, at most 255 bytes).
"""

import hashlib
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface

from net.bandwidth import require_sane
from net.kinds import GATEWAY_KINDS, require_usable
from net.plan6 import gateway6_for, require_usable6
from net.services.site import SERVED_KINDS
from taskvisor.model.errors import Refused
from taskvisor.model.ids import InstanceId, NetworkId, PortId
from taskvisor.model.network import NO_LINKS, HostLinks, Network, NetworkKind, Port
from taskvisor.model.plan import VifPlan

TAP_PREFIX = "tap"
BRIDGE_PREFIX = "brq"
ID_CHARS = 11
OWNER_WORD = "taskvisor"
FILTERED_KINDS = frozenset(NetworkKind) - {NetworkKind.OVS, NetworkKind.MACVTAP}
"""Where a port's frames pass the kernel's bridge or its own routing. Those of a macvtap pass neither, and Open vSwitch's datapath
takes a TAP's frames before any bridge sees them."""
HOSTNAME_RULE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII | re.IGNORECASE)
"""One label of a DNS name (RFC 1123 §2.1)."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The guest and the port that a link of ours belongs to."""

    instance_id: InstanceId
    port_id: PortId


@dataclass(frozen=True, kw_only=True)
class BridgePlan:
    """A bridge to make. `gateway` is the address it holds; None for a segment whose gateway is elsewhere."""

    name: str
    owner: str
    mac: str
    mtu: int
    gateway: IPv4Interface | None
    gateway6: IPv6Interface | None = None


def vif_plan_for(
    port: Port, network: Network, *, hostname: str, links: HostLinks = NO_LINKS, queues: int | None = None
) -> VifPlan:
    """The links and the DHCP entry of a port, on the host that is connected by `links`.

    `queues`: of the NIC, where the guest's own options have a word in it; None: what the port says. Refused when the network's
    CIDR, what its kind needs, the port's address or limits, or the hostname (one DNS label, RFC 1123) is unusable. What only
    this host lacks is for the fabric to say.
    """
    if port.network_id != network.id:
        raise ValueError(f"port {port.id} is on network {port.network_id}, not on {network.id}")
    require_usable(network)
    cidr = _network_of(network)
    _require_address(port.address, cidr, f"the address of port {port.id}")
    _require_address(network.gateway, cidr, f"the gateway of network {network.name}")
    require_usable6(port, network)
    if HOSTNAME_RULE.fullmatch(hostname) is None:
        raise Refused(f"{hostname!r} can't be a guest's hostname; use up to 63 letters, digits and inner hyphens")
    if port.security_groups and port.anti_spoofing:
        require_filterable(network, f"port {port.id}")
    require_sane(port.qos, network.kind, f"the limits of port {port.id}")
    return VifPlan(
        port_id=port.id,
        instance_id=port.instance_id,
        network_id=network.id,
        tap=tap_name_for(port.id),
        bridge=_bridge_of(network),
        mac=port.mac,
        address=port.address,
        prefix_length=cidr.prefixlen,
        gateway=network.gateway,
        mtu=network.mtu,
        owner=owner_for(port.instance_id, port.id),
        cidr=str(cidr),
        nat=network.nat,
        dhcp=network.dhcp and network.kind in SERVED_KINDS,  # elsewhere guests are told all by their seed
        dns=network.dns,
        hostname=hostname,
        queues=queues or port.queues or 1,
        kind=network.kind,
        segment=network.segment,
        uplink=links.uplinks.get(network.physical or ""),
        tunnel_address=links.tunnel_address,
        address6=port.address6,
        cidr6=network.cidr6,
        gateway6=network.gateway6,
        ipv6_mode=network.ipv6_mode,
        routes=network.routes,
        ntp=network.ntp,
        anti_spoofing=port.anti_spoofing,
        allowed_pairs=port.allowed_pairs,
        security_groups=port.security_groups,
        qos=port.qos,
    )


def bridge_plan_for(vif: VifPlan) -> BridgePlan:
    """The bridge of ours that a NIC is on. It holds the network's gateway address where this host is the gateway."""
    holds_gateway = vif.kind in GATEWAY_KINDS
    return BridgePlan(
        name=vif.bridge,
        owner=network_owner_for(vif.network_id),
        mac=bridge_mac_for(vif.network_id),
        mtu=vif.mtu,
        gateway=IPv4Interface(f"{vif.gateway}/{vif.prefix_length}") if holds_gateway else None,
        gateway6=gateway6_for(vif),
    )


def tap_name_for(port_id: PortId) -> str:
    """The name of a port's TAP on its host."""
    return TAP_PREFIX + port_id[:ID_CHARS]


def bridge_name_for(network_id: NetworkId) -> str:
    """The name of a network's bridge on every host."""
    return BRIDGE_PREFIX + network_id[:ID_CHARS]


def bridge_mac_for(network_id: NetworkId) -> str:
    """The bridge's MAC: unicast, locally administered, the same on every host.

    Without one, a bridge takes the lowest MAC of its ports, and changes it as guests come and go. It is also set in
    the very message that makes the bridge, so it proves who made one that has no alias yet.
    """
    return marking_mac_for("bridge", network_id)


def joint_mac_for(network_id: NetworkId) -> str:
    """The MAC of the tunnel or the VLAN link of a network. No frame bears it; like the bridge's it proves who made one."""
    return marking_mac_for("joint", network_id)


def marking_mac_for(what: str, owner_id: str) -> str:
    """The MAC of a link of ours: unicast, locally administered, and proof of whose it is before it has an alias."""
    digest = hashlib.sha256(f"{OWNER_WORD}:{what}:{owner_id}".encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0x02, *digest[:5]))


def owner_for(instance_id: InstanceId, port_id: PortId) -> str:
    """The alias of a port's TAP."""
    return f"{OWNER_WORD}:{instance_id}:{port_id}"


def network_owner_for(network_id: NetworkId) -> str:
    """The alias of a network's bridge."""
    return f"{OWNER_WORD}:network:{network_id}"


def parse_owner(alias: str | None) -> Owner | None:
    """Whose TAP it is; None when the alias isn't one that `owner_for` makes."""
    match (alias or "").split(":"):
        case ["taskvisor", instance_id, port_id] if instance_id not in ("", "network") and port_id:
            return Owner(instance_id=InstanceId(instance_id), port_id=PortId(port_id))
        case _:
            return None


def _bridge_of(network: Network) -> str:
    operators = network.kind in (NetworkKind.EXISTING, NetworkKind.OVS)
    return network.bridge or "" if operators else bridge_name_for(network.id)


def _network_of(network: Network) -> IPv4Network:
    try:
        return IPv4Network(network.cidr)
    except ValueError as error:
        raise Refused(
            f"network {network.name} can't be plugged: {error}; its cidr must read like 10.0.0.0/24"
        ) from error


def require_filterable(network: Network, what: str) -> None:
    """Refused when the network is of a kind whose frames no filter of a host sees; `what` says who is in security groups."""
    if network.kind not in FILTERED_KINDS:
        kinds = ", ".join(sorted(FILTERED_KINDS))
        raise Refused(
            f"{what} can't be in security groups: network {network.name} is of kind {network.kind}, whose frames "
            f"no filter of this host sees; take it out of them, or use a network of kind {kinds}"
        )


def _require_address(address: str, cidr: IPv4Network, what: str) -> None:
    try:
        parsed = IPv4Address(address)
    except ValueError as error:
        raise Refused(f"{what} can't be used: {error}") from error
    if parsed not in cidr:
        raise Refused(f"{what} can't be used: {address} is not in {cidr}")
