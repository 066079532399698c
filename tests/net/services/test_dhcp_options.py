"""What DHCP tells besides the address, on a network whose gateway is ours."""

from dataclasses import replace
from pathlib import Path

import pytest

from net.fabric import LinuxFabric
from net.services.dhcp_options import dns_arguments_for, option_arguments_for, routes_for
from net.services.site import METADATA_ADDRESS, site_for
from taskvisor.model.network import NetworkKind, Route
from tests.net.hosts import guest_on
from tests.net.plans import network, vif
from tests.net.services.clients import lease_of, routes_of

ROUTES = (
    Route(destination="198.51.100.0/24", via="10.9.0.7"),
    Route(destination="203.0.113.128/25", via="10.9.0.8"),
    Route(destination="2001:db8::/32", via="fd00:9::7"),
)
NIC = replace(vif(), routes=ROUTES, ntp=("192.0.2.123", "2001:db8::123"))


@pytest.mark.real
def test_a_client_is_told_routes_time_servers_and_mtu(fabric: LinuxFabric, state_dir: Path) -> None:
    fabric.ensure_plugged(NIC)
    with guest_on(NIC.bridge, state_dir.name[-8:], "", "", NIC.mac) as guest:
        lease = lease_of(guest, state_dir / "client")
    fabric.ensure_unplugged(NIC)
    assert lease["new_ip_address"] == NIC.address
    assert lease["new_ntp_servers"] == "192.0.2.123"
    assert lease["new_interface_mtu"] == "1450"
    assert routes_of(lease["new_classless_routes"]) == {
        f"{METADATA_ADDRESS}/32": "10.9.0.1",
        "198.51.100.0/24": "10.9.0.7",
        "203.0.113.128/25": "10.9.0.8",
        "0.0.0.0/0": "10.9.0.1",
    }


def test_a_network_that_leads_nowhere_has_no_default_route_but_one_to_the_metadata() -> None:
    nic = replace(vif(), nat=False)
    assert list(routes_for(nic, site_for(nic))) == [f"{METADATA_ADDRESS}/32,10.9.0.1"]


def test_somebody_elses_router_is_told_whatever_nat_says() -> None:
    nic = replace(vif(on=network(kind=NetworkKind.FLAT)), nat=False)
    assert "--dhcp-option=option:router,10.9.0.1" in option_arguments_for(nic, site_for(nic))
    assert list(routes_for(nic, site_for(nic)))[-1] == "0.0.0.0/0,10.9.0.1"


def test_no_dns_is_served_where_the_host_has_no_way_to_the_guests() -> None:
    nic = vif(on=network(kind=NetworkKind.FLAT))
    assert dns_arguments_for(nic, site_for(nic)) == ("--port=0",)
    named = replace(nic, dns=("192.0.2.53", "2001:db8::53"))
    assert dns_arguments_for(named, site_for(named)) == ("--port=0", "--dhcp-option=option:dns-server,192.0.2.53")
