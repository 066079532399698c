"""Services on a segment that goes beyond the host: two hosts joined by a cable, each serving its own guests and no other."""

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from net.fabric import LinuxFabric
from net.filters.service_guard import (
    OUTER,
    SERVED,
    SERVICE,
    TABLE,
    elements_of_network,
    elements_of_port,
    parse_names,
    read_names,
)
from net.plan import bridge_plan_for, vif_plan_for
from net.services.dhcp_options import ON_LINK, routes_for
from net.services.site import LINK_SERVER_ADDRESS, METADATA_ADDRESS, service_name_for, service_port_for, site_for
from taskvisor.model.errors import CannotAsk, Contradiction, Refused
from taskvisor.model.network import HostLinks, Network, NetworkKind, Route
from taskvisor.model.plan import VifPlan
from tests.fixtures.namespaces import entered_namespace, open_namespace, require_empty
from tests.net.guest import DISCOVER, SILENCE_S, open_guest
from tests.net.hosts import read_world, run_in
from tests.net.plans import network, port, vif
from tests.net.services.clients import eventually, lease_of, routes_of, run_inside
from tests.net.stack import give_address, stack_behind

FLAT: Network = replace(
    network(kind=NetworkKind.FLAT, dns=("192.0.2.53",)),
    physical="physnet1",
    routes=(Route(destination="198.51.100.0/24", via="10.9.0.7"),),
    ntp=("192.0.2.123",),
)
UPLINK = "up0"
LINKS = HostLinks(uplinks={"physnet1": UPLINK})
LAST_TYPE = 0x88B5  # IEEE 802: for experiments
DHCP_PORTS = "udp port 67 or udp port 68"


def flat_vif(number: int) -> VifPlan:
    """Of a port that no group filters: what its host's own guard does is to be seen."""
    unfiltered = replace(port(number, FLAT), anti_spoofing=False)
    return vif_plan_for(unfiltered, FLAT, hostname=f"web-{number}", links=LINKS)


class Host:
    """A host of the segment, in a namespace of its own."""

    def __init__(self, namespace: str, state_dir: Path) -> None:
        self.namespace = namespace
        self._fabric = LinuxFabric(state_dir)

    @contextmanager
    def plugged(self, nic: VifPlan) -> Iterator[None]:
        """The NIC is on the host, told who it is, and the uplink is on its bridge."""
        with entered_namespace(self.namespace):
            self._fabric.ensure_plugged(nic)
            self._fabric.ensure_told(nic, {"latest/meta-data/instance-id": nic.hostname})
        try:
            yield
        finally:
            with entered_namespace(self.namespace):
                self._fabric.ensure_unplugged(nic)

    @contextmanager
    def guest(self, nic: VifPlan) -> Iterator[str]:
        with (
            entered_namespace(self.namespace),
            stack_behind(nic.tap, nic.mac, f"{self.namespace[-9:]}{nic.tap[-3:]}") as guest,
        ):
            yield guest


@pytest.fixture
def hosts(host_namespace: str, tmp_state_dir: Path) -> Iterator[tuple[Host, Host]]:
    """Two hosts whose uplinks are the ends of one cable. Nothing may be left on either."""
    second = f"{host_namespace[:12]}b"
    with open_namespace(second):
        for name in ("a", "b"):
            (tmp_state_dir / name).mkdir(mode=0o755)
        tmp_state_dir.chmod(0o755)
        with IPRoute() as netlink:
            netlink.link("add", ifname=UPLINK, kind="veth", peer={"ifname": UPLINK, "net_ns_fd": second})
        yield Host(host_namespace, tmp_state_dir / "a"), Host(second, tmp_state_dir / "b")
        with IPRoute() as netlink:
            netlink.link("del", index=netlink.link_lookup(ifname=UPLINK)[0])
        for name, namespace in (("a", host_namespace), ("b", second)):
            with entered_namespace(namespace):
                world = read_world(tmp_state_dir / name)
                assert (world.links, world.files, world.daemons) == (frozenset(), frozenset(), ())
                assert not any(read_names().values())
                assert b"taskvisor_services" not in subprocess.check_output(["nft", "list", "tables"])
        require_empty(second)


@contextmanager
def capture(namespace: str, link: str, words: str) -> Iterator[list[str]]:
    """The packets that tcpdump saw on the link in the block, one line each; there once the block has ended.

    A last frame of our own is sent and waited for, so that what came before it has been seen.
    """
    seen: list[str] = []
    expression = f"({words}) or ether proto {LAST_TYPE:#x}"
    argv = ["ip", "netns", "exec", namespace, "tcpdump", "-lnqe", "--immediate-mode", "-i", link, expression]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tcpdump:
        assert tcpdump.stdout is not None
        assert tcpdump.stderr is not None
        try:
            assert any("listening on" in line for line in tcpdump.stderr)
            yield seen
            run_in(namespace, lambda: _send_last(link))
            for line in tcpdump.stdout:
                if f"{LAST_TYPE:x}" in line:
                    break
                seen.append(line)
        finally:
            tcpdump.kill()


def _send_last(link: str) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((link, 0))
        sender.send(b"\xff" * 6 + bytes(6) + LAST_TYPE.to_bytes(2, "big") + bytes(46))


@pytest.mark.real
def test_each_host_serves_its_own_guests_and_nothing_of_it_leaves_the_host(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    here, there = hosts
    mine, theirs = flat_vif(0), flat_vif(1)
    with ExitStack() as stack:
        stack.enter_context(here.plugged(mine))
        stack.enter_context(there.plugged(theirs))
        with capture(here.namespace, UPLINK, DHCP_PORTS) as leaked, here.guest(mine) as one, there.guest(theirs) as two:
            leases = lease_of(one, tmp_path / "one"), lease_of(two, tmp_path / "two")
        assert leaked == []
    assert [lease["new_ip_address"] for lease in leases] == [mine.address, theirs.address]
    assert {lease["new_dhcp_server_identifier"] for lease in leases} == {LINK_SERVER_ADDRESS}
    for lease in leases:
        assert lease["new_routers"] == "10.9.0.1"
        assert lease["new_domain_name_servers"] == "192.0.2.53"
        assert lease["new_ntp_servers"] == "192.0.2.123"
        assert lease["new_interface_mtu"] == "1450"
        assert routes_of(lease["new_classless_routes"]) == {
            f"{LINK_SERVER_ADDRESS}/32": ON_LINK,
            f"{METADATA_ADDRESS}/32": ON_LINK,
            "198.51.100.0/24": "10.9.0.7",
            "0.0.0.0/0": "10.9.0.1",
        }


@pytest.mark.real
def test_it_is_the_guard_that_keeps_a_guests_questions_on_the_host(hosts: tuple[Host, Host]) -> None:
    here, there = hosts
    mine, theirs = flat_vif(0), flat_vif(1)
    with ExitStack() as stack:
        stack.enter_context(here.plugged(mine))
        stack.enter_context(there.plugged(theirs))
        stack.enter_context(entered_namespace(here.namespace))
        guest = stack.enter_context(open_guest(mine.tap, mine.mac))
        subprocess.check_call(["nft", "delete", "table", *TABLE.split()])
        with capture(here.namespace, UPLINK, DHCP_PORTS) as leaked:
            guest.lease()
    assert leaked


@pytest.mark.real
def test_a_guest_that_only_the_other_host_knows_is_answered_by_none(hosts: tuple[Host, Host]) -> None:
    here, there = hosts
    mine, theirs = flat_vif(0), flat_vif(1)
    with ExitStack() as stack:
        stack.enter_context(here.plugged(mine))
        stack.enter_context(there.plugged(theirs))
        stack.enter_context(entered_namespace(here.namespace))
        stranger = stack.enter_context(open_guest(mine.tap, theirs.mac))
        assert stranger.ask(DISCOVER, limit_s=SILENCE_S) is None


@pytest.mark.real
def test_a_guest_that_both_hosts_know_is_answered_by_its_own(hosts: tuple[Host, Host]) -> None:
    """As while it moves: the other's answer would bear the other's options."""
    here, there = hosts
    nic = flat_vif(0)
    elsewhere = replace(nic, dns=("192.0.2.99",))
    with ExitStack() as stack:
        stack.enter_context(here.plugged(nic))
        stack.enter_context(there.plugged(elsewhere))
        stack.enter_context(entered_namespace(here.namespace))
        answer = stack.enter_context(open_guest(nic.tap, nic.mac)).lease()
    assert answer.address == nic.address
    assert answer.addresses(6) == ("192.0.2.53",)


@pytest.mark.real
def test_guests_of_two_hosts_reach_each_other_and_each_its_own_metadata(hosts: tuple[Host, Host]) -> None:
    here, there = hosts
    mine, theirs = flat_vif(0), flat_vif(1)
    with ExitStack() as stack:
        stack.enter_context(here.plugged(mine))
        stack.enter_context(there.plugged(theirs))
        one, two = stack.enter_context(here.guest(mine)), stack.enter_context(there.guest(theirs))
        for guest, nic in ((one, mine), (two, theirs)):
            give_address(guest, nic.address, on_link=(LINK_SERVER_ADDRESS, METADATA_ADDRESS))
        url = f"http://{METADATA_ADDRESS}/latest/meta-data/instance-id"
        with capture(here.namespace, UPLINK, "arp and host 169.254.169.254") as leaked:
            for guest, nic in ((one, mine), (two, theirs)):
                assert eventually(lambda: run_inside(guest, "curl", "-s", "-m", "20", url)) == nic.hostname  # noqa: B023
        assert leaked == []
        assert eventually(lambda: "1 received" in run_inside(one, "ping", "-c1", "-W5", theirs.address))


@pytest.mark.real
def test_the_service_link_is_no_way_into_the_host_or_through_it(hosts: tuple[Host, Host]) -> None:
    here, _ = hosts
    nic = flat_vif(0)
    with here.plugged(nic), here.guest(nic) as guest:
        give_address(guest, nic.address, on_link=(LINK_SERVER_ADDRESS, METADATA_ADDRESS))
        assert "0 received" in run_inside(guest, "ping", "-c2", "-W1", LINK_SERVER_ADDRESS)
        assert run_inside(guest, "curl", "-s", "-m", "2", f"http://{LINK_SERVER_ADDRESS}/") == ""
        shown = json.loads(run_inside(here.namespace, "ip", "-j", "link", "show", service_name_for(nic)))
        mac = shown[0]["address"]
        run_inside(guest, "ip", "neighbour", "replace", "10.9.0.1", "lladdr", mac, "dev", "eth0")
        run_inside(guest, "ip", "route", "add", "default", "via", "10.9.0.1")
        with capture(here.namespace, service_name_for(nic), "dst host 192.0.2.200") as seen:
            run_inside(guest, "ping", "-c2", "-W1", "192.0.2.200")
        assert seen == []


@pytest.mark.real
def test_plugging_twice_is_once_and_an_emptied_firewall_is_filled_again(hosts: tuple[Host, Host]) -> None:
    here, _ = hosts
    nic = flat_vif(0)
    with here.plugged(nic), entered_namespace(here.namespace):
        fabric = here._fabric
        held = {SERVED: {nic.tap}, SERVICE: {service_port_for(nic)}, OUTER: frozenset()}
        assert read_names() == held
        rules = subprocess.check_output(["nft", "-s", "list", "table", *TABLE.split()])
        for _ in range(2):
            fabric.ensure_plugged(nic)
        assert subprocess.check_output(["nft", "-s", "list", "table", *TABLE.split()]) == rules
        subprocess.check_call(["nft", "delete", "table", *TABLE.split()])
        fabric.ensure_plugged(nic)
        assert subprocess.check_output(["nft", "-s", "list", "table", *TABLE.split()]) == rules


@pytest.mark.real
def test_what_one_port_leaves_another_keeps(hosts: tuple[Host, Host]) -> None:
    here, _ = hosts
    stays, goes = flat_vif(0), flat_vif(1)
    with here.plugged(stays), entered_namespace(here.namespace):
        here._fabric.ensure_plugged(goes)
        here._fabric.ensure_unplugged(goes)
        assert read_names()[SERVED] == {stays.tap}
        with open_guest(stays.tap, stays.mac) as guest:
            assert guest.lease().address == stays.address


@pytest.mark.real
def test_a_strangers_link_of_the_services_name_is_left_alone(hosts: tuple[Host, Host]) -> None:
    here, _ = hosts
    nic = flat_vif(0)
    with entered_namespace(here.namespace), IPRoute() as netlink:
        netlink.link("add", ifname=service_name_for(nic), kind="bridge")
        with pytest.raises(Contradiction, match="left alone"):
            here._fabric.ensure_plugged(nic)
        here._fabric.ensure_unplugged(nic)
        (index,) = netlink.link_lookup(ifname=service_name_for(nic))
        netlink.link("del", index=index)
        with suppress(Contradiction):
            here._fabric.ensure_unplugged(nic)


def test_where_the_gateway_is_elsewhere_our_bridge_has_no_address() -> None:
    assert bridge_plan_for(flat_vif(0)).gateway is None
    assert site_for(flat_vif(0)).on_link
    assert not site_for(vif()).on_link


@pytest.mark.parametrize("kind", [NetworkKind.OVS, NetworkKind.MACVTAP])
def test_where_nothing_can_be_served_guests_are_told_by_their_seed(kind: NetworkKind) -> None:
    on = replace(FLAT, kind=kind, bridge="br-int" if kind is NetworkKind.OVS else None)
    assert not vif_plan_for(port(0, on), on, hostname="web", links=LINKS).dhcp


def test_through_tunnels_goes_nothing_that_every_host_has() -> None:
    nic = replace(vif(), kind=NetworkKind.VXLAN, segment=77)
    assert elements_of_network(nic) == {OUTER: "vxlan-77"}
    assert elements_of_port(nic) == {}
    assert elements_of_network(replace(nic, dhcp=False)) == {}


def test_more_routes_than_dhcp_can_tell_are_refused() -> None:
    many = tuple(Route(destination=f"198.51.{number}.0/24", via="10.9.0.7") for number in range(25))
    with pytest.raises(Refused, match="routes: 25; DHCP can tell at most 24"):
        vif_plan_for(port(0, FLAT), replace(FLAT, routes=many), hostname="web")


def test_the_longest_routes_that_are_taken_fit_into_the_option() -> None:
    most = tuple(Route(destination=f"198.51.100.{number}/32", via="10.9.0.7") for number in range(24))
    nic = replace(flat_vif(0), routes=most)
    assert sum(5 + (int(route.split("/")[1].split(",")[0]) + 7) // 8 for route in routes_for(nic, site_for(nic))) <= 255


def test_what_nft_did_not_say_is_not_taken_for_nothing() -> None:
    with pytest.raises(CannotAsk, match="is something else using it"):
        parse_names(b"not json")
