"""Which connections a port's rules would let begin: pure."""

from dataclasses import replace

import pytest

from net.filters.port_rules import PortRules, Segment
from net.filters.revocation import BITS, Passage, Policy, matches, policy_of, verdict_for
from net.filters.states import REVOKED
from net.links.conntrack import Connection, Flow
from taskvisor.model.ids import HostName, PortId, SecurityGroupId
from taskvisor.model.network import (
    Direction,
    IpFamily,
    Member,
    NetworkKind,
    SecurityGroup,
    SecurityRule,
    Surroundings,
)
from tests.net.plans import network

GROUP, PEERS = (SecurityGroupId(f"{digit}1111111-0000-4000-8000-000000000001") for digit in "12")
OWN, PEER, OUTER, HOST = "10.9.0.10", "10.9.0.11", "192.0.2.77", "10.9.0.1"
ZONE = 7
SEGMENT = Segment(bridge="br", mac="02:00:00:00:00:01", zone=ZONE)
PORT = PortRules(tap="tap1", mac="02:00:00:00:00:10", addresses=(OWN,), segment=SEGMENT, groups=(GROUP,))
IN = SecurityRule(direction=Direction.INGRESS, family=IpFamily.V4)
OUT = replace(IN, direction=Direction.EGRESS)
INGRESS, EGRESS = BITS[Direction.INGRESS], BITS[Direction.EGRESS]
WEB = Flow(source=PEER, destination=OWN, protocol=6, source_port=4000, destination_port=80, zone=ZONE)
ECHO = Flow(source=PEER, destination=OWN, protocol=1, icmp_type=8, icmp_code=0, zone=ZONE)
TUNNEL = Flow(source=PEER, destination=OWN, protocol=47, zone=ZONE)


def policy(*rules: SecurityRule, kind: NetworkKind = NetworkKind.NAT, port: PortRules = PORT) -> Policy:
    return Policy(port=port, kind=kind, rules=rules, members={PEERS: (PEER,)})


def reversed_of(flow: Flow) -> Flow:
    return replace(
        flow,
        source=flow.destination,
        destination=flow.source,
        source_port=flow.destination_port,
        destination_port=flow.source_port,
    )


def connection(flow: Flow, reply: Flow | None = None) -> Connection:
    return Connection(id=1, original=flow, reply=reply or reversed_of(flow))


@pytest.mark.parametrize(
    ("rule", "flow", "passes"),
    [
        (IN, WEB, True),
        (IN, TUNNEL, True),
        (OUT, WEB, False),
        (replace(IN, family=IpFamily.V6), WEB, False),
        (replace(IN, protocol="tcp"), WEB, True),
        (replace(IN, protocol="6", first_port=80), WEB, True),
        (replace(IN, protocol="udp"), WEB, False),
        (replace(IN, protocol="tcp", first_port=80, last_port=90), WEB, True),
        (replace(IN, protocol="tcp", first_port=81, last_port=90), WEB, False),
        (replace(IN, protocol="tcp", first_port=81), WEB, False),
        (replace(IN, protocol="tcp", last_port=79), WEB, False),
        (replace(IN, protocol="tcp", last_port=80), WEB, True),
        (replace(IN, protocol="icmp"), ECHO, True),
        (replace(IN, protocol="icmp", first_port=8), ECHO, True),
        (replace(IN, protocol="icmp", first_port=8, last_port=1), ECHO, False),
        (replace(IN, protocol="icmp", first_port=13), ECHO, False),
        (replace(IN, protocol="icmp"), WEB, False),
        (replace(IN, protocol="47"), TUNNEL, True),
        (replace(IN, protocol="50"), TUNNEL, False),
        (replace(IN, remote="10.9.0.0/24"), WEB, True),
        (replace(IN, remote="10.8.0.0/24"), WEB, False),
        (replace(IN, remote_group=PEERS), WEB, True),
        (replace(IN, remote_group=GROUP), WEB, False),
    ],
)
def test_a_rule_lets_pass_what_it_lets_begin(rule: SecurityRule, flow: Flow, passes: bool) -> None:
    assert matches(rule, Passage(direction=Direction.INGRESS, remote=PEER, flow=flow), {PEERS: (PEER,)}) is passes


def test_each_end_sets_its_own_bit_and_no_other() -> None:
    assert verdict_for(connection(WEB), OWN, policy(IN), ()) == (INGRESS, 0)
    assert verdict_for(connection(WEB), OWN, policy(OUT), ()) == (INGRESS, INGRESS)
    begun = connection(replace(WEB, source=OWN, destination=PEER))
    assert verdict_for(begun, OWN, policy(OUT), ()) == (EGRESS, 0)
    assert verdict_for(begun, OWN, policy(IN), ()) == (EGRESS, EGRESS)
    assert INGRESS | EGRESS == REVOKED
    assert INGRESS & EGRESS == 0


def test_a_port_without_groups_begins_what_it_likes_and_is_begun_to_by_nobody() -> None:
    alone = replace(policy(), rules=None)
    assert verdict_for(connection(WEB), OWN, alone, ()) == (INGRESS, INGRESS)
    assert verdict_for(connection(replace(WEB, source=OWN, destination=PEER)), OWN, alone, ()) == (EGRESS, 0)


def test_what_the_host_began_is_not_judged() -> None:
    by_host = connection(replace(WEB, source=HOST, zone=0))
    assert verdict_for(by_host, OWN, policy(), (HOST,)) == (0, 0)
    assert verdict_for(by_host, OWN, policy(), ()) == (INGRESS, INGRESS)


@pytest.mark.parametrize(
    "flow",
    [
        replace(WEB, protocol=17, source=OWN, destination="255.255.255.255", source_port=68, destination_port=67),
        replace(WEB, source=OWN, destination="169.254.169.254"),
    ],
)
def test_what_every_guest_may_is_not_judged(flow: Flow) -> None:
    assert verdict_for(connection(flow), OWN, policy(), ()) == (0, 0)


def test_what_was_begun_because_of_another_connection_is_not_judged() -> None:
    assert verdict_for(replace(connection(WEB), is_expected=True), OWN, policy(), ()) == (0, 0)


def test_a_connection_of_another_network_with_the_same_addresses_is_not_judged() -> None:
    elsewhere = replace(WEB, zone=ZONE + 1)
    assert verdict_for(connection(elsewhere), OWN, policy(), ()) == (0, 0)
    assert verdict_for(connection(replace(elsewhere, source=OWN, destination=PEER)), OWN, policy(), ()) == (0, 0)


@pytest.mark.parametrize(("kind", "judged"), [(NetworkKind.NAT, INGRESS), (NetworkKind.FLAT, 0)])
def test_what_was_routed_to_an_address_is_judged_where_no_other_port_can_have_it(
    kind: NetworkKind, judged: int
) -> None:
    routed = connection(replace(WEB, zone=0, source="203.0.113.9"))
    assert verdict_for(routed, OWN, policy(kind=kind), ())[0] == judged


def test_a_translated_connection_is_judged_by_what_the_ports_filters_see() -> None:
    """By a floating address: on a bridge after it was translated, on a TAP of its own before it."""
    asked = replace(WEB, source=OWN, destination=OUTER)
    answered = replace(reversed_of(asked), source=PEER, zone=0)
    to_peer, to_outer = (replace(OUT, remote=f"{address}/32") for address in (PEER, OUTER))
    assert verdict_for(connection(asked, answered), OWN, policy(to_peer), ()) == (EGRESS, 0)
    assert verdict_for(connection(asked, answered), OWN, policy(to_outer), ()) == (EGRESS, EGRESS)
    on_tap = replace(PORT, segment=None)
    routed = replace(policy(to_outer, kind=NetworkKind.ROUTED), port=on_tap)
    assert verdict_for(connection(replace(asked, zone=0), answered), OWN, routed, ()) == (EGRESS, 0)


def test_a_guest_that_reaches_itself_is_judged_as_both() -> None:
    asked = replace(WEB, source=OWN, destination=OUTER, zone=0)
    answered = replace(reversed_of(asked), source=OWN, destination=OUTER)
    routed = replace(policy(OUT, kind=NetworkKind.ROUTED), port=replace(PORT, segment=None))
    assert verdict_for(connection(asked, answered), OWN, routed, ()) == (EGRESS | INGRESS, INGRESS)


def test_a_port_one_of_whose_groups_was_not_told_is_not_judged() -> None:
    member = Member(port_id=PortId("p"), host=HostName("here"), mac=PORT.mac, addresses=(OWN,))
    told = Surroundings(
        network=network(), members=(member,), groups=(SecurityGroup(id=GROUP, name="web", rules=(IN,)),)
    )
    assert policy_of(PORT, told) == Policy(port=PORT, kind=NetworkKind.NAT, rules=(IN,), members={})
    assert policy_of(replace(PORT, groups=(GROUP, PEERS)), told) is None
