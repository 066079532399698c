"""Hosts that are joined by tunnels, each with the whole fabric, serve their own guests, and nobody hears it in between."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from scapy.packet import Packet

from net.plan import bridge_mac_for
from net.services.dnsmasq import parse_leases, parse_leases6, paths_for
from taskvisor.model.network import Ipv6Mode, Network, NetworkKind
from taskvisor.model.plan import VifPlan
from tests.fixtures.namespaces import entered_namespace
from tests.net.guest import DISCOVER, SILENCE_S, open_guest
from tests.net.lan import LanHost
from tests.net.peers import peer_vif, peers_around
from tests.net.plans import network
from tests.net.services.clients import addresses_of, advertisement_to, eventually, lease_of, run_inside
from tests.net.stack import give_address, stack_behind
from tests.net.underlay import (
    METADATA,
    is_about,
    is_dhcp,
    is_of,
    is_router_discovery,
    tunnelled,
    watched_underlay,
)

pytestmark = pytest.mark.real

VNI = 100
NOBODY = "10.9.0.200"


def vxlan(mode: Ipv6Mode) -> Network:
    return replace(network(ipv6=mode), kind=NetworkKind.VXLAN, segment=VNI)


@dataclass(frozen=True, kw_only=True)
class Served:
    """A guest that has nothing but its MAC yet: its host, its NIC, and its namespace."""

    host: LanHost
    nic: VifPlan
    namespace: str

    def leased(self) -> set[str]:
        """The addresses that its host's server has leased out."""
        state_dir = self.host.fabric._directory
        text = paths_for(state_dir / "networks", self.nic.network_id).leases.read_text()
        return {lease.address for lease in parse_leases(text)} | {lease.address for lease in parse_leases6(text)}


@contextmanager
def plugged(lan: tuple[LanHost, ...], on: Network, count: int) -> Iterator[tuple[VifPlan, ...]]:
    """One NIC a host, each told of all, and of who it is."""
    nics = tuple(peer_vif(number, on, lan[number]) for number in range(count))
    with ExitStack() as stack:
        for host, nic in zip(lan, nics, strict=False):
            host.plug(nic)
            stack.callback(host.unplug, nic)
        for host, nic in zip(lan, nics, strict=False):
            host.tell(peers_around(lan, on, {number: number for number in range(count)}))
            host.run(lambda: host.fabric.ensure_told(nic, {"latest/meta-data/instance-id": nic.hostname}))  # noqa: B023
        yield nics


@contextmanager
def guest_of(host: LanHost, nic: VifPlan) -> Iterator[Served]:
    with (
        entered_namespace(host.namespace),
        stack_behind(nic.tap, nic.mac, f"{host.namespace[:9]}{nic.tap[-3:]}") as name,
    ):
        yield Served(host=host, nic=nic, namespace=name)


@pytest.mark.parametrize("mode", list(Ipv6Mode))
def test_each_guest_is_served_by_its_own_host_and_nothing_of_it_is_in_the_tunnel(
    lan: tuple[LanHost, ...], tmp_path: Path, mode: Ipv6Mode
) -> None:
    on = vxlan(mode)
    with ExitStack() as stack:
        nics = stack.enter_context(plugged(lan, on, 2))
        seen = stack.enter_context(watched_underlay(lan[0], tmp_path))
        guests = [stack.enter_context(guest_of(host, nic)) for host, nic in zip(lan, nics, strict=False)]
        for guest in guests:
            scratch = tmp_path / guest.nic.tap
            assert lease_of(guest.namespace, scratch)["new_ip_address"] == guest.nic.address
            assert_ipv6_is_served(guest, scratch, mode)
            assert_told_who_it_is(guest)
        for guest, other in (guests, guests[::-1]):
            assert other.nic.address not in guest.leased()
            assert_reaches_gateways_and(guest, other.nic)
        run_inside(guests[0].namespace, "ping", "-n", "-c1", "-W1", NOBODY)
    inside = tunnelled(seen, VNI)
    assert_seen_is_what_guests_said_to_each_other(inside, nics)
    assert [frame.summary() for frame in inside if is_of_services(frame, on)] == []


def is_of_services(frame: Packet, on: Network) -> bool:
    """What every host has, and so must be asked and said on each for itself."""
    assert on.gateway6 is not None
    judges = (
        is_dhcp,
        is_router_discovery,
        *(is_about(address) for address in (METADATA, on.gateway, on.gateway6)),
        is_of(bridge_mac_for(on.id)),
    )
    return any(judge(frame) for judge in judges)


def assert_ipv6_is_served(guest: Served, scratch: Path, mode: Ipv6Mode) -> None:
    if mode is Ipv6Mode.DHCPV6:
        assert lease_of(guest.namespace, scratch, family="-6")["new_ip6_address"] == guest.nic.address6
        run_inside(guest.namespace, "ip", "address", "add", f"{guest.nic.address6}/64", "dev", "eth0", "nodad")
    else:
        assert advertisement_to(guest.namespace)["Prefix"] == "fd00:9::/64"
        assert eventually(lambda: guest.nic.address6 in addresses_of(guest.namespace))


def assert_told_who_it_is(guest: Served) -> None:
    give_address(guest.namespace, guest.nic.address)
    run_inside(guest.namespace, "ip", "route", "add", "default", "via", guest.nic.gateway)
    url = f"http://{METADATA}/latest/meta-data/instance-id"
    assert eventually(lambda: run_inside(guest.namespace, "curl", "-s", "-m", "20", url)) == guest.nic.hostname


def assert_reaches_gateways_and(guest: Served, other: VifPlan) -> None:
    assert guest.nic.gateway6 is not None
    assert other.address6 is not None
    for address in (guest.nic.gateway, guest.nic.gateway6, other.address, other.address6):
        assert eventually(lambda: " 1 received" in run_inside(guest.namespace, "ping", "-nc1", "-W5", address))  # noqa: B023


def assert_seen_is_what_guests_said_to_each_other(inside: list[Packet], nics: tuple[VifPlan, ...]) -> None:
    """Else that nothing else was seen would prove nothing."""
    for nic in nics:
        assert any(is_about(nic.address)(frame) for frame in inside)
        assert any(is_about(str(nic.address6))(frame) for frame in inside)
    assert any(is_about(NOBODY)(frame) for frame in inside), "what is asked for by all who might know does leave"


def test_it_is_the_guard_that_keeps_a_guests_questions_out_of_the_tunnel(
    lan: tuple[LanHost, ...], tmp_path: Path
) -> None:
    on = vxlan(Ipv6Mode.SLAAC)
    with ExitStack() as stack:
        nics = stack.enter_context(plugged(lan, on, 2))
        lan[0].ask("nft", "delete", "table", "bridge", "taskvisor_services")
        seen = stack.enter_context(watched_underlay(lan[0], tmp_path))
        with guest_of(lan[0], nics[0]) as guest:
            advertisement_to(guest.namespace)
        with entered_namespace(lan[0].namespace), open_guest(nics[0].tap, nics[0].mac) as raw:
            raw.ask(DISCOVER)
    inside = tunnelled(seen, VNI)
    assert any(is_dhcp(frame) for frame in inside)
    assert any(is_router_discovery(frame) for frame in inside)


def test_a_mac_that_only_another_host_knows_is_answered_there_and_nowhere_else(lan: tuple[LanHost, ...]) -> None:
    on = vxlan(Ipv6Mode.SLAAC)
    with plugged(lan, on, 3) as nics:
        for number, host in enumerate(lan):
            with entered_namespace(host.namespace):
                others = [nic.mac for nic in nics if nic is not nics[number]]
                with open_guest(nics[number].tap, nics[number].mac) as own:
                    assert own.lease().address == nics[number].address
                for mac in others:
                    with open_guest(nics[number].tap, mac) as stranger:
                        assert stranger.ask(DISCOVER, limit_s=SILENCE_S) is None
