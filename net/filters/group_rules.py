"""Security groups as chains that the ports in them jump to, and as sets of their members: pure.

A group is two chains, `begin_<group>` (what its guests may begin) and `reach_<group>` (what may begin to reach them), whatever
number of ports is in it: a change of its rules is one of two chains. For a group that rules name as remote there is a set of
its members' addresses of each family, `members4_<group>` and `members6_<group>`: a member that comes or goes is a change of
elements alone.
Every rule is about what *begins* a connection: answers have passed before. Those that stand when a rule is taken away are held
against the rest of them by net/filters/revocation.py.
"""

from collections.abc import Mapping
from functools import lru_cache

from net.filters.chains import Chain, Entries, Wanted
from taskvisor.model.ids import SecurityGroupId
from taskvisor.model.network import Direction, IpFamily, SecurityGroup, SecurityRule

PORTED = {"tcp": "tcp", "udp": "udp", "sctp": "sctp", "6": "tcp", "17": "udp", "132": "sctp"}
ICMP = {"icmp", "icmpv6", "ipv6-icmp", "1", "58"}
BEGIN, REACH = "begin_", "reach_"
CHAIN_PREFIXES = {Direction.EGRESS: BEGIN, Direction.INGRESS: REACH}
SET_PREFIXES = {IpFamily.V4: "members4_", IpFamily.V6: "members6_"}
UNKNOWN = {Direction.EGRESS: ("accept",), Direction.INGRESS: ()}
"""Until a host was told a group's rules: its ports send, and hear answers."""


def unknown_group_for(table: str, group: SecurityGroupId) -> tuple[Chain, ...]:
    """The chains of a group whose rules this host has not been told."""
    return tuple(
        Chain(table=table, name=f"{prefix}{group}", rules=UNKNOWN[direction])
        for direction, prefix in CHAIN_PREFIXES.items()
    )


def group_for(table: str, group: SecurityGroup, addresses: Mapping[SecurityGroupId, tuple[str, ...]]) -> Wanted:
    """The chains of a group, and the sets of the groups that its rules name as remote."""
    chains = tuple(
        Chain(
            table=table,
            name=f"{prefix}{group.id}",
            rules=tuple(rule_for(rule) for rule in group.rules if rule.direction is direction),
        )
        for direction, prefix in CHAIN_PREFIXES.items()
    )
    remotes = dict.fromkeys((rule.remote_group, rule.family) for rule in group.rules if rule.remote_group is not None)
    sets = (members_for(table, remote, family, addresses.get(remote, ())) for remote, family in remotes)
    return Wanted(chains=chains, entries=tuple(sets))


@lru_cache(maxsize=256)  # many groups name the same
def members_for(table: str, group: SecurityGroupId, family: IpFamily, addresses: tuple[str, ...]) -> Entries:
    """The set of a group's members, these and no others."""
    kind = "ipv4_addr" if family is IpFamily.V4 else "ipv6_addr"
    return Entries(
        table=table,
        name=f"{SET_PREFIXES[family]}{group}",
        declared=f"set {{}} {{{{ type {kind}; }}}}",
        elements={address: "" for address in addresses if (":" in address) == (family is IpFamily.V6)},
        exact=True,
    )


def rule_for(rule: SecurityRule) -> str:
    """The rule in nft's words; its last is `accept`."""
    return " ".join((*_remote_of(rule), *_protocol_of(rule), "accept"))


def _remote_of(rule: SecurityRule) -> tuple[str, ...]:
    header = "ip" if rule.family is IpFamily.V4 else "ip6"
    field = f"{header} {'saddr' if rule.direction is Direction.INGRESS else 'daddr'}"
    if rule.remote_group is not None:
        return (f"{field} @{SET_PREFIXES[rule.family]}{rule.remote_group}",)
    if rule.remote is not None:
        return (f"{field} {rule.remote}",)
    return (f"meta protocol {header}",)


def _protocol_of(rule: SecurityRule) -> tuple[str, ...]:
    first, last = rule.first_port, rule.last_port
    if rule.protocol is None:
        return ()
    if rule.protocol in ICMP:
        word = "icmp" if rule.family is IpFamily.V4 else "icmpv6"
        kinds = () if first is None else (f"{word} type {first}",)
        codes = () if last is None else (f"{word} code {last}",)
        return (*kinds, *codes) or (f"meta l4proto {word if word == 'icmp' else 'ipv6-icmp'}",)
    word = PORTED.get(rule.protocol, "")
    if word == "" or first is last is None:
        return (f"meta l4proto {word or rule.protocol}",)
    low = first or 0
    high = last if last is not None else first
    return (f"{word} dport {low}" if low == high else f"{word} dport {low}-{high}",)
