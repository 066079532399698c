"""What may be asked of security groups, ports and floating addresses."""

from typing import Any

import pytest

from taskvisor.model.errors import Refused
from taskvisor.model.group_spec import (
    FloatingSpec,
    SecurityGroupSpec,
    default_group_for,
    group_for,
)
from taskvisor.model.ids import SecurityGroupId, security_group_id_for
from taskvisor.model.network import Direction, IpFamily, SecurityRule
from taskvisor.model.spec import parse_spec

GROUP = SecurityGroupId("g")


def rule(**fields: Any) -> SecurityRule:
    spec = parse_spec(SecurityGroupSpec, {"name": "web", "rules": [{"direction": "ingress", **fields}]})
    return group_for(GROUP, spec.name, spec.rules, security_group_id_for).rules[0]


@pytest.mark.parametrize(
    ("fields", "made"),
    [
        ({}, {}),
        ({"protocol": "TCP", "first_port": 80}, {"protocol": "tcp", "first_port": 80, "last_port": 80}),
        ({"protocol": "17", "first_port": 1, "last_port": 9}, {"protocol": "udp", "first_port": 1, "last_port": 9}),
        ({"protocol": "icmp", "first_port": 8}, {"protocol": "icmp", "first_port": 8}),
        ({"protocol": "047"}, {"protocol": "47"}),
        ({"remote": "10.0.0.0/8"}, {"remote": "10.0.0.0/8"}),
        ({"remote": "10.0.0.7"}, {"remote": "10.0.0.7/32"}),
        ({"remote": "FD00::/8", "family": "ipv6"}, {"remote": "fd00::/8", "family": IpFamily.V6}),
        ({"remote_group": "db"}, {"remote_group": security_group_id_for("db")}),
    ],
)
def test_rules_are_recorded_in_one_form(fields: dict[str, Any], made: dict[str, Any]) -> None:
    known: dict[str, Any] = {"direction": Direction.INGRESS, "family": IpFamily.V4}
    assert rule(**fields) == SecurityRule(**{**known, **made})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"direction": "both"}, "rules.0.direction: 'both'"),
        ({"protocol": "gre"}, "rules.0.protocol: 'gre': must be tcp, udp, sctp, icmp or an IP protocol's number"),
        ({"protocol": "256"}, "rules.0.protocol: '256': must be tcp"),
        ({"first_port": 80}, "first_port: 80: ports are of tcp, udp and sctp; no protocol is asked for"),
        ({"protocol": "47", "first_port": 80}, "first_port: 80: ports are of tcp, udp and sctp; protocol 47"),
        ({"protocol": "tcp", "first_port": 0}, "first_port: 0: ports are 1 to 65535"),
        ({"protocol": "tcp", "first_port": 65536}, "rules.0.first_port: 65536: input should be less than or equal to"),
        ({"protocol": "tcp", "first_port": 9, "last_port": 8}, "last_port: 8: is below first_port 9"),
        ({"protocol": "tcp", "last_port": 8}, "last_port: 8: goes with first_port only"),
        ({"protocol": "icmp", "first_port": 256}, "first_port: 256: an ICMP type or code is 0 to 255"),
        ({"remote": "10.0.0.1/8"}, "rules.0.remote: '10.0.0.1/8': has bits beyond its prefix; 10.0.0.0/8"),
        ({"remote": "fd00::/8"}, "remote: 'fd00::/8': must be ipv4, as the rule's family"),
        ({"remote": "any"}, "rules.0.remote: 'any': must be a network"),
        ({"remote": "10.0.0.0/8", "remote_group": "web"}, "remote_group: goes without remote; make two rules of it"),
    ],
)
def test_rules_that_can_not_be_are_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused) as refusal:
        rule(**fields)

    assert reason in str(refusal.value)


def test_three_hundred_rules_are_taken_and_one_more_is_not() -> None:
    rules = [{"direction": "ingress", "protocol": "tcp", "first_port": port} for port in range(1, 302)]

    assert len(parse_spec(SecurityGroupSpec, {"name": "web", "rules": rules[:300]}).rules) == 300
    with pytest.raises(Refused, match=r"rules: .* should have at most 300 items after validation, not 301"):
        parse_spec(SecurityGroupSpec, {"name": "web", "rules": rules})


def test_the_same_rule_twice_is_refused() -> None:
    with pytest.raises(Refused, match=r"rules: .*number 1 is the same as number 0 \(from 0\)"):
        parse_spec(SecurityGroupSpec, {"name": "web", "rules": [{"direction": "egress"}] * 2})


def test_the_default_group_lets_out_everything_and_in_nothing() -> None:
    assert [(one.direction, one.family) for one in default_group_for(GROUP).rules] == [
        (Direction.EGRESS, IpFamily.V4),
        (Direction.EGRESS, IpFamily.V6),
    ]


def test_a_floating_address_is_an_ipv4_address() -> None:
    with pytest.raises(Refused, match="address: 'fd00::7': must be an IPv4 address"):
        parse_spec(FloatingSpec, {"address": "fd00::7"})
