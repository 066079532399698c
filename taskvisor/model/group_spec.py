"""What callers may ask of security groups, ports and floating addresses, validated. As `spec`, of which it is a part."""

import re
from collections.abc import Callable, Iterable
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from taskvisor.model.ids import SecurityGroupId
from taskvisor.model.network import Direction, IpFamily, SecurityGroup, SecurityRule
from taskvisor.model.network_spec import AnyCidr
from taskvisor.model.spec import InstanceSpec, Ipv4, Name, Spec, TurnSpec

RULES_LIMIT = 300
"""Of one group. A port's rules are read one by one by the kernel for the first packet of each connection."""
PORT_GROUPS_LIMIT = 16
"""Groups of one port."""
DEFAULT_GROUP = "default"
WITH_PORTS = frozenset({"tcp", "udp", "sctp"})
NAMED_PROTOCOLS = {"1": "icmp", "6": "tcp", "17": "udp", "58": "icmp", "132": "sctp"}
"""IANA's numbers of those that have names here. ICMP is that of the rule's family."""

Ref = Annotated[str, StringConstraints(min_length=1, max_length=63)]


def _protocol(text: str) -> str:
    text = text.lower()
    if text in (*WITH_PORTS, "icmp"):
        return text
    if not re.fullmatch(r"[0-9]{1,3}", text) or int(text) > 255:
        raise ValueError("must be tcp, udp, sctp, icmp or an IP protocol's number, 0 to 255")
    return NAMED_PROTOCOLS.get(str(int(text)), str(int(text)))


class SecurityRuleSpec(Spec):
    """What may pass. `remote_group` is a group's name or id."""

    direction: Annotated[Direction, Field(strict=False)]
    family: Annotated[IpFamily, Field(strict=False)] = IpFamily.V4
    protocol: Annotated[str, Field(max_length=16), AfterValidator(_protocol)] | None = None
    first_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    last_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    remote: AnyCidr | None = None
    remote_group: Ref | None = None

    @model_validator(mode="after")
    def _is_about_one_thing(self) -> "SecurityRuleSpec":
        if self.remote is not None and self.remote_group is not None:
            raise ValueError("remote_group: goes without remote; make two rules of it")
        if self.remote is not None and (":" in self.remote) != (self.family is IpFamily.V6):
            raise ValueError(f"remote: {self.remote!r}: must be {self.family.value}, as the rule's family")
        if self.first_port is None and self.last_port is not None:
            raise ValueError(f"last_port: {self.last_port}: goes with first_port only")
        if self.first_port is not None:
            self._require_ports()
        return self

    def _require_ports(self) -> None:
        if self.protocol == "icmp":
            for field in ("first_port", "last_port"):
                number = getattr(self, field)
                if number is not None and number > 255:
                    raise ValueError(f"{field}: {number}: an ICMP type or code is 0 to 255")
        elif self.protocol not in WITH_PORTS:
            protocol = f"protocol {self.protocol}" if self.protocol else "no protocol"
            raise ValueError(f"first_port: {self.first_port}: ports are of tcp, udp and sctp; {protocol} is asked for")
        elif self.first_port == 0:
            raise ValueError("first_port: 0: ports are 1 to 65535")
        elif self.last_port is not None and self.last_port < (self.first_port or 0):
            raise ValueError(f"last_port: {self.last_port}: is below first_port {self.first_port}")


Rules = Annotated[tuple[SecurityRuleSpec, ...], Field(max_length=RULES_LIMIT, strict=False)]


def _distinct(rules: tuple[SecurityRuleSpec, ...]) -> tuple[SecurityRuleSpec, ...]:
    seen: dict[SecurityRuleSpec, int] = {}
    for number, rule in enumerate(rules):
        if seen.setdefault(rule, number) != number:
            raise ValueError(f"number {number} is the same as number {seen[rule]} (from 0); leave one out")
    return rules


class SecurityGroupSpec(Spec):
    """What `security_group.create` makes."""

    name: Name
    rules: Annotated[Rules, AfterValidator(_distinct)] = ()


class SecurityGroupUpdateSpec(Spec):
    """A group's rules, all of them, in place of those that it has."""

    group: Ref
    rules: Annotated[Rules, AfterValidator(_distinct)]


class SecurityGroupRefSpec(Spec):
    """Which group: its name or its id."""

    group: Ref


class PortSpec(InstanceSpec):
    """Which NIC of which instance. `port`: its id, MAC or address; None: the instance has one NIC only."""

    port: Ref | None = None


class PortUpdateSpec(PortSpec, TurnSpec):
    """The groups that a port is in from now on, by name or id. With none it lets nothing in but answers."""

    security_groups: Annotated[tuple[Ref, ...], Field(max_length=PORT_GROUPS_LIMIT, strict=False)]


class FloatingSpec(Spec):
    """An outer address that is the operator's to give away: it must be routed to the hosts that it may be on."""

    address: Ipv4


class FloatingRefSpec(Spec):
    """Which floating address: itself, or its id."""

    floating: Ref


class FloatingBindSpec(FloatingRefSpec, PortSpec):
    """To which port it is bound."""


def group_for(
    group_id: SecurityGroupId,
    name: str,
    rules: Iterable[SecurityRuleSpec],
    id_of: Callable[[str], SecurityGroupId],
) -> SecurityGroup:
    """The record. `id_of` tells the id of a group by its name or id, and refuses what is none."""
    return SecurityGroup(id=group_id, name=name, rules=tuple(_rule_for(rule, id_of) for rule in rules))


def default_group_for(group_id: SecurityGroupId) -> SecurityGroup:
    """The group that needs no configuration: everything out, nothing in but answers."""
    out = (SecurityRule(direction=Direction.EGRESS, family=family) for family in IpFamily)
    return SecurityGroup(id=group_id, name=DEFAULT_GROUP, rules=tuple(out))


def _rule_for(spec: SecurityRuleSpec, id_of: Callable[[str], SecurityGroupId]) -> SecurityRule:
    with_ports = spec.protocol in WITH_PORTS
    return SecurityRule(
        direction=spec.direction,
        family=spec.family,
        protocol=spec.protocol,
        first_port=spec.first_port,
        last_port=spec.first_port if with_ports and spec.last_port is None else spec.last_port,
        remote=spec.remote,
        remote_group=None if spec.remote_group is None else id_of(spec.remote_group),
    )
