"""Which networks can be side by side on a host."""

from typing import Any

import pytest

from taskvisor.model.ids import NetworkId
from taskvisor.model.network import Network, NetworkKind
from taskvisor.model.network_clash import clash_of, holder_of

K = NetworkKind


def network(kind: NetworkKind, cidr: str = "10.5.0.0/24", **fields: Any) -> Network:
    return Network(id=NetworkId("n"), name="there", kind=kind, cidr=cidr, gateway="x", **fields)


@pytest.mark.parametrize(
    ("asked", "there", "reason"),
    [
        (network(K.NAT), network(K.NAT, "10.5.0.0/16"), "cidr: 10.5.0.0/24 overlaps 10.5.0.0/16 of network 'there'"),
        (network(K.NAT), network(K.VXLAN, segment=7), "cidr: 10.5.0.0/24 overlaps 10.5.0.0/24 of network 'there'"),
        (network(K.ROUTED), network(K.NAT), "cidr: 10.5.0.0/24 overlaps"),
        (
            network(K.NAT, cidr6="fd00::/64"),
            network(K.NAT, "10.6.0.0/24", cidr6="fd00::/48"),
            "cidr6: fd00::/64 overlaps fd00::/48 of network 'there'",
        ),
        (
            network(K.VXLAN, segment=7),
            network(K.VXLAN, "10.6.0.0/24", segment=7),
            "segment: VNI 7 is that of network 'there'",
        ),
        (
            network(K.VLAN, physical="p", segment=7),
            network(K.VLAN, physical="p", segment=7),
            "segment: VLAN 7 of p is that of network 'there'",
        ),
        (network(K.FLAT, physical="p"), network(K.FLAT, physical="p"), "physical: 'p' is taken whole by flat network"),
        (network(K.MACVTAP, physical="p"), network(K.FLAT, physical="p"), "physical: 'p' is taken whole by flat"),
        (network(K.FLAT, physical="p"), network(K.MACVTAP, physical="p"), "physical: 'p' is taken whole by macvtap"),
    ],
)
def test_what_one_host_could_not_have_twice_clashes(asked: Network, there: Network, reason: str) -> None:
    clash = clash_of(asked, [network(K.EXISTING, bridge="br0"), there])

    assert clash is not None
    assert clash.startswith(reason)


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        (network(K.FLAT, physical="p"), network(K.NAT)),
        (network(K.VLAN, physical="p", segment=7), network(K.VLAN, physical="p", segment=8)),
        (network(K.VLAN, physical="p", segment=7), network(K.VLAN, physical="q", segment=7)),
        (network(K.VLAN, physical="p", segment=7), network(K.FLAT, physical="p")),
        (network(K.MACVTAP, physical="p"), network(K.MACVTAP, physical="p")),
        (network(K.OVS, bridge="br0", segment=7), network(K.VXLAN, segment=7)),
        (network(K.NAT), network(K.NAT, "10.6.0.0/24")),
    ],
)
def test_what_a_host_can_have_both_of_does_not(asked: Network, there: Network) -> None:
    assert clash_of(asked, [there]) is None


def test_an_outer_address_is_in_no_subnet_that_hosts_hold() -> None:
    assert holder_of("10.5.0.9", [network(K.FLAT, physical="p")]) is None
    assert holder_of("10.5.0.9", [network(K.ROUTED)]) == network(K.ROUTED)
