"""Networks, security groups and floating addresses as callers see them: plain JSON, as in `view`."""

from typing import TypedDict

from taskvisor.model.network import FloatingAddress, Network, SecurityGroup, SecurityRule


class RouteView(TypedDict):
    destination: str
    via: str


class NetworkView(TypedDict):
    """As `taskvisor.model.network.Network` has them. What is None the network has not."""

    id: str
    name: str
    kind: str
    cidr: str
    gateway: str
    dns: list[str]
    mtu: int
    dhcp: bool
    nat: bool
    cidr6: str | None
    gateway6: str | None
    ipv6_mode: str | None
    segment: int | None
    physical: str | None
    bridge: str | None
    routes: list[RouteView]
    ntp: list[str]


class RuleView(TypedDict):
    """`remote_group` is an id."""

    direction: str
    family: str
    protocol: str | None
    first_port: int | None
    last_port: int | None
    remote: str | None
    remote_group: str | None


class SecurityGroupView(TypedDict):
    id: str
    name: str
    rules: list[RuleView]


class FloatingView(TypedDict):
    """`port` None: it is bound to none."""

    id: str
    address: str
    port: str | None


def network_view(network: Network) -> NetworkView:
    """The network as it is recorded."""
    return {
        "id": network.id,
        "name": network.name,
        "kind": network.kind.value,
        "cidr": network.cidr,
        "gateway": network.gateway,
        "dns": list(network.dns),
        "mtu": network.mtu,
        "dhcp": network.dhcp,
        "nat": network.nat,
        "cidr6": network.cidr6,
        "gateway6": network.gateway6,
        "ipv6_mode": network.ipv6_mode.value if network.cidr6 is not None else None,
        "segment": network.segment,
        "physical": network.physical,
        "bridge": network.bridge,
        "routes": [{"destination": route.destination, "via": route.via} for route in network.routes],
        "ntp": list(network.ntp),
    }


def group_view(group: SecurityGroup) -> SecurityGroupView:
    """The group with its rules, in their order."""
    return {"id": group.id, "name": group.name, "rules": [_rule_view(rule) for rule in group.rules]}


def floating_view(floating: FloatingAddress) -> FloatingView:
    """The address, and whose it is."""
    return {"id": floating.id, "address": floating.address, "port": floating.port_id}


def _rule_view(rule: SecurityRule) -> RuleView:
    return {
        "direction": rule.direction.value,
        "family": rule.family.value,
        "protocol": rule.protocol,
        "first_port": rule.first_port,
        "last_port": rule.last_port,
        "remote": rule.remote,
        "remote_group": rule.remote_group,
    }
