"""Floating addresses, by the connections that go through them."""

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from net.fabric import LinuxFabric
from taskvisor.model.ids import FloatingId, HostName, SecurityGroupId
from taskvisor.model.network import (
    Direction,
    FloatingAddress,
    IpFamily,
    Member,
    SecurityGroup,
    SecurityRule,
    Surroundings,
)
from taskvisor.model.plan import VifPlan
from tests.net.filters.outer import FLOATING, HOST, OUTSIDE, SECOND
from tests.net.hosts import run_in
from tests.net.plans import network, vif
from tests.net.wired import Wired, wired

pytestmark = pytest.mark.real

NOWHERE = "203.0.113.5"
"""No link of the host leads there."""
GROUP = SecurityGroupId("11111111-0000-4000-8000-000000000001")
FIRST, OTHER = replace(vif(0), security_groups=(GROUP,)), replace(vif(1), security_groups=(GROUP,))
ELSEWHERE = replace(vif(0, network(8)), security_groups=(GROUP,))
IN = SecurityRule(direction=Direction.INGRESS, family=IpFamily.V4)
OUT = SecurityRule(direction=Direction.EGRESS, family=IpFamily.V4)
PORT = 80
ANSWER_LIMIT_S, SILENCE_S = 20.0, 0.5


@pytest.fixture
def guests(fabric: LinuxFabric, outside: str) -> Iterator[tuple[Wired, Wired]]:
    with _plugged(fabric, FIRST, OTHER) as (first, other):
        yield first, other


def test_the_outside_reaches_the_port_and_is_seen_as_itself(
    fabric: LinuxFabric, outside: str, guests: tuple[Wired, Wired]
) -> None:
    fabric.ensure_surroundings(_around({FLOATING: FIRST}))
    assert _seen_as(outside, FLOATING, guests[0]) == OUTSIDE


def test_the_port_reaches_the_outside_by_its_floating_address_and_others_by_the_hosts(
    fabric: LinuxFabric, outside: str, guests: tuple[Wired, Wired]
) -> None:
    fabric.ensure_surroundings(_around({FLOATING: FIRST}))
    assert _seen_as(guests[0].namespace, OUTSIDE, outside) == FLOATING
    assert _seen_as(guests[1].namespace, OUTSIDE, outside) == HOST


def test_the_host_itself_reaches_the_port(fabric: LinuxFabric, guests: tuple[Wired, Wired]) -> None:
    fabric.ensure_surroundings(_around({FLOATING: FIRST}))
    with _listening(guests[0].namespace) as listener:
        socket.create_connection((FLOATING, PORT), timeout=ANSWER_LIMIT_S).close()
        assert listener.accept()[0]


def test_guests_of_its_network_reach_it_by_the_outer_address(fabric: LinuxFabric, guests: tuple[Wired, Wired]) -> None:
    first, other = guests
    fabric.ensure_surroundings(_around({FLOATING: FIRST}))
    assert _seen_as(other.namespace, FLOATING, first) == FIRST.gateway
    fabric.ensure_surroundings(_around({FLOATING: FIRST, SECOND: OTHER}))
    assert _seen_as(other.namespace, FLOATING, first) == SECOND


def test_what_passes_on_the_bridge_is_not_translated(fabric: LinuxFabric, guests: tuple[Wired, Wired]) -> None:
    first, other = guests
    fabric.ensure_surroundings(_around({FLOATING: FIRST}))
    assert _seen_as(first.namespace, OTHER.address, other) == FIRST.address


def test_a_guest_of_another_network_of_the_host_reaches_it(fabric: LinuxFabric, guests: tuple[Wired, Wired]) -> None:
    with _plugged(fabric, ELSEWHERE) as (elsewhere,):
        fabric.ensure_surroundings(_around({FLOATING: FIRST}))
        assert _seen_as(elsewhere.namespace, FLOATING, guests[0]) == FIRST.gateway
        assert not _is_reached(elsewhere.namespace, FIRST.address, guests[0])


def test_the_ports_groups_are_in_force(fabric: LinuxFabric, outside: str, guests: tuple[Wired, Wired]) -> None:
    fabric.ensure_surroundings(_around({FLOATING: FIRST}, rules=(OUT,)))
    assert not _is_reached(outside, FLOATING, guests[0])
    fabric.ensure_surroundings(_around({FLOATING: FIRST}, rules=(OUT, replace(IN, remote=f"{OUTSIDE}/32"))))
    assert _is_reached(outside, FLOATING, guests[0])


def test_an_address_moves_from_port_to_port_and_goes(
    fabric: LinuxFabric, outside: str, guests: tuple[Wired, Wired]
) -> None:
    first, other = guests
    fabric.ensure_surroundings(_around({FLOATING: FIRST}))
    fabric.ensure_surroundings(_around({FLOATING: OTHER}))
    assert _seen_as(outside, FLOATING, other) == OUTSIDE
    assert _seen_as(first.namespace, OUTSIDE, outside) == HOST
    fabric.ensure_surroundings(_around({}))
    assert _outer_addresses() == {HOST}
    assert not _is_reached(outside, FLOATING, other)


def test_an_address_that_goes_to_another_network_is_not_taken_by_the_one_it_left(
    fabric: LinuxFabric, outside: str, guests: tuple[Wired, Wired]
) -> None:
    with _plugged(fabric, ELSEWHERE) as (elsewhere,):
        fabric.ensure_surroundings(_around({FLOATING: FIRST}))
        fabric.ensure_surroundings(_around({FLOATING: ELSEWHERE}, on=8))
        fabric.ensure_surroundings(_around({}))
        assert _seen_as(outside, FLOATING, elsewhere) == OUTSIDE


def test_an_address_goes_with_its_port(fabric: LinuxFabric, guests: tuple[Wired, Wired]) -> None:
    fabric.ensure_surroundings(_around({FLOATING: FIRST, SECOND: OTHER}))
    fabric.ensure_unplugged(OTHER)
    assert _outer_addresses() == {HOST, FLOATING}
    fabric.ensure_unplugged(FIRST)
    assert _outer_addresses() == {HOST}


def test_an_address_of_a_port_that_is_elsewhere_is_not_held(fabric: LinuxFabric, guests: tuple[Wired, Wired]) -> None:
    fabric.ensure_surroundings(_around({FLOATING: vif(2)}))
    assert _outer_addresses() == {HOST}


def test_an_address_that_the_operator_gave_the_host_stays(fabric: LinuxFabric, guests: tuple[Wired, Wired]) -> None:
    subprocess.run(["ip", "addr", "add", f"{FLOATING}/24", "dev", "uplink"], check=True)
    fabric.ensure_surroundings(_around({FLOATING: FIRST}))
    fabric.ensure_surroundings(_around({}))
    assert _outer_addresses() == {HOST, FLOATING}


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
    assert _seen_as(outside, NOWHERE, guests[0]) == OUTSIDE
    assert _seen_as(outside, SECOND, guests[1]) == OUTSIDE
    assert _outer_addresses() == {HOST, SECOND}


def _around(floating: dict[str, VifPlan], *, rules: tuple[SecurityRule, ...] = (OUT, IN), on: int = 9) -> Surroundings:
    """The network's surroundings with these floating addresses; a group that all ports are in has the rules."""
    nics = [ELSEWHERE] if on == 8 else [FIRST, OTHER, vif(2)]
    return Surroundings(
        network=network(on),
        members=tuple(
            Member(
                port_id=nic.port_id,
                host=HostName("here"),
                mac=nic.mac,
                addresses=(nic.address,),
                security_groups=(GROUP,),
            )
            for nic in nics
        ),
        groups=(SecurityGroup(id=GROUP, name="all", rules=rules),),
        floating=tuple(
            FloatingAddress(id=FloatingId(address), address=address, port_id=nic.port_id)
            for address, nic in floating.items()
        ),
    )


@contextmanager
def _plugged(fabric: LinuxFabric, *nics: VifPlan) -> Iterator[tuple[Wired, ...]]:
    with ExitStack() as stack:
        for nic in nics:
            fabric.ensure_plugged(nic)
            stack.callback(fabric.ensure_unplugged, nic)
        yield stack.enter_context(wired(*nics))


def _seen_as(client: str, address: str, server: Wired | str) -> str:
    """The address that the server sees when the client connects to `address`."""
    with _listening(server if isinstance(server, str) else server.namespace) as listener:
        with run_in(client, lambda: socket.create_connection((address, PORT), timeout=ANSWER_LIMIT_S)) as here:
            there, seen = listener.accept()
            with there:
                there.sendall(b"welcome")
                here.settimeout(ANSWER_LIMIT_S)
                assert here.recv(100) == b"welcome"
        return str(seen[0])


def _is_reached(client: str, address: str, server: Wired) -> bool:
    with _listening(server.namespace):
        try:
            run_in(client, lambda: socket.create_connection((address, PORT), timeout=SILENCE_S)).close()
        except OSError:
            return False
        return True


def _listening(namespace: str) -> socket.socket:
    def listen() -> socket.socket:
        listener = socket.create_server(("", PORT))
        listener.settimeout(ANSWER_LIMIT_S)
        return listener

    return run_in(namespace, listen)


def _outer_addresses() -> set[str]:
    said = subprocess.run(["ip", "-j", "-4", "addr", "show", "dev", "uplink"], capture_output=True, check=True).stdout
    return {held["local"] for held in json.loads(said)[0]["addr_info"]}
