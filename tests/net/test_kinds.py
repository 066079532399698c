"""What each kind of network must say: pure."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from net.kinds import tunnel_name_for, vlan_name_for
from net.plan import bridge_plan_for
from taskvisor.model.errors import Refused
from taskvisor.model.network import HostLinks, Network, NetworkKind
from tests.net.plans import network, vif


@pytest.mark.parametrize(
    ("on", "sentence"),
    [
        (
            {"kind": NetworkKind.VLAN, "physical": "p"},
            "segment: that of network net-9 is None; a VLAN is from 1 to 4094",
        ),
        ({"kind": NetworkKind.VLAN, "physical": "p", "segment": 4095}, "is 4095; a VLAN is from 1 to 4094"),
        ({"kind": NetworkKind.VLAN, "segment": 7}, "physical: network net-9 of kind vlan names no physical network"),
        ({"kind": NetworkKind.FLAT}, "physical: network net-9 of kind flat"),
        ({"kind": NetworkKind.MACVTAP}, "physical: network net-9 of kind macvtap"),
        ({"kind": NetworkKind.VXLAN}, "is None; a VNI is from 1 to 16777215"),
        ({"kind": NetworkKind.VXLAN, "segment": 1 << 24}, "is 16777216; a VNI is from 1 to 16777215"),
        ({"kind": NetworkKind.EXISTING}, "bridge: that of network net-9 is ''"),
        ({"kind": NetworkKind.EXISTING, "bridge": "a-name-of-16-byt"}, "use 1 to 15 bytes"),
        ({"kind": NetworkKind.EXISTING, "bridge": "br/0"}, "which no link can be called"),
        ({"kind": NetworkKind.OVS, "bridge": "br-int", "segment": 0}, "a VLAN is from 1 to 4094"),
    ],
)
def test_a_network_that_does_not_say_what_its_kind_needs_is_refused(on: dict[str, object], sentence: str) -> None:
    bad: Network = replace(network(), **on)  # type: ignore[arg-type]
    with pytest.raises(Refused, match=sentence):
        vif(0, bad)


def test_the_plan_says_where_a_port_goes_on_each_kind() -> None:
    links = HostLinks(uplinks={"lan": "eth1"}, tunnel_address="192.0.2.1")
    existing = vif(0, replace(network(), kind=NetworkKind.EXISTING, bridge="br-lan"), links)
    assert (existing.bridge, existing.uplink) == ("br-lan", None)
    flat = vif(0, replace(network(), kind=NetworkKind.FLAT, physical="lan"), links)
    assert (flat.bridge, flat.uplink) == (vif().bridge, "eth1")
    vxlan = vif(0, replace(network(), kind=NetworkKind.VXLAN, segment=100), links)
    assert (vxlan.bridge, vxlan.segment, vxlan.tunnel_address) == (vif().bridge, 100, "192.0.2.1")


@pytest.mark.parametrize(
    ("kind", "holds"),
    [(NetworkKind.NAT, True), (NetworkKind.VXLAN, True), (NetworkKind.FLAT, False), (NetworkKind.VLAN, False)],
)
def test_our_bridge_holds_the_gateway_only_where_no_router_does(kind: NetworkKind, holds: bool) -> None:
    assert (
        bridge_plan_for(vif(0, replace(network(), kind=kind, segment=7, physical="lan"))).gateway is not None
    ) is holds


@given(
    st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=15), st.integers(1, 4094)
)
def test_every_name_fits(uplink: str, vlan: int) -> None:
    assert len(vlan_name_for(uplink, vlan).encode()) <= 15
    assert len(tunnel_name_for((1 << 24) - 1)) <= 15
