"""What each kind of network needs to be told, and what it is like on a host: pure.

Where a gateway is ours, it is on our bridge (of `vxlan` on every host alike), or, of `routed`, on each port's TAP.
"""

import hashlib

from taskvisor.model.errors import Refused
from taskvisor.model.network import PHYSICAL_KINDS, Network, NetworkKind

GATEWAY_KINDS = frozenset({NetworkKind.NAT, NetworkKind.VXLAN, NetworkKind.ROUTED})
"""Whose gateway this host is; that of the others is somebody's router."""
OWN_BRIDGE_KINDS = frozenset({NetworkKind.NAT, NetworkKind.FLAT, NetworkKind.VLAN, NetworkKind.VXLAN})
"""Whose bridge is ours."""

NAME_BYTES = 15  # IFNAMSIZ - 1
VLANS = range(1, 4095)  # IEEE 802.1Q-2018 §9.6: 0 and 4095 are reserved
VNIS = range(1, 1 << 24)  # RFC 7348 §5
VLAN_SUFFIX_BYTES = 5  # ".4094"
HASH_CHARS = 6


def require_usable(network: Network) -> None:
    """The network says all that its kind needs. Refused, naming field, value and rule, when it does not."""
    if network.kind is NetworkKind.VLAN or (network.kind is NetworkKind.OVS and network.segment is not None):
        _require_segment(network, VLANS, "a VLAN")
    if network.kind is NetworkKind.VXLAN:
        _require_segment(network, VNIS, "a VNI")
    if network.kind in PHYSICAL_KINDS and not network.physical:
        raise Refused(
            f"physical: network {network.name} of kind {network.kind} names no physical network, and needs one; name one"
            " that hosts have in TASKVISOR_PHYSICAL_NETWORKS"
        )
    if network.kind in (NetworkKind.EXISTING, NetworkKind.OVS):
        require_link_name(network.bridge or "", f"bridge: that of network {network.name}")


def require_link_name(name: str, what: str) -> None:
    """Refused when no link can have that name (the kernel's dev_valid_name)."""
    odd = name in ("", ".", "..") or any(char in "/:" or char.isspace() or not char.isprintable() for char in name)
    if odd or len(name.encode()) > NAME_BYTES:
        raise Refused(
            f"{what} is {name!r}, which no link can be called; use 1 to {NAME_BYTES} bytes without '/', ':' or blanks"
        )


def tunnel_name_for(vni: int) -> str:
    """The name of the tunnel of a VNI, on every host: Neutron's."""
    return f"vxlan-{vni}"


def vlan_name_for(uplink: str, vlan: int) -> str:
    """The name of a VLAN of an interface, by Neutron's rule (neutron.plugins.ml2.drivers.linuxbridge, get_vlan_device_name).

    An interface's name too long for the longest suffix is cut, and ends in the first six digits of its SHA-1. Which names are
    cut does not depend on the VLAN.
    """
    room = NAME_BYTES - VLAN_SUFFIX_BYTES
    if len(uplink.encode()) > room:
        digest = hashlib.sha1(uplink.encode(), usedforsecurity=False).hexdigest()
        uplink = uplink[: room - HASH_CHARS] + digest[:HASH_CHARS]
    return f"{uplink}.{vlan}"


def _require_segment(network: Network, among: range, what: str) -> None:
    if network.segment is None or network.segment not in among:
        raise Refused(
            f"segment: that of network {network.name} is {network.segment}; {what} is from {among[0]} to {among[-1]}"
        )
