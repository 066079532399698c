"""Floating addresses by kind of network: on `routed` ones, from guests of the same host, and as they come and go under way."""

import json
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from net.fabric import LinuxFabric
from net.filters.floating import INNER, OUTER
from net.filters.port_filters import read_port_listing
from net.links.conntrack import open_conntrack
from taskvisor.model.network import (
    Direction,
    IpFamily,
    Network,
    NetworkKind,
    SecurityRule,
    Surroundings,
)
from taskvisor.model.plan import VifPlan
from tests.net.filters.outer import (
    ANSWER_LIMIT_S,
    FLOATING,
    GROUP,
    HOST,
    OUTSIDE,
    SECOND,
    SILENCE_S,
    bound_around,
    is_reached,
    outer_addresses,
    plugged_guests,
    seen_as,
)
from tests.net.filters.test_revocation import Talk, talking
from tests.net.hosts import run_in
from tests.net.lan import LanHost, asked, guest_at, open_lan
from tests.net.plans import network, vif

pytestmark = pytest.mark.real

RULES = tuple(SecurityRule(direction=direction, family=IpFamily.V4) for direction in Direction)
NAT, ROUTED = network(), replace(network(kind=NetworkKind.ROUTED), nat=False)
KINDS = pytest.mark.parametrize("on", [NAT, ROUTED], ids=["nat", "routed"])


def nic_of(number: int, on: Network) -> VifPlan:
    return replace(vif(number, on), security_groups=(GROUP,))


def around(on: Network, nics: tuple[VifPlan, ...], floating: dict[str, VifPlan]) -> Surroundings:
    """The network's surroundings: everything may pass, and these outer addresses are bound to these ports."""
    return bound_around(on, nics, floating, RULES)


def test_on_a_routed_network_the_port_is_reached_by_it_and_leaves_by_it_and_nothing_is_left(
    fabric: LinuxFabric, outside: str
) -> None:
    nics = nic_of(0, ROUTED), nic_of(1, ROUTED)
    with plugged_guests(fabric, *nics) as (one, _):
        for _ in range(2):
            fabric.ensure_surroundings(around(ROUTED, nics, {FLOATING: nics[0]}))
        assert seen_as(outside, FLOATING, one.namespace) == OUTSIDE
        assert seen_as(one.namespace, OUTSIDE, outside) == FLOATING
        fabric.ensure_surroundings(around(ROUTED, nics, {}))
        assert outer_addresses() == {HOST}
        listing = read_port_listing()
        assert not listing.entries.get(OUTER.key)
        assert not listing.entries.get(INNER.key)
        with open_conntrack() as conntrack:
            assert conntrack.list_begun_to(FLOATING) == conntrack.list_answered_to(FLOATING) == ()
        assert not is_reached(outside, FLOATING, one.namespace)


def test_on_a_routed_network_its_rules_are_in_force(fabric: LinuxFabric, outside: str) -> None:
    nic = nic_of(0, ROUTED)
    with plugged_guests(fabric, nic) as (one,):
        told = around(ROUTED, (nic,), {FLOATING: nic})
        fabric.ensure_surroundings(replace(told, groups=(replace(told.groups[0], rules=RULES[1:]),)))
        assert not is_reached(outside, FLOATING, one.namespace)
        fabric.ensure_surroundings(told)
        assert is_reached(outside, FLOATING, one.namespace)


@KINDS
def test_another_guest_of_the_network_reaches_it_with_and_without_one_of_its_own(
    fabric: LinuxFabric, outside: str, on: Network
) -> None:
    nics = nic_of(0, on), nic_of(1, on)
    with plugged_guests(fabric, *nics) as (one, two):
        fabric.ensure_surroundings(around(on, nics, {FLOATING: nics[0]}))
        as_own = {NetworkKind.NAT: on.gateway, NetworkKind.ROUTED: nics[1].address}
        assert seen_as(two.namespace, FLOATING, one.namespace) == as_own[on.kind]
        fabric.ensure_surroundings(around(on, nics, {FLOATING: nics[0], SECOND: nics[1]}))
        assert seen_as(two.namespace, FLOATING, one.namespace) == SECOND


def test_a_guest_of_a_routed_network_reaches_itself_by_it(fabric: LinuxFabric, outside: str) -> None:
    nic = nic_of(0, ROUTED)
    with plugged_guests(fabric, nic) as (one,):
        fabric.ensure_surroundings(around(ROUTED, (nic,), {FLOATING: nic}))
        assert seen_as(one.namespace, FLOATING, one.namespace) == FLOATING


@KINDS
def test_connections_by_an_address_stop_when_it_is_unbound_and_those_by_another_go_on(
    fabric: LinuxFabric, outside: str, on: Network
) -> None:
    nics = nic_of(0, on), nic_of(1, on)
    with plugged_guests(fabric, *nics) as (one, two):
        fabric.ensure_surroundings(around(on, nics, {FLOATING: nics[0], SECOND: nics[1]}))
        with (
            talking(outside, FLOATING, one.namespace) as inwards,
            talking(one.namespace, OUTSIDE, outside, 81) as outwards,
            talking(outside, SECOND, two.namespace) as stays,
        ):
            fabric.ensure_surroundings(around(on, nics, {SECOND: nics[1]}))
            assert is_cut(inwards)
            assert is_cut(outwards)
            assert stays.goes_on()


@KINDS
def test_connections_stop_when_their_address_goes_to_another_port_of_the_host(
    fabric: LinuxFabric, outside: str, on: Network
) -> None:
    nics = nic_of(0, on), nic_of(1, on)
    with plugged_guests(fabric, *nics) as (one, two):
        fabric.ensure_surroundings(around(on, nics, {FLOATING: nics[0]}))
        with talking(outside, FLOATING, one.namespace) as talk:
            fabric.ensure_surroundings(around(on, nics, {FLOATING: nics[1]}))
            assert is_cut(talk)
        assert seen_as(outside, FLOATING, two.namespace) == OUTSIDE


@KINDS
def test_an_address_moves_from_host_to_host_and_its_neighbours_know_at_once(tmp_state_dir: Path, on: Network) -> None:
    tmp_state_dir.chmod(0o755)
    with open_lan(tmp_state_dir, 3) as (here, there, neighbour):
        mine, theirs = nic_of(0, on), nic_of(1, on)
        here.plug(mine)
        there.plug(theirs)
        tag = here.namespace[:6]
        with guest_at(here, mine, f"{tag}g0") as one, guest_at(there, theirs, f"{tag}g1") as two:
            moving = "192.0.2.77"
            for host, nic in ((here, mine), (there, theirs)):
                host.tell(around(on, (mine, theirs), {moving: mine}))
                assert (moving in addresses_of(host)) == (nic is mine)
            assert seen_as(neighbour.namespace, moving, one.namespace) == neighbour.address
            assert mac_known_to(neighbour, moving) == mac_of(here)
            # The new host first: what the old one still answers comes before it is told.
            for host in (there, here):
                host.tell(around(on, (mine, theirs), {moving: theirs}))
            assert mac_known_to(neighbour, moving) == mac_of(there), "told, not asked: nothing was sent since"
            assert moving not in addresses_of(here)
            assert seen_as(neighbour.namespace, moving, two.namespace) == neighbour.address
        here.unplug(mine)
        there.unplug(theirs)


def test_an_address_whose_giver_died_before_it_was_announced_is_announced_by_the_next(
    fabric: LinuxFabric, state_dir: Path, outside: str
) -> None:
    nic = nic_of(0, ROUTED)
    with plugged_guests(fabric, nic):
        subprocess.run(["ip", "addr", "add", f"{FLOATING}/32", "dev", "uplink", "label", "taskvisor-float"], check=True)
        with run_in(outside, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))) as wire:
            wire.settimeout(ANSWER_LIMIT_S)
            fabric.ensure_surroundings(around(ROUTED, (nic,), {FLOATING: nic}))
            while (frame := wire.recv(2000))[28:32] != socket.inet_aton(FLOATING):
                pass
            assert frame[38:42] == socket.inet_aton(FLOATING)


def is_cut(talk: Talk) -> bool:
    """What either says the other does not hear; a reset or an error is an end as well."""
    for speaker, listener in ((talk.server, talk.client), (talk.client, talk.server)):
        listener.settimeout(SILENCE_S)
        try:
            speaker.sendall(b"word")
            if listener.recv(1000):
                return False
        except OSError:
            continue
    return True


def addresses_of(host: LanHost) -> set[str]:
    (link,) = json.loads(host.ask("ip", "-j", "-4", "addr", "show", "dev", "eth0"))
    return {held["local"] for held in link["addr_info"]}


def mac_of(host: LanHost) -> str:
    (link,) = json.loads(host.ask("ip", "-j", "link", "show", "eth0"))
    return str(link["address"])


def mac_known_to(neighbour: LanHost, address: str) -> str:
    (entry,) = json.loads(asked(neighbour.namespace, "ip", "-j", "neigh", "show", address))
    return str(entry["lladdr"])
