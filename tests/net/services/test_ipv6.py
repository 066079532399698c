"""What guests get of IPv6: advertisements, addresses, names. Asked by clients and a kernel that are not ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from net.fabric import LinuxFabric
from net.plan import vif_plan_for
from net.services.dnsmasq import Lease6, parse_leases6, paths_for
from net.services.ipv6 import ipv6_arguments_for
from net.services.release6 import release6_for
from net.services.site import site_for
from taskvisor.model.errors import DoesNotFit, Refused
from taskvisor.model.network import Ipv6Mode, NetworkKind
from taskvisor.model.plan import VifPlan
from tests.net.hosts import daemons_of, guest_on
from tests.net.plans import network, port, vif
from tests.net.services.clients import (
    addresses_of,
    advertisement_to,
    eventually,
    lease_of,
    run_inside,
)

SLAAC, STATEFUL = network(ipv6=Ipv6Mode.SLAAC), network(ipv6=Ipv6Mode.DHCPV6)
LEASE6 = Lease6(iaid=10, address="fd00:9::a", duid="00:01", server_duid="00:03:02", line="1 10 fd00:9::a web-0 00:01")


@contextmanager
def plugged(fabric: LinuxFabric, *vifs: VifPlan) -> Iterator[None]:
    """The NICs are on the host, and off it afterwards."""
    for nic in vifs:
        fabric.ensure_plugged(nic)
    try:
        yield
    finally:
        for nic in vifs:
            fabric.ensure_unplugged(nic)


@contextmanager
def guest_with_mac_of(nic: VifPlan, state_dir: Path) -> Iterator[str]:
    """A namespace on the NIC's bridge that has its MAC, as a guest's kernel would."""
    with guest_on(nic.bridge, state_dir.name[-8:], "", "", nic.mac) as guest:
        yield guest


@pytest.mark.real
def test_a_kernel_makes_the_very_address_that_the_port_has(fabric: LinuxFabric, state_dir: Path) -> None:
    nic = vif(on=SLAAC)
    with plugged(fabric, nic), guest_with_mac_of(nic, state_dir) as guest:
        assert eventually(lambda: nic.address6 in addresses_of(guest))


@pytest.mark.real
def test_what_is_advertised_makes_addresses_and_names_dns_and_mtu_but_no_way_out(
    fabric: LinuxFabric, state_dir: Path
) -> None:
    nic = vif(on=SLAAC)
    with plugged(fabric, nic), guest_with_mac_of(nic, state_dir) as guest:
        said = advertisement_to(guest)
    assert said["Prefix"] == "fd00:9::/64"
    assert said["Autonomous address conf."] == "Yes"
    assert said["Stateful address conf."] == "No"
    assert said["MTU"].split()[0] == "1450"
    assert said["Recursive DNS server"] == "fd00:9::1"
    assert said["Router lifetime"].split()[0] == "0"


@pytest.mark.real
def test_a_known_mac_gets_its_address_by_dhcpv6(fabric: LinuxFabric, state_dir: Path) -> None:
    nic = vif(on=STATEFUL)
    with plugged(fabric, nic), guest_with_mac_of(nic, state_dir) as guest:
        said = advertisement_to(guest)
        assert (said["Autonomous address conf."], said["Stateful address conf."]) == ("No", "Yes")
        lease = lease_of(guest, state_dir / "client", family="-6")
    assert lease["new_ip6_address"] == nic.address6 == "fd00:9::a"
    assert lease["new_dhcp6_name_servers"] == "fd00:9::1"


@pytest.mark.real
def test_an_address_of_a_removed_port_serves_the_next_ones_dhcpv6_at_once(fabric: LinuxFabric, state_dir: Path) -> None:
    stays, goes = vif(0, STATEFUL), vif(1, STATEFUL)
    comes = replace(vif(40, STATEFUL), address=goes.address, address6=goes.address6)
    leases = paths_for(state_dir / "net" / "networks", goes.network_id).leases
    with plugged(fabric, stays):
        fabric.ensure_plugged(goes)
        with guest_with_mac_of(goes, state_dir) as guest:
            assert lease_of(guest, state_dir / "first", family="-6")["new_ip6_address"] == goes.address6
        before = daemons_of(state_dir)
        fabric.ensure_unplugged(goes)
        assert eventually(lambda: not parse_leases6(leases.read_text()))
        with plugged(fabric, comes), guest_with_mac_of(comes, state_dir) as guest:
            assert lease_of(guest, state_dir / "second", family="-6")["new_ip6_address"] == goes.address6
            assert daemons_of(state_dir) == before, "the lease was released, so no restart was needed"


@pytest.mark.real
def test_a_dhcpv6_lease_that_nobody_released_is_dropped(
    fabric: LinuxFabric, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stays, goes = vif(0, STATEFUL), vif(1, STATEFUL)
    comes = replace(vif(40, STATEFUL), address=goes.address, address6=goes.address6)
    monkeypatch.setattr("net.services.dhcp.send_release6", lambda *_: None)  # the packet is lost
    with plugged(fabric, stays):
        fabric.ensure_plugged(goes)
        with guest_with_mac_of(goes, state_dir) as guest:
            assert lease_of(guest, state_dir / "first", family="-6")
        fabric.ensure_unplugged(goes)
        with plugged(fabric, comes), guest_with_mac_of(comes, state_dir) as guest:
            assert lease_of(guest, state_dir / "second", family="-6")["new_ip6_address"] == goes.address6


@pytest.mark.real
def test_guests_find_each_other_by_name_in_both_families_before_they_have_a_lease(
    fabric: LinuxFabric, state_dir: Path
) -> None:
    nic = vif(on=SLAAC)
    with plugged(fabric, nic), guest_on(nic.bridge, state_dir.name[-8:], "10.9.0.99", "10.9.0.1") as guest:
        assert nic.address in run_inside(guest, "busybox", "nslookup", "-type=a", "web-0", "10.9.0.1")
        assert str(nic.address6) in run_inside(guest, "busybox", "nslookup", "-type=aaaa", "web-0", "10.9.0.1")


@pytest.mark.real
def test_the_host_takes_nothing_from_what_guests_advertise(fabric: LinuxFabric) -> None:
    nic = vif(on=SLAAC)
    with plugged(fabric, nic):
        switches = {
            name: Path(f"/proc/sys/net/ipv6/conf/{nic.bridge}/{name}").read_text().strip()
            for name in ("accept_ra", "autoconf", "accept_dad", "disable_ipv6")
        }
    assert set(switches.values()) == {"0"}


@pytest.mark.real
def test_a_network_whose_ipv6_another_link_of_the_host_has_does_not_fit(fabric: LinuxFabric, state_dir: Path) -> None:
    nic = vif(on=SLAAC)
    with IPRoute() as host:
        host.link("add", ifname="other", kind="bridge")
        index = host.link_lookup(ifname="other")[0]
        host.addr("add", index=index, address="fd00:9::77", prefixlen=64)
        with pytest.raises(DoesNotFit, match="fd00:9::77/64"):
            fabric.ensure_plugged(nic)
        host.link("del", index=index)
    fabric.ensure_unplugged(nic)


def test_a_network_without_ipv6_has_dnsmasq_say_nothing_of_it() -> None:
    assert ipv6_arguments_for(vif(), site_for(vif())) == ()


def test_where_the_router_is_elsewhere_nothing_is_advertised() -> None:
    nic = vif(on=network(ipv6=Ipv6Mode.SLAAC, kind=NetworkKind.FLAT))
    assert ipv6_arguments_for(nic, site_for(nic)) == ()


def test_named_servers_of_both_families_are_told_each_in_its_own() -> None:
    nic = vif(on=network(ipv6=Ipv6Mode.SLAAC, dns=("192.0.2.53", "2001:db8::53")))
    assert "--dhcp-option=option6:dns-server,[2001:db8::53]" in ipv6_arguments_for(nic, site_for(nic))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (replace(SLAAC, cidr6="fd00:9::/80"), "cidr6: fd00:9::/80; guests make addresses"),
        (replace(SLAAC, cidr6="fd00:9::1/64"), "cidr6: fd00:9::1/64 has host bits set"),
        (replace(SLAAC, gateway6="fd00:8::1"), "gateway6: fd00:8::1 is not in fd00:9::/64"),
        (replace(SLAAC, gateway6="fe80"), "gateway6: .*it must be an IPv6 address of fd00:9::/64"),
        (replace(SLAAC, mtu=1279), "mtu: 1279; IPv6 needs at least 1280"),
    ],
)
def test_ipv6_that_cant_be_is_refused_in_words(changed: object, words: str) -> None:
    with pytest.raises(Refused, match=words):
        vif_plan_for(port(0, SLAAC), changed, hostname="web-0")  # type: ignore[arg-type]


def test_a_ports_ipv6_address_outside_of_its_network_is_refused() -> None:
    with pytest.raises(Refused, match="address6: fd00:8::5 is not in fd00:9::/64"):
        vif_plan_for(replace(port(0, SLAAC), address6="fd00:8::5"), SLAAC, hostname="web-0")


def test_a_release_is_by_the_rfc() -> None:
    assert release6_for(LEASE6).hex() == "".join(
        (
            "08000001",  # RELEASE, transaction
            "000100020001",  # the client
            "00020003000302",  # the server
            "000800020000",  # elapsed time
            "00030028" + "0000000a" + "00000000" * 2,  # IA_NA: its id, T1, T2
            "00050018" + "fd000009" + "00000000" * 2 + "0000000a" + "00000000" * 2,  # the address, its lifetimes
        )
    )


def test_ipv6_leases_are_told_from_the_others() -> None:
    text = "1 52:54:00:00:00:01 10.9.0.10 web-0 *\nduid 00:03:02\n1 10 fd00:9::a web-0 00:01\n1 T11 fd00:9::b * 00:02\n"
    assert parse_leases6(text) == (LEASE6,)
    assert parse_leases6("1 10 fd00:9::a web-0 00:01\n") == (), "of a server that is not known"
