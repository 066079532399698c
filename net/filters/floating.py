"""Floating addresses: an outer IPv4 address translated, one to one, to a port's. Rules as text: pure.

    outer     map    outer address -> the port's       what comes for it, from outside, from guests or from the host
    inner     map    the port's address -> outer       what the port begins
    hairpin   set    bridge . its network              from a port to an outer address of its own network

Networks with translated addresses have a gateway on this host and so can't overlap: an address tells the port. By what link it
came can't be asked: a packet that is translated back to its own bridge stays on it, by br_netfilter's doing, and then the hook
after routing is told of no link. For the same reason a guest does not reach *itself* by its floating address: a bridge sends
nothing back to the port that it came from.

Source addresses come before the network's masquerade, so a port with a floating address leaves by that one. By a hairpin a guest
without one is seen as the gateway: were it seen as itself, the answer would take the short way and be a stranger's. Only what
is routed is translated, never what passes from port to port of a bridge (net/filters/states.py). A connection keeps the
translation that it began with (nf_nat: the first packet decides), so those that stand when an address goes are forgotten
(net/filters/connections.py).
"""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from net.filters.chains import Chain, Entries, Listing, Unwanted, Wanted
from net.filters.port_rules import Segment, on_segment
from net.filters.states import INET_TABLE, IS_NOT_BRIDGED, STATES, zone_for
from net.plan import bridge_mac_for, bridge_name_for
from taskvisor.model.ids import PortId
from taskvisor.model.network import Member, NetworkKind, Surroundings
from taskvisor.model.plan import VifPlan

KINDS = (NetworkKind.NAT, NetworkKind.ROUTED)
OUTER = Entries(table=INET_TABLE, name="outer", declared="map {} {{ type ipv4_addr : ipv4_addr; }}")
INNER = Entries(table=INET_TABLE, name="inner", declared="map {} {{ type ipv4_addr : ipv4_addr; }}")
HAIRPIN = Entries(table=INET_TABLE, name="hairpin", declared="set {} {{ typeof oifname . ip saddr; flags interval; }}")
_TO_PORT = f"{IS_NOT_BRIDGED} dnat ip to ip daddr map @outer"
TRANSLATION = Wanted(
    chains=(
        Chain(
            table=INET_TABLE,
            name="floating_prerouting",
            hook="type nat hook prerouting priority dstnat; policy accept",
            rules=(_TO_PORT,),
        ),
        Chain(
            table=INET_TABLE,
            name="floating_output",
            hook="type nat hook output priority -100; policy accept",  # nft has no word for it at this hook
            rules=(_TO_PORT,),
        ),
        Chain(
            table=INET_TABLE,
            name="floating_postrouting",
            hook="type nat hook postrouting priority 99; policy accept",  # before masquerade, at srcnat (100)
            rules=(
                f"{IS_NOT_BRIDGED} snat ip to ip saddr map @inner",
                f"{IS_NOT_BRIDGED} ct status dnat oifname . ip saddr @hairpin masquerade",
            ),
        ),
    ),
    entries=(OUTER, INNER, HAIRPIN),
)


def floating_wanted_for(around: Surroundings, here: frozenset[PortId]) -> Wanted:
    """The translation of the network's floating addresses whose ports are here; nothing for kinds that have no such."""
    pairs = _pairs_of(around, here)
    if not pairs:
        return Wanted()
    outer = replace(OUTER, elements={address: inner for inner, address in pairs.items()})
    wanted = Wanted(chains=TRANSLATION.chains, entries=(outer, replace(INNER, elements=pairs), HAIRPIN))
    if around.network.kind is NetworkKind.ROUTED:
        return STATES + wanted
    bridge, mac = bridge_name_for(around.network.id), bridge_mac_for(around.network.id)
    segment = Segment(bridge=bridge, mac=mac, zone=zone_for(around.network.id))
    hairpin = replace(HAIRPIN, elements={f"{bridge} . {IPv4Network(around.network.cidr)}": ""})
    return on_segment(segment) + wanted + Wanted(entries=(hairpin,))


def floating_unwanted_for(around: Surroundings, here: frozenset[PortId], listing: Listing) -> Unwanted:
    """What is translated to addresses of the network, and is not to be so any more."""
    if around.network.kind not in KINDS:
        return Unwanted()
    wanted = _pairs_of(around, here)
    stale = {key for key, outer in _inner_in(listing, around.network.cidr).items() if wanted.get(key) != outer}
    # A key that is wanted with another address is replaced, as an address is that is wanted for another port.
    gone = _outer_of(stale, listing) - {(*OUTER.key, address) for address in wanted.values()}
    return Unwanted(keys=frozenset({(*INNER.key, key) for key in stale if key not in wanted} | gone))


def floating_of_port_in(vif: VifPlan, listing: Listing) -> Unwanted:
    """All that is translated to the NIC."""
    if vif.kind not in KINDS:
        return Unwanted()
    return Unwanted(keys=frozenset({(*INNER.key, vif.address)} | _outer_of({vif.address}, listing)))


def hairpin_of_bridge_in(bridge: str, listing: Listing) -> Unwanted:
    """What is known of the bridge's network, which has no port any more."""
    keys = listing.entries.get(HAIRPIN.key, {})
    return Unwanted(keys=frozenset((*HAIRPIN.key, key) for key in keys if key.split(" . ")[0] == bridge))


def outer_in(listing: Listing) -> frozenset[str]:
    """The outer addresses that are translated on this host."""
    return frozenset(listing.entries.get(OUTER.key, {}))


def _pairs_of(around: Surroundings, here: frozenset[PortId]) -> dict[str, str]:
    """The inner address to the outer one, of the ports that are here."""
    if around.network.kind not in KINDS:
        return {}
    members = {member.port_id: member for member in around.members if member.port_id in here}
    bound = [(members.get(floating.port_id), floating.address) for floating in around.floating if floating.port_id]
    return {_inner_of(member): address for member, address in bound if member is not None}


def _inner_of(member: Member) -> str:
    return next(address for address in member.addresses if ":" not in address)


def _inner_in(listing: Listing, cidr: str) -> dict[str, str]:
    network = IPv4Network(cidr)
    return {key: outer for key, outer in listing.entries.get(INNER.key, {}).items() if IPv4Address(key) in network}


def _outer_of(inner: set[str], listing: Listing) -> set[tuple[str, str, str]]:
    """The outer addresses that lead to these."""
    outer = listing.entries.get(OUTER.key, {})
    return {(*OUTER.key, address) for address, port in outer.items() if port in inner}
