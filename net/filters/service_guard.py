"""Keeps a network's services on their own host: nftables' bridge family, a table of its own. Knows sets of link names only.

On a segment that goes beyond this host, guests' questions for DHCP would reach every other host and its guests, and the
answers of others ours. So:

- *served* TAPs, whose network is served by a service link, ask their own *service* port and no other, and are answered by
  it alone; to that port they may send what it serves, and only they may; it sends to nobody else.
- through *outer* ports, the tunnels to hosts whose bridge has the same addresses as ours, pass neither DHCP nor router
  advertisements nor the metadata service's address. Nor does the bridge itself ask there who has an address: it is told of
  every port, and its question bears the MAC and the address that every host's bridge has. (What it is not told of, and asks
  for when it advertises, are link-local addresses of its own host's guests.)

The rules are always the same text; a plug adds names to the sets, in one transaction, and runs no program when they are known to
be there (net/filters/transactions.py). An element may name a link that is not there yet. The chains come before the filters of
ports (priority), and drop or leave it to those. Source: nft(8),
https://wiki.nftables.org/wiki-nftables/index.php/Bridge_filtering.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec
import structlog

from net.command import run_command
from net.filters.transactions import Transactions
from net.services.site import LINK_SERVER_ADDRESS, METADATA_ADDRESS, ON_LINK_KINDS, service_port_for
from taskvisor.model.errors import CannotAsk
from taskvisor.model.network import NetworkKind
from taskvisor.model.plan import VifPlan

log = structlog.get_logger(__name__)

TABLE = "bridge taskvisor_services"
SERVED, SERVICE, OUTER = "served", "service", "outer"
SETS = (SERVED, SERVICE, OUTER)
PRIORITY = "-210"  # before the bridge's filters (-200)
ADDRESSES = f"{{ {LINK_SERVER_ADDRESS}, {METADATA_ADDRESS} }}"
HOOKS = ("forward", "input", "output")
JUMPS = ("to_service", "from_served", "to_served", "outside", "own_outside")
RULES = (
    ("forward", f"oifname @{SERVICE} iifname @{SERVED} jump to_service"),
    ("forward", f"oifname @{SERVICE} drop"),
    ("forward", f"iifname @{SERVICE} oifname @{SERVED} return"),
    ("forward", f"iifname @{SERVICE} drop"),
    ("forward", f"iifname @{SERVED} jump from_served"),
    ("forward", f"oifname @{SERVED} jump to_served"),
    ("forward", f"iifname @{OUTER} jump outside"),
    ("forward", f"oifname @{OUTER} jump outside"),
    ("input", f"iifname @{OUTER} jump outside"),
    ("output", f"oifname @{OUTER} jump outside"),
    ("output", f"oifname @{OUTER} jump own_outside"),
    ("to_service", f"arp daddr ip {ADDRESSES} accept"),
    ("to_service", f"ip daddr {METADATA_ADDRESS} tcp dport 80 accept"),
    ("to_service", "ether type ip udp dport 67 accept"),
    ("to_service", "arp operation reply accept"),
    ("to_service", "drop"),
    ("from_served", "ether type ip udp dport 67 drop"),
    ("from_served", f"arp daddr ip {ADDRESSES} drop"),
    ("to_served", "ether type ip udp sport 67 drop"),
    ("to_served", f"arp saddr ip {ADDRESSES} drop"),
    ("outside", "udp dport { 67, 68, 546, 547 } drop"),
    ("outside", "icmpv6 type { nd-router-solicit, nd-router-advert } drop"),
    ("outside", f"arp daddr ip {METADATA_ADDRESS} drop"),
    ("outside", f"arp saddr ip {METADATA_ADDRESS} drop"),
    ("own_outside", "ether type arp drop"),
    ("own_outside", "ip protocol igmp drop"),
    ("own_outside", "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } drop"),
    (
        "own_outside",
        "icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } drop",
    ),
)

Names = Mapping[str, frozenset[str]]
"""The links in each set."""


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """What the table holds. `whole`: its rules are those of `script_for`, which a look at the names does not tell."""

    names: dict[str, frozenset[str]]
    whole: bool


class ServiceGuard:
    """The table, as every process of this host's worker changes it."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._known = transactions.known("services", Guarded)

    def ensure_guarded(self, vif: VifPlan) -> None:
        """What the port's network serves stays on this host. Of no effect for kinds that go nowhere. Retryable when nft fails,
        CannotAsk when the table can't be listed.
        """
        elements = {**elements_of_network(vif), **elements_of_port(vif)}
        if not elements:
            return
        with self._transactions.locked():
            held = self._transactions.read(self._known, _read_guarded)
            names = held.value.names
            if held.value.whole and all(name in names[set_name] for set_name, name in elements.items()):
                return
            after = {set_name: names[set_name] | _named(elements, set_name) for set_name in SETS}
            self._transactions.change(script_for(elements), self._known, held, Guarded(names=after, whole=True))

    def ensure_port_unguarded(self, vif: VifPlan) -> None:
        """Nothing here names the port. CannotAsk when the table can't be listed."""
        self._ensure_removed(elements_of_port(vif))

    def ensure_network_unguarded(self, vif: VifPlan) -> None:
        """Nothing here names the network's links; the table is gone when it was the last. CannotAsk as above."""
        self._ensure_removed(elements_of_network(vif))

    def _ensure_removed(self, elements: Mapping[str, str]) -> None:
        if not elements:
            return
        with self._transactions.locked():
            held = self._transactions.read(self._known, _read_guarded)
            names = held.value.names
            if not any(name in names[set_name] for set_name, name in elements.items()):
                return
            after = {set_name: names[set_name] - _named(elements, set_name) for set_name in SETS}
            left = Guarded(names=after, whole=any(after.values()))  # without names, without a table
            self._transactions.change(removal_script_for(elements, names), self._known, held, left)


def elements_of_port(vif: VifPlan) -> Mapping[str, str]:
    """The port's own link, by the set that it is in."""
    return {SERVED: vif.tap} if vif.dhcp and vif.kind in ON_LINK_KINDS else {}


def elements_of_network(vif: VifPlan) -> Mapping[str, str]:
    """The links that the ports of a network share, by the set that they are in."""
    if not vif.dhcp:
        return {}
    if vif.kind in ON_LINK_KINDS:
        return {SERVICE: service_port_for(vif)}
    return {OUTER: f"vxlan-{vif.segment}"} if vif.kind is NetworkKind.VXLAN else {}


def script_for(elements: Mapping[str, str]) -> str:
    """The nft script, one transaction, after which the sets hold the elements; of no effect when they did."""
    added = [f"add element {TABLE} {set_name} {{ {name} }}" for set_name, name in elements.items()]
    return "\n".join([*_table_lines(), *added]) + "\n"


def removal_script_for(elements: Mapping[str, str], held: Names) -> str:
    """The nft script, one transaction, after which the sets do not hold the elements; nor is the table there, when they were the
    last. The additions make the removals succeed: nft 1.0.6 has no `destroy` yet.
    """
    left = {set_name: held[set_name] - _named(elements, set_name) for set_name in SETS}
    if not any(left.values()):
        return f"add table {TABLE}\ndelete table {TABLE}\n"
    named = [f"element {TABLE} {set_name} {{ {name} }}" for set_name, name in elements.items()]
    lines = [*_table_lines(), *(f"{verb} {element}" for element in named for verb in ("add", "delete"))]
    return "\n".join(lines) + "\n"


def read_names() -> Names:
    """The links in each set; none when there is no table. CannotAsk when nft can't tell."""
    listed = run_command(["nft", "-j", "list", "table", *TABLE.split()])
    if listed.ok:
        return parse_names(listed.stdout)
    # "No such table" and "can't say" end alike; so ask in a way whose success means something.
    tables = run_command(["nft", "list", "tables"])
    if tables.ok and f"table {TABLE}" not in tables.stdout.decode(errors="replace").splitlines():
        return dict.fromkeys(SETS, frozenset())
    raise CannotAsk(f"can't list the nftables table {TABLE}: {listed}")


def parse_names(raw: bytes) -> Names:
    """What `nft -j list table` printed (libnftables-json(5)). CannotAsk when it isn't that."""
    try:
        items = msgspec.json.decode(raw, type=_Document).nftables
    except msgspec.MsgspecError as error:
        raise CannotAsk(f"can't read what nft lists of table {TABLE}: {error}; is something else using it?") from error
    found = {item.set.name: frozenset(item.set.elem) for item in items if item.set is not None}
    return {set_name: found.get(set_name, frozenset()) for set_name in SETS}


def _table_lines() -> Iterator[str]:
    yield f"add table {TABLE}"
    for set_name in SETS:
        yield f"add set {TABLE} {set_name} {{ type ifname; }}"
    for hook in HOOKS:
        yield f"add chain {TABLE} {hook} {{ type filter hook {hook} priority {PRIORITY}; policy accept; }}"
    for chain in (*JUMPS, *HOOKS):
        yield f"add chain {TABLE} {chain}"
        yield f"flush chain {TABLE} {chain}"
    for chain, rule in RULES:
        yield f"add rule {TABLE} {chain} {rule}"


def _named(elements: Mapping[str, str], set_name: str) -> frozenset[str]:
    return frozenset({elements[set_name]} if set_name in elements else ())


def _read_guarded() -> Guarded:
    return Guarded(names=dict(read_names()), whole=False)


class _Set(msgspec.Struct):
    name: str
    elem: list[str] = []  # msgspec copies it for each instance


class _Item(msgspec.Struct):
    set: _Set | None = None


class _Document(msgspec.Struct):
    nftables: list[_Item]
