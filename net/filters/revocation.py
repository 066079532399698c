"""Which connections the rules of a port's groups no longer let pass: pure.

An answer passes by itself (net/filters/states.py), so a connection that was once let through would live until it ends, also when
the rule that let it is taken away. So each connection of a port is held against the rules anew, as if it began now, and bears
two bits in its mark for the verdicts: one by the rules of the port that began it, one by those of the port that was begun to,
so that ports of two networks don't undo each other's. While a bit is set no packet of it is an answer, nor is one new: it passes
no port. Rejected: to have the kernel forget it. It picks up what is in full flow (nf_conntrack_tcp_loose, needed for guests that
move here), and from the guest's next packet on, which its rules let out, the connection would be the guest's own.

Left alone are: what the host itself began; what every guest may (DHCP, metadata); what was begun because of another connection
(FTP's data); connections by an allowed pair's address, which may be another port's too; and what was routed to a port of a kind
whose gateway is not ours, for another network of this host may have the same addresses.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from net.filters.group_rules import ICMP, PORTED
from net.filters.host_services import METADATA_ADDRESS
from net.filters.port_rules import PortRules
from net.filters.states import REVOKED
from net.kinds import GATEWAY_KINDS
from net.links.conntrack import NO_ZONE, Connection, Flow
from taskvisor.model.ids import SecurityGroupId
from taskvisor.model.network import Direction, IpFamily, NetworkKind, SecurityGroup, SecurityRule, Surroundings

BITS: Mapping[Direction, int] = {Direction.EGRESS: REVOKED & 0x0400_0000, Direction.INGRESS: REVOKED & 0x0800_0000}
"""By whose rules a connection is revoked: what its beginner's let out, or what the other end's let in."""
TCP, UDP = 6, 17
NUMBERS = {"tcp": TCP, "udp": UDP, "sctp": 132}
ICMP_NUMBERS = {IpFamily.V4: 1, IpFamily.V6: 58}
ALWAYS = {(UDP, 68, 67), (UDP, 546, 547), (UDP, 67, 68), (UDP, 547, 546)}
"""DHCP: protocol, from port, to port."""


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A connection as the rules of one port see it begin: what it is, and who is at the other end."""

    direction: Direction
    remote: str
    flow: Flow

    @property
    def family(self) -> IpFamily:
        return IpFamily.V6 if ":" in self.remote else IpFamily.V4


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What lets the connections of one port pass. `rules` None: everything out, nothing in (a port without groups)."""

    port: PortRules
    kind: NetworkKind
    rules: tuple[SecurityRule, ...] | None
    members: Mapping[SecurityGroupId, Collection[str]]

    @property
    def zone(self) -> int:
        return NO_ZONE if self.port.segment is None else self.port.segment.zone


def policy_of(port: PortRules, around: Surroundings) -> Policy | None:
    """None where a group of the port's was not told: what it lets pass is not known here."""
    told = {group.id: group for group in around.groups}
    if not told.keys() >= set(port.groups):
        return None
    groups: list[SecurityGroup] = [told[group] for group in sorted(set(port.groups))]
    rules = tuple(rule for group in groups for rule in group.rules)
    remotes = {rule.remote_group for rule in rules if rule.remote_group is not None}
    return Policy(
        port=port,
        kind=around.network.kind,
        rules=rules if groups else None,
        members={remote: tuple(sorted(around.group_addresses.get(remote, ()))) for remote in sorted(remotes)},
    )


def verdict_for(connection: Connection, address: str, policy: Policy, own: Collection[str]) -> tuple[int, int]:
    """The bits of the connection's mark that are this port's to set, by its `address`, and those of them that are to be set.

    `own`: the addresses of this host.
    """
    judged = {
        passage.direction: lets_pass(policy, passage) for passage in _passages_of(connection, address, policy, own)
    }
    among = sum(BITS[direction] for direction in judged)
    return among, sum(BITS[direction] for direction, passes in judged.items() if not passes)


def lets_pass(policy: Policy, passage: Passage) -> bool:
    """Whether the port's rules would let it begin."""
    if policy.rules is None:
        return passage.direction is Direction.EGRESS
    return any(matches(rule, passage, policy.members) for rule in policy.rules)


def matches(rule: SecurityRule, passage: Passage, members: Mapping[SecurityGroupId, Collection[str]]) -> bool:
    """The rule lets it pass: what net/filters/group_rules.py says to the kernel, of a connection that is there."""
    if (rule.direction, rule.family) != (passage.direction, passage.family):
        return False
    return _is_remote(rule, passage.remote, members) and _is_protocol(rule, passage.flow)


def _passages_of(connection: Connection, address: str, policy: Policy, own: Collection[str]) -> tuple[Passage, ...]:
    """As what the connection passes the port: one of the two, or both where a guest reaches itself."""
    original, reply = connection.original, connection.reply
    if connection.is_expected or _is_always_let(original):
        return ()
    found = []
    # On a bridge the port's chains come after addresses are translated, without one before it (net/filters/states.py).
    bridged = policy.port.segment is not None
    if original.source == address and original.zone == policy.zone:
        remote = reply.source if bridged else original.destination
        found.append(Passage(direction=Direction.EGRESS, remote=remote, flow=original))
    if reply.source == address and _is_of_network(reply, policy) and original.source not in own:
        remote = reply.destination if bridged else original.source
        found.append(Passage(direction=Direction.INGRESS, remote=remote, flow=original))
    return tuple(found)


def _is_of_network(reply: Flow, policy: Policy) -> bool:
    """It is answered by the port, not by another of that address: on its bridge, or routed where addresses are unambiguous."""
    return reply.zone == policy.zone != NO_ZONE or (reply.zone == NO_ZONE and policy.kind in GATEWAY_KINDS)


def _is_always_let(flow: Flow) -> bool:
    if (flow.protocol, flow.source_port, flow.destination_port) in ALWAYS:
        return True
    return flow.destination == METADATA_ADDRESS and (flow.protocol, flow.destination_port) == (TCP, 80)


def _is_remote(rule: SecurityRule, remote: str, members: Mapping[SecurityGroupId, Collection[str]]) -> bool:
    if rule.remote_group is not None:
        return remote in members.get(rule.remote_group, ())
    return rule.remote is None or ip_address(remote) in ip_network(rule.remote)


def _is_protocol(rule: SecurityRule, flow: Flow) -> bool:
    if rule.protocol is None:
        return True
    if rule.protocol in ICMP:
        kind, code = rule.first_port, rule.last_port
        same = flow.protocol == ICMP_NUMBERS[rule.family]
        return same and kind in (None, flow.icmp_type) and code in (None, flow.icmp_code)
    word = PORTED.get(rule.protocol)
    if flow.protocol != (NUMBERS[word] if word else int(rule.protocol)):
        return False
    if word is None or rule.first_port is rule.last_port is None:
        return True
    first = rule.first_port or 0
    last = rule.last_port if rule.last_port is not None else rule.first_port
    return flow.destination_port is not None and first <= flow.destination_port <= (last if last is not None else first)
