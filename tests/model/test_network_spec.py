"""What may be asked of networks: every refusal names field, value and rule, and what is let in is sound."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskvisor.model.errors import Refused
from taskvisor.model.ids import NetworkId
from taskvisor.model.network import Ipv6Mode, Network, NetworkKind, Route
from taskvisor.model.network_spec import BRIDGE_NEEDED, PHYSICAL_NEEDED, NetworkSpec, network_for
from taskvisor.model.spec import parse_spec
from taskvisor.model.subnets import slaac_address_for, subnets_of, taken_addresses

ID = NetworkId("n")
LEAST: dict[str, Any] = {"name": "lab", "cidr": "10.5.0.0/24"}


def network(**fields: Any) -> Network:
    return network_for(parse_spec(NetworkSpec, {**LEAST, **fields}), ID)


def test_what_is_left_open_follows_from_the_rest() -> None:
    assert network() == Network(
        id=ID, name="lab", kind=NetworkKind.NAT, cidr="10.5.0.0/24", gateway="10.5.0.1", mtu=1500, nat=True
    )


def test_a_tunnel_takes_fifty_bytes_and_ipv6_has_its_gateway() -> None:
    made = network(
        kind="vxlan", segment=7, cidr6="FD00:5:0::/64", routes=[{"destination": "10.9.0.0/16", "via": "10.5.0.9"}]
    )

    assert (made.mtu, made.nat, made.cidr6, made.gateway6) == (1450, True, "fd00:5::/64", "fd00:5::1")
    assert made.routes == (Route(destination="10.9.0.0/16", via="10.5.0.9"),)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": "la b"}, "name: 'la b': must be 1 to 63 letters"),
        ({"cidr": "10.5.0.0"}, "cidr: '10.5.0.0': must be a network and its prefix, like 10.5.0.0/24"),
        ({"cidr": "10.5.0.7/24"}, "cidr: '10.5.0.7/24': has bits beyond its prefix; 10.5.0.0/24 may be meant"),
        ({"cidr": "10.5.0.0/31"}, "cidr: '10.5.0.0/31': its prefix must be 8 to 30 bits, not 31"),
        ({"cidr": "127.0.0.0/24"}, "cidr: '127.0.0.0/24': overlaps 127.0.0.0/8, which is loopback"),
        ({"cidr": "224.0.0.0/24"}, "cidr: '224.0.0.0/24': overlaps 224.0.0.0/4, which is multicast"),
        ({"cidr": "fd00::/64"}, "cidr: 'fd00::/64': must be a network and its prefix"),
        ({"gateway": "10.6.0.1"}, "gateway: '10.6.0.1': must be in 10.5.0.0/24"),
        ({"gateway": "10.5.0.255"}, "gateway: '10.5.0.255': is the network's own or its broadcast address"),
        ({"cidr6": "fd00:5::/48"}, "cidr6: 'fd00:5::/48': must be a /64 where guests make their addresses"),
        ({"cidr6": "fe80::/64"}, "cidr6: 'fe80::/64': overlaps fe80::/10, which is link-local"),
        ({"cidr6": "ff05::/64"}, "cidr6: 'ff05::/64': overlaps ff00::/8, which is multicast"),
        ({"cidr6": "fd00::/64", "gateway6": "fd01::1"}, "gateway6: 'fd01::1': must be in fd00::/64"),
        ({"cidr6": "fd00::/64", "gateway6": "fd00::"}, "gateway6: 'fd00::': is the network's own"),
        ({"gateway6": "fd00::1"}, "gateway6: 'fd00::1': the network has no cidr6"),
        ({"mtu": 575}, "mtu: 575: input should be greater than or equal to 576"),
        ({"mtu": 65536}, "mtu: 65536: input should be less than or equal to 65535"),
        ({"mtu": 1279, "cidr6": "fd00::/64"}, "mtu: 1279: must be at least 1280 with IPv6"),
        ({"kind": "vlan", "physical": "p"}, "segment: missing; a vlan network must have a VLAN"),
        ({"kind": "vlan", "physical": "p", "segment": 4095}, "segment: 4095: a VLAN is 1 to 4094"),
        ({"kind": "ovs", "bridge": "br0", "segment": 4095}, "segment: 4095: a VLAN is 1 to 4094"),
        ({"kind": "vxlan"}, "segment: missing; a vxlan network must have a VNI"),
        ({"kind": "vxlan", "segment": 1 << 24}, "segment: 16777216: input should be less than or equal to 16777215"),
        ({"kind": "vxlan", "segment": 0}, "segment: 0: input should be greater than or equal to 1"),
        ({"segment": 7}, "segment: 7: a nat network has none; leave it out"),
        ({"kind": "flat"}, "physical: missing; a flat network must say which"),
        ({"physical": "p"}, "physical: 'p': is for networks of kind flat, macvtap, vlan, not nat"),
        ({"kind": "existing"}, "bridge: missing; a existing network must say which"),
        (
            {"kind": "existing", "bridge": "a" * 16},
            f"bridge: '{'a' * 16}': is 16 bytes; an interface's name has at most 15",
        ),
        ({"kind": "existing", "bridge": "br/0"}, "bridge: 'br/0': must be an interface's name"),
        ({"bridge": "br0"}, "bridge: 'br0': is for networks of kind existing, ovs, not nat"),
        ({"kind": "flat", "physical": "p", "nat": True}, "nat: True: the gateway of a flat network is not ours"),
        ({"dns": ["resolver"]}, "dns.0: 'resolver': must be an IP address, like 10.5.0.53"),
        ({"dns": ["1.1.1.1", "1.1.1.1"]}, "dns: '1.1.1.1': is there twice"),
        ({"ntp": ["fe80::1%eth0"]}, "ntp.0: 'fe80::1%eth0': must be without a zone"),
        (
            {"routes": [{"destination": "10.9.0.1/16", "via": "10.5.0.9"}]},
            "routes.0.destination: '10.9.0.1/16': has bits beyond its prefix; 10.9.0.0/16 may be meant",
        ),
        (
            {"routes": [{"destination": "10.9.0.0/16", "via": "10.6.0.9"}]},
            "routes.0.via: '10.6.0.9': must be in 10.5.0.0/24",
        ),
        (
            {"routes": [{"destination": "fd09::/64", "via": "10.5.0.9"}]},
            "routes.0: fd09::/64 via 10.5.0.9: must both be IPv4, or both IPv6",
        ),
        (
            {"routes": [{"destination": "fd09::/64", "via": "fd00::9"}]},
            "routes.0.via: 'fd00::9': the network has no cidr6",
        ),
        ({"vlan": 7}, "vlan: unknown field; remove it or check its spelling"),
    ],
)
def test_what_can_not_be_is_refused_with_field_value_and_rule(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused) as refusal:
        network(**fields)

    assert str(refusal.value).startswith(reason)


PLAUSIBLE = st.fixed_dictionaries(
    {"kind": st.sampled_from([kind.value for kind in NetworkKind])},
    optional={
        "cidr": st.builds(
            lambda base, bits: f"{ip_address(base)}/{bits}", st.integers(0, (1 << 32) - 1), st.integers(0, 33)
        )
        | st.sampled_from(("10.5.0.0/24", "192.168.0.0/16", "10.0.0.0/30", "x/8", "10.0.0.0/255.255.0.0")),
        "gateway": st.sampled_from(("10.5.0.9", "10.5.0.0", "10.5.0.255", "10.0.0.1", "", "10.5.0")),
        "cidr6": st.sampled_from(("fd00::/64", "fd00::/120", "fe80::/64", "::/64", "fd00::1/64", "10.0.0.0/8")),
        "gateway6": st.sampled_from(("fd00::1", "fd00::", "fe80::1", "::1", "fd00::1%1")),
        "ipv6_mode": st.sampled_from(("slaac", "dhcpv6", "static")),
        "segment": st.integers(-1, 1 << 25),
        "physical": st.sampled_from(("p0", "", "a b", "x" * 64)),
        "bridge": st.text(max_size=17),
        "mtu": st.integers(0, 70_000),
        "nat": st.booleans(),
        "dns": st.lists(st.sampled_from(("10.5.0.53", "fd00::53", "::ffff:1.2.3.4", "dns")), max_size=9),
    },
)


@given(fields=PLAUSIBLE)
def test_whatever_is_asked_it_is_a_sound_network_or_a_sentence(fields: dict[str, Any]) -> None:
    try:
        made = network(**fields)
    except Refused:
        return
    subnets = subnets_of(made)
    assert [str(subnet) for subnet in subnets] == [one for one in (made.cidr, made.cidr6) if one]
    assert ip_address(made.gateway) in subnets[0]
    assert subnets[0].num_addresses - 2 > sum(ip_address(one) in subnets[0] for one in taken_addresses(made))
    assert not any(ip_network(one).is_multicast or ip_network(one).is_loopback for one in map(str, subnets))
    assert 576 <= made.mtu <= 65535
    if made.cidr6 is not None:
        assert made.mtu >= 1280
        assert made.ipv6_mode is not Ipv6Mode.SLAAC or subnets[1].prefixlen == 64
        assert ip_address(str(made.gateway6)) in subnets[1]
    assert (made.physical is not None) == (made.kind in PHYSICAL_NEEDED)
    assert (made.bridge is not None) == (made.kind in BRIDGE_NEEDED)
    assert made.bridge is None or len(made.bridge.encode()) <= 15
    assert made.segment is None or 1 <= made.segment <= (0xFFFFFF if made.kind is NetworkKind.VXLAN else 4094)


def test_a_guests_own_address_is_that_of_rfc_4291() -> None:
    assert slaac_address_for("2001:db8::/64", "34:56:78:9a:bc:de") == "2001:db8::3656:78ff:fe9a:bcde"
