"""The nftables rules of a network, as text: pure. Says what is filtered and translated, never runs anything.

One table, `inet taskvisor`, for all networks. Its two base chains only look a bridge up in a map and jump to that
network's own chains, so a change of one network replaces chains of its own and no rule of another's:

    forward      oifname -> to_<bridge>     answers, and traffic between the bridge's own ports; all else is rejected
                 iifname -> from_<bridge>   traffic out of the network's own addresses; all else is rejected
    postrouting  iifname -> nat_<bridge>    masquerade of what leaves for elsewhere
    input        iifname -> host_<bridge>   what of the host itself its guests may reach (net/filters/host_services.py)

`to_` comes first: what one network lets out, another still does not let in. A network without NAT is isolated: its
guests reach each other and nothing is forwarded (a routed network is another kind). The verdict `accept` ends this
table's chain only: a host whose own table drops forwarded packets (Docker's does) has to let the bridges through there.
Every rule bears the digest of its chain set in its comment, which is how what is there is compared with what is wanted.
Source: nft(8), https://wiki.nftables.org/wiki-nftables/index.php/Verdict_Maps_(vmaps).
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from net.filters.host_services import SERVICES
from net.kinds import GATEWAY_KINDS, OWN_BRIDGE_KINDS
from taskvisor.model.plan import VifPlan

TABLE = "inet taskvisor"
BASE_CHAINS = (
    ("forward", "type filter hook forward priority filter"),
    ("postrouting", "type nat hook postrouting priority srcnat"),
    ("input", "type filter hook input priority filter"),
)
BASE_RULES = (
    ("forward", "oifname vmap @to_network"),
    ("forward", "iifname vmap @from_network"),
    ("postrouting", "iifname vmap @nat_network"),
    ("input", "iifname vmap @host_network"),
)
KINDS = ("to", "from", "nat", "host")
REJECT = "reject with icmpx admin-prohibited"
DIGEST_CHARS = 16
_BASE = frozenset(name for name, _ in BASE_CHAINS)


@dataclass(frozen=True, kw_only=True)
class NetworkRules:
    """What a network's filters follow from. `nat` False: nothing is forwarded."""

    bridge: str
    cidr: str
    nat: bool


def network_rules_for(vif: VifPlan) -> NetworkRules | None:
    """Those of a NIC's network; None for a kind without a bridge of ours. What leaves is translated where we are the gateway."""
    if vif.kind not in OWN_BRIDGE_KINDS:
        return None
    return NetworkRules(bridge=vif.bridge, cidr=vif.cidr, nat=vif.nat and vif.kind in GATEWAY_KINDS)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What is in the table: how many rules by (chain, comment), and which map sends which bridge where."""

    rules: Mapping[tuple[str, str], int] = field(default_factory=dict)
    jumps: Mapping[tuple[str, str], str] = field(default_factory=dict)  # (map, bridge) -> chain
    chains: frozenset[str] = frozenset()

    def bridges(self) -> frozenset[str]:
        """The bridges that have anything here."""
        named = {chain.removeprefix("to_") for chain in self.chains if chain.startswith("to_")}
        return frozenset(named | {bridge for _, bridge in self.jumps})

    def holds(self, network: NetworkRules) -> bool:
        """All that the network needs is here, and nothing else is in its chains."""
        chains = {*(name for name, _ in BASE_CHAINS), *(f"{kind}_{network.bridge}" for kind in KINDS)}
        here = {key: count for key, count in self.rules.items() if key[0] in chains}
        jumps = {(f"{kind}_network", network.bridge): f"{kind}_{network.bridge}" for kind in KINDS}
        return here == _rules_wanted(network) and jumps.items() <= self.jumps.items()

    def with_network(self, network: NetworkRules) -> "Listing":
        """What is there once `script_for` that has been run."""
        own = {f"{kind}_{network.bridge}" for kind in KINDS}
        others = self._rules_but_of(own)
        return Listing(
            rules={**others, **_rules_wanted(network)},
            jumps={**self.jumps, **{(f"{kind}_network", network.bridge): f"{kind}_{network.bridge}" for kind in KINDS}},
            chains=self.chains | own | _BASE,
        )

    def without(self, bridge: str) -> "Listing":
        """What is there once `removal_script_for` that has been run."""
        if self.bridges() <= {bridge}:
            return Listing()
        own = {f"{kind}_{bridge}" for kind in KINDS}
        return Listing(
            rules={**self._rules_but_of(own), **_base_rules()},
            jumps={key: chain for key, chain in self.jumps.items() if key[1] != bridge},
            chains=(self.chains - own) | _BASE,
        )

    def _rules_but_of(self, chains: set[str]) -> Mapping[tuple[str, str], int]:
        """Without the base chains, too, which are set anew by every script."""
        return {key: count for key, count in self.rules.items() if key[0] not in chains | _BASE}


def script_for(network: NetworkRules) -> str:
    """The nft script, one transaction, after which the table holds the network's rules; of no effect when it did."""
    lines = list(_table_lines())
    for kind in KINDS:
        chain = f"{kind}_{network.bridge}"
        lines += [f"add chain {TABLE} {chain}", f"flush chain {TABLE} {chain}"]
        lines += [f"add element {TABLE} {kind}_network {{ {network.bridge} : jump {chain} }}"]
    for chain, rule in _network_rules(network):
        lines.append(f'add rule {TABLE} {chain} {rule} comment "{_digest(_network_rules(network))}"')
    return "\n".join(lines) + "\n"


def removal_script_for(bridge: str, listing: Listing) -> str:
    """The nft script, one transaction, after which nothing of the bridge's network is left; nor the table, when it was the last.

    The additions make the removals succeed whatever is there of them: nft 1.0.6 has no `destroy` yet.
    """
    if listing.bridges() <= {bridge}:
        return f"add table {TABLE}\ndelete table {TABLE}\n"
    lines = list(_table_lines())
    for kind in KINDS:
        chain, element = f"{kind}_{bridge}", f"{{ {bridge} : jump {kind}_{bridge} }}"
        lines += [f"add chain {TABLE} {chain}", f"add element {TABLE} {kind}_network {element}"]
        lines += [f"delete element {TABLE} {kind}_network {element}"]
        lines += [f"flush chain {TABLE} {chain}", f"delete chain {TABLE} {chain}"]
    return "\n".join(lines) + "\n"


def parse_listing(raw: bytes) -> Listing:
    """What `nft -j list table` printed (libnftables-json(5)). msgspec.MsgspecError when it isn't that."""
    items = msgspec.json.decode(raw, type=_Document).nftables
    rules = Counter((item.rule.chain, item.rule.comment) for item in items if item.rule is not None)
    maps = [item.map for item in items if item.map is not None]
    return Listing(
        rules=rules,
        jumps={(m.name, bridge): verdict.jump.target for m in maps for bridge, verdict in m.elem},
        chains=frozenset(item.chain.name for item in items if item.chain is not None),
    )


def _table_lines() -> Iterator[str]:
    """The shared part: always the same text, so replacing it whole changes nothing for anybody."""
    yield f"add table {TABLE}"
    for kind in KINDS:
        yield f"add map {TABLE} {kind}_network {{ type ifname : verdict; }}"
    for chain, hook in BASE_CHAINS:
        yield f"add chain {TABLE} {chain} {{ {hook}; policy accept; }}"
        yield f"flush chain {TABLE} {chain}"
    for chain, rule in BASE_RULES:
        yield f'add rule {TABLE} {chain} {rule} comment "{_digest(BASE_RULES)}"'


def _network_rules(network: NetworkRules) -> tuple[tuple[str, str], ...]:
    bridge, cidr = network.bridge, network.cidr
    between = (f"to_{bridge}", f"iifname {bridge} accept")  # bridged frames come here where br_netfilter is loaded
    services = tuple((f"host_{bridge}", rule) for rule in (*SERVICES, REJECT))
    if not network.nat:
        return (between, (f"to_{bridge}", REJECT), (f"from_{bridge}", REJECT), *services)
    return (
        between,
        (f"to_{bridge}", f"ip daddr {cidr} ct state established,related accept"),
        (
            f"to_{bridge}",
            f"ip daddr {cidr} ct status dnat accept",
        ),  # a floating address, or the operator's own translation
        (f"to_{bridge}", REJECT),
        (f"from_{bridge}", f"ip saddr {cidr} accept"),
        (f"from_{bridge}", REJECT),
        (f"nat_{bridge}", f"ip saddr {cidr} ip daddr != {{ {cidr}, 224.0.0.0/4, 255.255.255.255 }} masquerade"),
        *services,
    )


def _rules_wanted(network: NetworkRules) -> Mapping[tuple[str, str], int]:
    own = _network_rules(network)
    return _base_rules() + Counter((chain, _digest(own)) for chain, _ in own)


def _base_rules() -> Counter[tuple[str, str]]:
    return Counter((chain, _digest(BASE_RULES)) for chain, _ in BASE_RULES)


def _digest(rules: tuple[tuple[str, str], ...]) -> str:
    return hashlib.sha256(repr(rules).encode()).hexdigest()[:DIGEST_CHARS]


class _Rule(msgspec.Struct):
    chain: str
    comment: str = ""


class _Chain(msgspec.Struct):
    name: str


class _Jump(msgspec.Struct):
    target: str


class _Verdict(msgspec.Struct):
    jump: _Jump


class _Map(msgspec.Struct):
    name: str
    elem: list[tuple[str, _Verdict]] = []  # msgspec copies it for each instance


class _Item(msgspec.Struct):
    rule: _Rule | None = None
    chain: _Chain | None = None
    map: _Map | None = None


class _Document(msgspec.Struct):
    nftables: list[_Item]
