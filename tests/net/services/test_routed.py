"""What guests of `routed` networks are served, each by its own TAP: by clients that are not ours, in guests' namespaces."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from net.fabric import LinuxFabric
from net.filters.port_filters import read_port_listing
from net.filters.tap_services import SERVED, SERVERS, WAYS
from net.services.metadata import Place
from net.services.process import list_pids_with, open_process
from net.services.site import METADATA_ADDRESS, TAPS_PORT
from taskvisor.model.network import Network, NetworkKind
from taskvisor.model.observed import PlugPart
from taskvisor.model.plan import VifPlan
from tests.net.guest import DISCOVER, REQUEST, SILENCE_S, open_guest
from tests.net.hosts import daemons_of
from tests.net.plans import network, open_vif, vif
from tests.net.services.clients import eventually, lease_of, routes_of, run_inside
from tests.net.stack import give_address, stack_behind

pytestmark = pytest.mark.real

URL = f"http://{METADATA_ADDRESS}/latest/meta-data/instance-id"


def routed(number: int = 9, *, dns: tuple[str, ...] = ()) -> Network:
    return replace(network(number, kind=NetworkKind.ROUTED, dns=dns), nat=False, ntp=("192.0.2.123",))


def nic_of(number: int, on: Network | None = None) -> VifPlan:
    return vif(number, on or routed())


@contextmanager
def plugged(fabric: LinuxFabric, *nics: VifPlan) -> Iterator[None]:
    """The NICs are plugged, and each guest told its own name."""
    with ExitStack() as stack:
        for nic in nics:
            fabric.ensure_plugged(nic)
            stack.callback(fabric.ensure_unplugged, nic)
            fabric.ensure_told(nic, {"latest/meta-data/instance-id": nic.hostname})
        yield


@contextmanager
def guest_of(nic: VifPlan) -> Iterator[str]:
    with stack_behind(nic.tap, nic.mac, f"r{nic.port_id[:10]}") as guest:
        yield guest


def test_a_guest_is_told_its_address_its_router_and_all_else_by_dhcp(fabric: LinuxFabric, tmp_path: Path) -> None:
    nic = nic_of(0)
    with plugged(fabric, nic), guest_of(nic) as guest:
        lease = lease_of(guest, tmp_path)
    assert lease["new_ip_address"] == nic.address
    assert (
        lease["new_routers"] == lease["new_domain_name_servers"] == lease["new_dhcp_server_identifier"] == nic.gateway
    )
    assert (lease["new_interface_mtu"], lease["new_ntp_servers"]) == (str(nic.mtu), "192.0.2.123")
    assert routes_of(lease["new_classless_routes"]) == {
        f"{METADATA_ADDRESS}/32": nic.gateway,
        "0.0.0.0/0": nic.gateway,
    }


def test_a_port_that_comes_and_goes_leaves_the_server_as_it_is_and_others_served(
    fabric: LinuxFabric, state_dir: Path
) -> None:
    with plugged(fabric, nic_of(0)), open_guest(nic_of(0).tap, nic_of(0).mac) as first:
        assert first.lease().address == nic_of(0).address
        daemons = daemons_of(state_dir)
        with plugged(fabric, nic_of(1)), open_guest(nic_of(1).tap, nic_of(1).mac) as second:
            assert second.lease().address == nic_of(1).address
        assert first.lease().address == nic_of(0).address
        assert daemons_of(state_dir) == daemons


def test_an_unknown_mac_is_answered_by_none_and_a_known_one_by_its_own_network_alone(fabric: LinuxFabric) -> None:
    here, there = nic_of(0), nic_of(0, routed(8))
    with plugged(fabric, here, there):
        with open_guest(here.tap, "02:00:00:00:00:99") as stranger:
            assert stranger.ask(DISCOVER, limit_s=SILENCE_S) is None
        for nic in (here, there):
            with open_guest(nic.tap, nic.mac) as guest:
                answer = guest.lease()
                assert (answer.address, answer.addresses(3), answer.addresses(6)) == (
                    nic.address,
                    (nic.gateway,),
                    (nic.gateway,),
                )
                renewed = guest.ask(REQUEST, bytes((50, 4)) + socket.inet_aton(nic.address))
                assert renewed is not None
                assert renewed.address == nic.address


def test_guests_beside_those_of_a_bridge_are_served_by_their_own_servers(fabric: LinuxFabric) -> None:
    bridged, on_tap = vif(0, network(8)), nic_of(0)
    with plugged(fabric, bridged, on_tap):
        for nic in (bridged, on_tap):
            with open_guest(nic.tap, nic.mac) as guest:
                assert guest.lease().addresses(54) == (nic.gateway,)


def test_an_address_serves_the_next_port_at_once(fabric: LinuxFabric) -> None:
    keeps, goes = nic_of(0), nic_of(1)
    comes = replace(nic_of(2), address=goes.address)
    with plugged(fabric, keeps):
        with plugged(fabric, goes), open_guest(goes.tap, goes.mac) as guest:
            assert guest.lease().address == goes.address
        with plugged(fabric, comes), open_guest(comes.tap, comes.mac) as guest:
            assert guest.lease().address == goes.address


def test_guests_are_known_by_name_and_the_networks_own_servers_are_told_instead(
    fabric: LinuxFabric, tmp_path: Path
) -> None:
    here, named = nic_of(0), nic_of(0, routed(8, dns=("192.0.2.53",)))
    with plugged(fabric, here, nic_of(1), named), guest_of(here) as guest, guest_of(named) as other:
        give_address(guest, here.address)
        assert nic_of(1).address in run_inside(guest, "nslookup", "-timeout=20", "web-1", here.gateway)
        assert lease_of(other, tmp_path)["new_domain_name_servers"] == "192.0.2.53"


def test_each_guest_reads_its_own_metadata_whether_or_not_it_is_filtered(fabric: LinuxFabric) -> None:
    filtered, unfiltered, elsewhere = nic_of(0), open_vif(1, routed()), nic_of(2, routed(8))
    nics = (filtered, unfiltered, elsewhere)
    with plugged(fabric, *nics):
        for nic in nics:
            with guest_of(nic) as guest:
                give_address(guest, nic.address)
                run_inside(guest, "ip", "route", "add", METADATA_ADDRESS, "via", nic.gateway)
                assert eventually(lambda: run_inside(guest, "curl", "-s", "-m", "20", URL)) == nic.hostname


def test_metadata_go_with_the_last_guest_that_was_told_any(fabric: LinuxFabric, state_dir: Path) -> None:
    nic = nic_of(0)
    place = Place(directory=state_dir / "net" / "networks" / nic.network_id)
    with plugged(fabric, nic):
        assert len(list_pids_with(place.pid_argument)) == 1
        fabric.ensure_told(nic, {})
        assert list_pids_with(place.pid_argument) == ()


def test_who_is_not_behind_a_tap_of_the_network_gets_nothing_from_its_servers(fabric: LinuxFabric) -> None:
    """A routed network is reached from elsewhere; here a guest of another one asks, whose own filters would let it."""
    here, stranger = nic_of(0), nic_of(0, routed(8))
    with plugged(fabric, here, stranger), guest_of(here) as own, guest_of(stranger) as other:
        for guest, nic in ((own, here), (other, stranger)):
            give_address(guest, nic.address)
            run_inside(guest, "ip", "route", "add", "default", "via", nic.gateway)
        question = ("nslookup", "-timeout=1", "-retry=1", "web-0", here.gateway)
        assert here.address in run_inside(own, *question)
        assert here.address not in run_inside(other, *question)


def test_the_host_itself_is_answered_and_plugging_twice_is_once(fabric: LinuxFabric) -> None:
    nic = nic_of(0)
    with plugged(fabric, nic):
        before = read_port_listing()
        fabric.ensure_plugged(nic)
        assert read_port_listing() == before
        assert before.entries[WAYS.key] == {nic.tap: f"{nic.gateway} . {TAPS_PORT}"}
        assert before.entries[SERVERS.key] == {nic.gateway: ""}
        assert before.entries[SERVED.key] == {f"{nic.tap} . {nic.gateway}": ""}
        assert fabric.list_dhcp()[0].address == nic.address


def test_a_server_that_died_and_rules_that_somebody_flushed_are_missed_and_made_again(
    fabric: LinuxFabric, state_dir: Path, tmp_path: Path
) -> None:
    nic = nic_of(0)
    with plugged(fabric, nic), guest_of(nic) as guest:
        (pid,) = daemons_of(state_dir)
        with open_process(pid) as server:
            assert server is not None
            server.ensure_ended()
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        (lack,) = fabric.list_missing([nic])
        assert {PlugPart.DHCP, PlugPart.FILTER} <= set(lack.parts)
        fabric.ensure_plugged(nic)
        assert fabric.list_missing([nic]) == ()
        assert lease_of(guest, tmp_path)["new_ip_address"] == nic.address
