"""Which networks can't be side by side on one host. Pure.

The rule is what one host could not have twice. Any host may have ports of any network, so two networks clash when

- our bridge holds an address of both (`nat`, `vxlan`, `routed`: the gateway's, on every host that has ports), and their
  subnets have addresses in common: the host would not know which is meant;
- both want the same VLAN of a physical network, or the same VNI: they would be one segment;
- both want a physical interface whole: a `flat` network's bridge takes it, so neither another bridge nor a macvtap can.

`flat`, `vlan`, `ovs`, `macvtap` and `existing` leave addresses to somebody's router, so the same subnet may be there many times.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address

from taskvisor.model.network import Network, NetworkKind
from taskvisor.model.subnets import overlap_of, subnets_of

HOLDING_GATEWAYS = frozenset({NetworkKind.NAT, NetworkKind.VXLAN, NetworkKind.ROUTED})
"""Kinds of which each host's bridge has the gateway's address."""
TAKING_UPLINKS = frozenset({NetworkKind.FLAT, NetworkKind.MACVTAP})
"""Kinds that are on a physical interface itself; of these only macvtaps bear each other."""

FLOATING_KINDS = frozenset({NetworkKind.NAT, NetworkKind.ROUTED})
"""Kinds whose ports may have a floating address: the host of the port is its way out."""


def clash_of(asked: Network, there: Iterable[Network]) -> str | None:
    """Why the network can't be beside those that are there: field, value, and whose it is. None when it can."""
    for other in there:
        found = _segment_clash(asked, other) or _uplink_clash(asked, other) or _address_clash(asked, other)
        if found is not None:
            return found
    return None


def holder_of(address: str, there: Iterable[Network]) -> Network | None:
    """The network in whose subnet the address is, of those whose gateway our bridges hold."""
    outer = IPv4Address(address)
    holding = (network for network in there if network.kind in HOLDING_GATEWAYS)
    return next((network for network in holding if outer in subnets_of(network)[0]), None)


def _segment_clash(asked: Network, other: Network) -> str | None:
    if asked.kind is not other.kind or asked.segment is None or asked.segment != other.segment:
        return None
    if asked.kind is NetworkKind.VXLAN:
        return f"segment: VNI {asked.segment} is that of network {other.name!r}; choose another"
    if asked.kind is NetworkKind.VLAN and asked.physical == other.physical:
        return f"segment: VLAN {asked.segment} of {asked.physical} is that of network {other.name!r}; choose another"
    return None


def _uplink_clash(asked: Network, other: Network) -> str | None:
    if asked.physical != other.physical or not {asked.kind, other.kind} <= TAKING_UPLINKS:
        return None
    if NetworkKind.FLAT not in (asked.kind, other.kind):
        return None
    return f"physical: {asked.physical!r} is taken whole by {other.kind.value} network {other.name!r}; use a VLAN of it"


def _address_clash(asked: Network, other: Network) -> str | None:
    if not {asked.kind, other.kind} <= HOLDING_GATEWAYS:
        return None
    common = overlap_of(asked, other)
    if common is None:
        return None
    field = "cidr" if common[0].version == 4 else "cidr6"
    return (
        f"{field}: {common[0]} overlaps {common[1]} of network {other.name!r}, and hosts hold an address of both;"
        " choose another"
    )
