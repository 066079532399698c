"""What a host must know of the guests of other hosts to reach them by a tunnel: pure functions of the surroundings.

For each port elsewhere: its MAC is behind that host's end of the tunnel, and, for the bridge, behind the tunnel. For each host
with ports: frames to everybody go there too. For each port, here or elsewhere: the bridge knows the MAC of its addresses. With
that the bridge answers ARP for guests elsewhere itself (`neigh_suppress`), and the gateway, which is on every host, never asks
by the tunnel who has an address: the answer would go to the other host's gateway. Source: RFC 7348 §4, RFC 7432 §10, and the
kernel's net/bridge/br_arp_nd_proxy.c.
"""

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from net.links.link import Link
from net.links.neighbours import ANY_MAC, Neighbour, Table
from taskvisor.model.network import Surroundings


def entries_for(around: Surroundings, *, tunnel: Link, bridge: Link, families: frozenset[int]) -> frozenset[Neighbour]:
    """The entries that this host is to have, and no others. `families`: the IP versions that the bridge can hold entries of.

    A member whose host has no tunnel address can't be reached and has no entry; one whose host has ours is here.
    """
    return frozenset((*_tunnel_entries(around, tunnel), *_address_entries(around, bridge, families)))


def changes_for(
    present: Iterable[Neighbour], wanted: Iterable[Neighbour]
) -> tuple[tuple[Neighbour, ...], tuple[Neighbour, ...]]:
    """What is to be removed and what to be added. What is replaced by an addition is not removed: the two would race."""
    here, there = frozenset(present), frozenset(wanted)
    kept = {entry.key for entry in there}
    removed = (entry for entry in here - there if entry.key not in kept)
    return tuple(sorted(removed, key=_order)), tuple(sorted(there - here, key=_order))


def _tunnel_entries(around: Surroundings, tunnel: Link) -> Iterator[Neighbour]:
    for member in around.members:
        end = around.tunnels.get(member.host)
        if end is None or end == tunnel.tunnel_address or (":" in end) != (":" in (tunnel.tunnel_address or "")):
            continue
        mac = member.mac.lower()
        yield Neighbour(table=Table.TUNNEL, index=tunnel.index, mac=ANY_MAC, destination=end)
        yield Neighbour(table=Table.TUNNEL, index=tunnel.index, mac=mac, destination=end)
        yield Neighbour(table=Table.BRIDGE, index=tunnel.index, mac=mac)


def _address_entries(around: Surroundings, bridge: Link, families: frozenset[int]) -> Iterator[Neighbour]:
    for member in around.members:
        for address in member.addresses:
            if ip_address(address).version in families:
                yield Neighbour(
                    table=Table.ADDRESS,
                    index=bridge.index,
                    mac=member.mac.lower(),
                    destination=str(ip_address(address)),
                )


def _order(entry: Neighbour) -> tuple[str, str, str]:
    return (entry.table, entry.mac, entry.destination)
