"""What one port may send and receive, as chains of its own: pure. Why they are where they are: net/filters/states.py.

    from_<tap>   whom it may speak as (net/filters/anti_spoofing.py)
    out_<tap>    answers, then what its groups let it begin; a port without groups begins what it likes
    in_<tap>     answers, then what its groups let reach it; a port without groups hears answers only, and its host

Three maps, `from_port`, `out_port` and `in_port`, send a frame from the TAP's name to its chains, so the cost of a frame does
not grow with the number of ports, and a port that comes or goes touches no rule of another's. What every guest needs to find
itself (DHCP, neighbour discovery, groups of listeners, the metadata service) is no group's business and always passes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from net.filters.anti_spoofing import sender_rules_for
from net.filters.chains import Chain, Entries, Wanted
from net.filters.group_rules import BEGIN, REACH, unknown_group_for
from net.filters.host_services import METADATA_ADDRESS, REPORTS, SERVICES
from net.filters.states import BRIDGE_TABLE, GATEWAYS, INET_TABLE, IS_ANSWER, IS_NEW, STATES, ZONES, zone_for
from taskvisor.model.ids import SecurityGroupId
from taskvisor.model.network import AddressPair
from taskvisor.model.plan import VifPlan

KINDS = ("from", "out", "in")
DISCOVERY = (
    f"icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld-listener-query, {REPORTS} }}"
)
HOOKS = {
    BRIDGE_TABLE: {
        "from": "type filter hook prerouting priority -200; policy accept",
        "out": "type filter hook prerouting priority 100; policy accept",
        "in": "type filter hook postrouting priority 0; policy accept",
        "control": "type filter hook input priority -200; policy accept",
    },
    INET_TABLE: {
        "from": "type filter hook prerouting priority -310; policy accept",
        "out": "type filter hook prerouting priority -140; policy accept",
        "in": "type filter hook postrouting priority -140; policy accept",
        "control": "type filter hook input priority filter; policy accept",
    },
}
LINK_CONTROL = ("iifname @filtered ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 drop",)
"""IEEE 802.1D's reserved addresses: the bridge learns a sender from such a frame without asking prerouting."""
FILTERED = Entries(table=BRIDGE_TABLE, name="filtered", declared="set {} {{ type ifname; }}")
HOST_CONTROL = ("iifname != @filtered accept", *SERVICES, "reject with icmpx admin-prohibited")
"""Of a TAP without a bridge; a bridge has its network's rules for that (net/filters/ruleset.py)."""
METADATA = f"ip daddr {METADATA_ADDRESS} tcp dport 80"


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The bridge that a port is on, as the kernel knows it, and its network's zone of connections."""

    bridge: str
    mac: str
    zone: int


@dataclass(frozen=True, kw_only=True)
class PortRules:
    """What a port's filters follow from. `segment` None: it is on no bridge (`routed`)."""

    tap: str
    mac: str
    addresses: tuple[str, ...]
    segment: Segment | None
    pairs: tuple[AddressPair, ...] = ()
    groups: tuple[SecurityGroupId, ...] = ()

    @property
    def table(self) -> str:
        return INET_TABLE if self.segment is None else BRIDGE_TABLE


def port_rules_for(vif: VifPlan, *, bridge_mac: str | None) -> PortRules:
    """What the NIC's filters follow from; `bridge_mac` is that of the bridge it is on, None when it is on none."""
    own = (vif.address,) if vif.address6 is None else (vif.address, vif.address6)
    return PortRules(
        tap=vif.tap,
        mac=vif.mac,
        addresses=own,
        segment=None
        if bridge_mac is None
        else Segment(bridge=vif.bridge, mac=bridge_mac, zone=zone_for(vif.network_id)),
        pairs=vif.allowed_pairs,
        groups=vif.security_groups,
    )


@lru_cache(maxsize=1024)  # the same ports again and again, whenever the host is told of its surroundings
def port_for(port: PortRules) -> Wanted:
    """All that the port needs, whoever else is filtered here, but for the rules of its groups."""
    senders = sender_rules_for(port.mac, port.addresses, port.pairs)
    chains = (Chain(table=port.table, name=f"from_{port.tap}", rules=senders),)
    shared = STATES if port.segment is None else on_segment(port.segment)
    maps = tuple(_with(entries, port.tap) for entries in _maps_of(port.table))
    # The maps come after the chains that they lead to, and the group's chains before the port's that jump there.
    policy = policy_for(port.table, port.tap, port.groups)
    filtered = replace(FILTERED, table=port.table, elements={port.tap: ""})
    own = Wanted(chains=(*chains, *policy), entries=(*maps, filtered))
    return shared + Wanted(chains=_base_of(port.table)) + own


def on_segment(segment: Segment) -> Wanted:
    """What marks the packets of a bridge: all of them, filtered or not."""
    zone = replace(ZONES, elements={segment.bridge: str(segment.zone)})
    gateway = replace(GATEWAYS, elements={f"{segment.bridge} . {segment.mac}": ""})
    return Wanted(chains=STATES.chains, entries=(zone, gateway))


def policy_for(table: str, tap: str, groups: Iterable[SecurityGroupId]) -> tuple[Chain, ...]:
    """The two chains of a port that follow from its groups alone."""
    named = sorted(set(groups))
    begin = [f"jump {BEGIN}{group}" for group in named]
    reach = [f"jump {REACH}{group}" for group in named]
    out = (
        "ether type arp accept",
        f"{IS_ANSWER} accept",
        "meta protocol ip udp sport 68 udp dport 67 accept",
        "meta protocol ip6 udp sport 546 udp dport 547 accept",
        f"{METADATA} accept",
        f"{DISCOVERY} accept",
        *(f"{IS_NEW} {verdict}" for verdict in begin or ["accept"]),
        "drop",
    )
    into = (
        "meta protocol != { ip, ip6 } accept",
        f"{IS_ANSWER} accept",
        "meta protocol ip udp sport 67 udp dport 68 accept",
        "meta protocol ip6 udp sport 547 udp dport 546 accept",
        f"{DISCOVERY} accept",
        "icmpv6 type nd-router-advert accept",
        *(f"{IS_NEW} {verdict}" for verdict in reach),
        "drop",
    )
    return Chain(table=table, name=f"out_{tap}", rules=out), Chain(table=table, name=f"in_{tap}", rules=into)


def unknown_groups_for(port: PortRules) -> tuple[Chain, ...]:
    """What stands for the port's groups until this host is told of them."""
    return tuple(chain for group in sorted(set(port.groups)) for chain in unknown_group_for(port.table, group))


def _maps_of(table: str) -> tuple[Entries, ...]:
    return tuple(
        Entries(table=table, name=f"{kind}_port", declared="map {} {{ type ifname : verdict; }}") for kind in KINDS
    )


def _with(entries: Entries, tap: str) -> Entries:
    return replace(entries, elements={tap: f"jump {entries.name.removesuffix('_port')}_{tap}"})


def _base_of(table: str) -> tuple[Chain, ...]:
    rules: dict[str, tuple[str, ...]] = {
        kind: (f"{'oifname' if kind == 'in' else 'iifname'} vmap @{kind}_port",) for kind in KINDS
    }
    rules["control"] = LINK_CONTROL if table == BRIDGE_TABLE else HOST_CONTROL
    return tuple(Chain(table=table, name=kind, hook=hook, rules=rules[kind]) for kind, hook in HOOKS[table].items())
