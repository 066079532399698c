"""Bridges on a real kernel."""

from dataclasses import replace
from ipaddress import IPv4Interface

import pytest
from pyroute2 import IPRoute

from net.links.bridge import ensure_bridge, ensure_bridge_absent_when_unused
from net.links.link import BRIDGE
from net.links.netlink import open_netlink
from net.plan import BridgePlan
from taskvisor.model.errors import Contradiction

pytestmark = pytest.mark.real

PLAN = BridgePlan(
    name="brq0f4c9e1a-77",
    owner="taskvisor:network:x",
    mac="02:00:00:00:00:01",
    mtu=1450,
    gateway=IPv4Interface("10.9.0.1/24"),
)


def test_a_bridge_keeps_its_mac_and_mtu_whatever_is_put_on_it(host_namespace: str) -> None:
    with open_netlink() as netlink, IPRoute() as ipr:
        bridge = ensure_bridge(netlink, PLAN)
        ipr.link("add", ifname="v0", kind="veth", peer="v1", address="02:00:00:00:00:00")
        port = netlink.read_link("v0")
        assert port is not None
        netlink.ensure_mtu(port, 1300)
        netlink.ensure_port(port, bridge)
        now = netlink.read_link(PLAN.name)
        assert now is not None
        assert (now.mac, now.mtu) == (PLAN.mac, PLAN.mtu)
        ensure_bridge_absent_when_unused(netlink, PLAN)
        assert netlink.read_link(PLAN.name) is not None, "something is on it"
        netlink.ensure_link_absent(port)
        ensure_bridge_absent_when_unused(netlink, PLAN)
        ensure_bridge_absent_when_unused(netlink, PLAN)
        assert netlink.read_link(PLAN.name) is None


def test_spanning_tree_is_off_and_ports_forward_at_once(host_namespace: str) -> None:
    with open_netlink() as netlink, IPRoute() as ipr:
        bridge = ensure_bridge(netlink, PLAN)
        data = ipr.link("get", index=bridge.index)[0].get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
        assert (data.get_attr("IFLA_BR_STP_STATE"), data.get_attr("IFLA_BR_FORWARD_DELAY")) == (0, 0)
        ensure_bridge_absent_when_unused(netlink, PLAN)


def test_a_half_made_bridge_is_known_by_its_mac(host_namespace: str) -> None:
    with open_netlink() as netlink:
        netlink.ensure_bridge_exists(PLAN.name, mac=PLAN.mac)
        bridge = ensure_bridge(netlink, PLAN)
        now = netlink.read_link(PLAN.name)
        assert now is not None
        assert (now.index, now.alias) == (bridge.index, PLAN.owner)
        ensure_bridge_absent_when_unused(netlink, PLAN)


@pytest.mark.parametrize(("mac", "alias"), [("02:00:00:00:00:02", ""), (PLAN.mac, "somebody's")])
def test_another_bridge_of_that_name_is_left_alone(host_namespace: str, mac: str, alias: str) -> None:
    with open_netlink() as netlink:
        netlink.ensure_bridge_exists(PLAN.name, mac=mac)
        bridge = netlink.read_link(PLAN.name)
        assert bridge is not None
        if alias:
            netlink.ensure_alias(bridge, alias)
        before = netlink.read_link(PLAN.name)
        with pytest.raises(Contradiction, match="left alone"):
            ensure_bridge(netlink, PLAN)
        ensure_bridge_absent_when_unused(netlink, PLAN)
        assert netlink.read_link(PLAN.name) == before


def test_a_link_that_is_no_bridge_is_left_alone_even_with_our_alias(host_namespace: str) -> None:
    with open_netlink() as netlink, IPRoute() as ipr:
        ipr.link("add", ifname=PLAN.name, kind="veth", peer="v1")
        link = netlink.read_link(PLAN.name)
        assert link is not None
        assert link.kind != BRIDGE
        netlink.ensure_alias(link, PLAN.owner)
        with pytest.raises(Contradiction):
            ensure_bridge(netlink, PLAN)
        netlink.ensure_link_absent(link)


def test_a_segment_whose_gateway_is_elsewhere_has_a_bridge_without_an_address(host_namespace: str) -> None:
    with open_netlink() as netlink:
        bridge = ensure_bridge(netlink, replace(PLAN, gateway=None))
        assert netlink.list_addresses_of(bridge) == ()
        ensure_bridge_absent_when_unused(netlink, PLAN)
