"""Floating addresses, by the connections that go through them."""

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from net.fabric import LinuxFabric
from taskvisor.model.network import (
    Direction,
    IpFamily,
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
    PORT,
    SECOND,
    bound_around,
    is_reached,
    outer_addresses,
    plugged_guests,
    seen_as,
)
from tests.net.hosts import run_in
from tests.net.plans import network, vif
from tests.net.wired import Wired

pytestmark = pytest.mark.real

NOWHERE = "203.0.113.5"
"""No link of the host leads there."""
FIRST, OTHER = replace(vif(0), security_groups=(GROUP,)), replace(vif(1), security_groups=(GROUP,))
ELSEWHERE = replace(vif(0, network(8)), security_groups=(GROUP,))
IN = SecurityRule(direction=Direction.INGRESS, family=IpFamily.V4)
OUT = SecurityRule(direction=Direction.EGRESS, family=IpFamily.V4)


@pytest.fixture
def guests(fabric: LinuxFabric, outside: str) -> Iterator[tuple[Wired, Wired]]:
    with plugged_guests(fabric, FIRST, OTHER) as (first, other):
        yield first, other


def test_the_outside_reaches_the_port_and_is_seen_as_itself(
    fabric: LinuxFabric, outside: str, guests: tuple[Wired, Wired]
) -> None:
    fabric.ensure_surroundings(_around({FLOATING: FIRST}))
    assert seen_as(outside, FLOATING, guests[0].namespace) == OUTSIDE


def test_the_port_reaches_the_outside_by_its_floating_address_and_others_by_the_hosts(
    fabric: LinuxFabric, outside: str, guests: tuple[Wired, Wired]
) -> None:
    fabric.ensure_surroundings(_around({FLOATING: FIRST}))
    assert seen_as(guests[0].namespace, OUTSIDE, outside) == FLOATING
    assert seen_as(guests[1].namespace, OUTSIDE, outside) == HOST


def test_the_host_itself_reaches_the_port(fabric: LinuxFabric, guests: tuple[Wired, Wired]) -> None:
    fabric.ensure_surroundings(_around({FLOATING: FIRST}))
    with run_in(guests[0].namespace, lambda: socket.create_server(("", PORT))) as listener:
        listener.settimeout(ANSWER_LIMIT_S)
        socket.create_connection((FLOATING, PORT), timeout=ANSWER_LIMIT_S).close()
        assert listener.accept()[0]


def test_guests_of_its_network_reach_it_by_the_outer_address(fabric: LinuxFabric, guests: tuple[Wired, Wired]) -> None:
    first, other = guests
    fabric.ensure_surroundings(_around({FLOATING: FIRST}))
    assert seen_as(other.namespace, FLOATING, first.namespace) == FIRST.gateway
    fabric.ensure_surroundings(_around({FLOATING: FIRST, SECOND: OTHER}))
    assert seen_as(other.namespace, FLOATING, first.namespace) == SECOND


def test_what_passes_on_the_bridge_is_not_translated(fabric: LinuxFabric, guests: tuple[Wired, Wired]) -> None:
    first, other = guests
    fabric.ensure_surroundings(_around({FLOATING: FIRST}))
    assert seen_as(first.namespace, OTHER.address, other.namespace) == FIRST.address


def test_a_guest_of_another_network_of_the_host_reaches_it(fabric: LinuxFabric, guests: tuple[Wired, Wired]) -> None:
    with plugged_guests(fabric, ELSEWHERE) as (elsewhere,):
        fabric.ensure_surroundings(_around({FLOATING: FIRST}))
        assert seen_as(elsewhere.namespace, FLOATING, guests[0].namespace) == FIRST.gateway
        assert not is_reached(elsewhere.namespace, FIRST.address, guests[0].namespace)


def test_the_ports_groups_are_in_force(fabric: LinuxFabric, outside: str, guests: tuple[Wired, Wired]) -> None:
    fabric.ensure_surroundings(_around({FLOATING: FIRST}, rules=(OUT,)))
    assert not is_reached(outside, FLOATING, guests[0].namespace)
    fabric.ensure_surroundings(_around({FLOATING: FIRST}, rules=(OUT, replace(IN, remote=f"{OUTSIDE}/32"))))
    assert is_reached(outside, FLOATING, guests[0].namespace)


def test_an_address_moves_from_port_to_port_and_goes(
    fabric: LinuxFabric, outside: str, guests: tuple[Wired, Wired]
) -> None:
    first, other = guests
    fabric.ensure_surroundings(_around({FLOATING: FIRST}))
    fabric.ensure_surroundings(_around({FLOATING: OTHER}))
    assert seen_as(outside, FLOATING, other.namespace) == OUTSIDE
    assert seen_as(first.namespace, OUTSIDE, outside) == HOST
    fabric.ensure_surroundings(_around({}))
    assert outer_addresses() == {HOST}
    assert not is_reached(outside, FLOATING, other.namespace)


def test_an_address_that_goes_to_another_network_is_not_taken_by_the_one_it_left(
    fabric: LinuxFabric, outside: str, guests: tuple[Wired, Wired]
) -> None:
    with plugged_guests(fabric, ELSEWHERE) as (elsewhere,):
        fabric.ensure_surroundings(_around({FLOATING: FIRST}))
        fabric.ensure_surroundings(_around({FLOATING: ELSEWHERE}, on=8))
        fabric.ensure_surroundings(_around({}))
        assert seen_as(outside, FLOATING, elsewhere.namespace) == OUTSIDE


def test_an_address_goes_with_its_port(fabric: LinuxFabric, guests: tuple[Wired, Wired]) -> None:
    fabric.ensure_surroundings(_around({FLOATING: FIRST, SECOND: OTHER}))
    fabric.ensure_unplugged(OTHER)
    assert outer_addresses() == {HOST, FLOATING}
    fabric.ensure_unplugged(FIRST)
    assert outer_addresses() == {HOST}


def test_an_address_of_a_port_that_is_elsewhere_is_not_held(fabric: LinuxFabric, guests: tuple[Wired, Wired]) -> None:
    fabric.ensure_surroundings(_around({FLOATING: vif(2)}))
    assert outer_addresses() == {HOST}


def test_an_address_that_the_operator_gave_the_host_stays(fabric: LinuxFabric, guests: tuple[Wired, Wired]) -> None:
    subprocess.run(["ip", "addr", "add", f"{FLOATING}/24", "dev", "uplink"], check=True)
    fabric.ensure_surroundings(_around({FLOATING: FIRST}))
    fabric.ensure_surroundings(_around({}))
    assert outer_addresses() == {HOST, FLOATING}


def test_neighbours_are_told_whose_the_address_is_now(
    fabric: LinuxFabric, outside: str, guests: tuple[Wired, Wired]
) -> None:
    def heard() -> socket.socket:
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
        wire.bind(("eth0", 0x0806))
        wire.settimeout(ANSWER_LIMIT_S)
        return wire

    with run_in(outside, heard) as wire:
        fabric.ensure_surroundings(_around({FLOATING: FIRST}))
        while (frame := wire.recv(2000))[28:32] != socket.inet_aton(FLOATING):
            pass
        assert frame[:6] == b"\xff" * 6
        assert frame[38:42] == socket.inet_aton(FLOATING)


def test_an_address_that_no_link_leads_to_is_translated_for_whom_routers_send_here_and_hinders_no_other(
    fabric: LinuxFabric, outside: str, guests: tuple[Wired, Wired]
) -> None:
    fabric.ensure_surroundings(_around({NOWHERE: FIRST, SECOND: OTHER}))
    run_in(outside, lambda: subprocess.run(["ip", "route", "add", NOWHERE, "via", HOST], check=True))
    assert seen_as(outside, NOWHERE, guests[0].namespace) == OUTSIDE
    assert seen_as(outside, SECOND, guests[1].namespace) == OUTSIDE
    assert outer_addresses() == {HOST, SECOND}


def _around(floating: dict[str, VifPlan], *, rules: tuple[SecurityRule, ...] = (OUT, IN), on: int = 9) -> Surroundings:
    """The network's surroundings with these floating addresses; a group that all ports are in has the rules."""
    return bound_around(network(on), [ELSEWHERE] if on == 8 else [FIRST, OTHER, vif(2)], floating, rules)
