"""Networks without a segment: a route to each TAP."""

import json
from dataclasses import replace

import pytest

from taskvisor.model.errors import DoesNotFit
from taskvisor.model.network import Network, NetworkKind
from taskvisor.model.plan import VifPlan
from tests.net.lan import LanHost, asked, guest_at
from tests.net.plans import network, open_vif

pytestmark = pytest.mark.real

Lan = tuple[LanHost, ...]


def routed() -> Network:
    return replace(network(9, mtu=1500), kind=NetworkKind.ROUTED, cidr6="fd00:9::/64", gateway6="fd00:9::1")


def nic_of(number: int) -> VifPlan:
    return replace(open_vif(number, routed()), address6=f"fd00:9::{10 + number}")


def test_guests_reach_each_other_their_gateway_and_another_host_that_knows_the_way(lan: Lan) -> None:
    one, two = lan[:2]
    first, second, far = nic_of(0), nic_of(1), nic_of(2)
    for host, nic in ((one, first), (one, second), (two, far)):
        host.plug(nic)
    one.ask("ip", "route", "add", far.address, "via", two.address)  # what a routing daemon would do
    for nic in (first, second):
        two.ask("ip", "route", "add", nic.address, "via", one.address)
    tag = one.namespace[:6]
    with (
        guest_at(one, first, f"{tag}g0") as guest,
        guest_at(one, second, f"{tag}g1"),
        guest_at(two, far, f"{tag}g2"),
    ):
        assert guest.reaches(second.address, payload_bytes=1472), "taken for a neighbour, and answered for by the host"
        assert guest.reaches(far.address), "taken for a neighbour, too"
        assert guest.reaches(routed().gateway)
        said = asked(guest.namespace, "ip", "-j", "neigh", "show", second.address)
        (tap,) = json.loads(one.ask("ip", "-j", "link", "show", first.tap))
        assert [entry["lladdr"] for entry in json.loads(said)] == [tap["address"]], (
            "the host's MAC, not the other guest's"
        )
        for address in (f"{first.address6}/128", "default via fd00:9::1"):
            verb = ["route", "add", *address.split()] if "via" in address else ["addr", "add", address]
            onlink = [] if "/128" in address else ["onlink"]
            asked(guest.namespace, "ip", "-6", *verb, "dev", "eth0", *onlink)
        assert guest.reaches("fd00:9::1")
    for host, nic in ((one, first), (one, second), (two, far)):
        host.unplug(nic)


def test_each_port_has_its_routes_and_no_bridge_is_made(lan: Lan) -> None:
    host, nic = lan[0], nic_of(0)
    for _ in range(2):
        host.plug(nic)
    names = {link["ifname"] for link in json.loads(host.ask("ip", "-j", "link"))}
    assert names == {"lo", "eth0", nic.tap}
    routes = json.loads(host.ask("ip", "-N", "-j", "route", "show", "proto", "84"))
    assert [(route["dst"], route["dev"]) for route in routes] == [(nic.address, nic.tap)]
    routes = json.loads(host.ask("ip", "-6", "-N", "-j", "route", "show", "proto", "84"))
    assert [(route["dst"], route["dev"]) for route in routes] == [(nic.address6, nic.tap)]
    host.unplug(nic)
    assert json.loads(host.ask("ip", "-N", "-j", "route", "show", "proto", "84")) == []


def test_the_ports_of_other_guests_stay_as_they_are_when_one_goes(lan: Lan) -> None:
    host = lan[0]
    host.plug(nic_of(0))
    alone = host.ask("ip", "-4", "-o", "addr") + host.ask("ip", "route")
    host.plug(nic_of(1))
    host.unplug(nic_of(1))
    assert host.ask("ip", "-4", "-o", "addr") + host.ask("ip", "route") == alone
    host.unplug(nic_of(0))


def test_a_host_that_has_the_gateways_address_elsewhere_does_not_fit(lan: Lan) -> None:
    host = lan[0]
    host.ask("ip", "addr", "add", "10.9.0.1/24", "dev", "eth0")
    with pytest.raises(DoesNotFit, match=r"eth0 of this host has 10\.9\.0\.1"):
        host.plug(nic_of(0))
    host.unplug(nic_of(0))
