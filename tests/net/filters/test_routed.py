"""Filters of a port without a bridge, to which the host routes: the same rules on the same places of another family."""

import functools
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from net.filters.chains import Listing
from net.filters.port_filters import PortFilters, read_port_listing
from net.filters.port_rules import PortRules
from net.filters.transactions import Transactions
from net.links.sysctl import ensure_sysctl
from net.plan import tap_name_for
from taskvisor.model.ids import HostName, OperationId, SecurityGroupId, instance_id_for, network_id_for, port_id_for
from taskvisor.model.network import (
    Direction,
    IpFamily,
    Member,
    Network,
    NetworkKind,
    SecurityGroup,
    SecurityRule,
    Surroundings,
)
from tests.fixtures.namespaces import open_namespace
from tests.net.hosts import run_in, veth

pytestmark = pytest.mark.real

GUEST, GATEWAY, OUTSIDE, HOST = "10.9.0.10", "10.9.0.1", "192.0.2.2", "192.0.2.1"
MAC = "fa:16:3e:00:00:10"
GROUP = SecurityGroupId("11111111-0000-4000-8000-000000000001")
PORT_ID = port_id_for(instance_id_for(OperationId("routed")), 0)
TAP = tap_name_for(PORT_ID)
OUT = SecurityRule(direction=Direction.EGRESS, family=IpFamily.V4)
IN = SecurityRule(direction=Direction.INGRESS, family=IpFamily.V4, protocol="tcp", first_port=80, last_port=80)
ANSWER_LIMIT_S, SILENCE_S = 20.0, 0.5


@pytest.fixture
def filters(tmp_state_dir: Path) -> PortFilters:
    return PortFilters(Transactions(tmp_state_dir / "lock"), tmp_state_dir / "filters")


@pytest.fixture
def ends(host_namespace: str, tmp_state_dir: Path, filters: PortFilters) -> Iterator[tuple[str, str]]:
    """A guest behind a link that the host routes to, filtered, and a machine outside. Yields their namespaces."""
    guest, outside = f"{tmp_state_dir.name[-8:]}g", f"{tmp_state_dir.name[-8:]}o"
    ensure_sysctl("ipv4/ip_forward", "1")
    with (
        open_namespace(guest),
        open_namespace(outside),
        veth(TAP, guest) as tap,
        veth("uplink", outside) as uplink,
    ):
        with IPRoute() as host:
            host.addr("add", index=tap, address=GATEWAY, prefixlen=32)
            host.route("add", dst=f"{GUEST}/32", oif=tap)
            host.addr("add", index=uplink, address=HOST, prefixlen=24)
        _set_up(guest, GUEST, GATEWAY, MAC)
        _set_up(outside, OUTSIDE, HOST, "fa:16:3e:00:00:99")
        filters.ensure_port(PortRules(tap=TAP, mac=MAC, addresses=(GUEST,), segment=None, groups=(GROUP,)))
        yield guest, outside
        filters.ensure_port_absent(TAP)
        assert read_port_listing() == Listing()


def test_a_routed_port_sends_and_hears_answers_until_a_group_lets_more_in(
    ends: tuple[str, str], filters: PortFilters
) -> None:
    guest, outside = ends
    assert _is_reached(guest, OUTSIDE, outside)
    assert not _is_reached(outside, GUEST, guest)
    filters.ensure_groups(_around((OUT, IN)), frozenset({PORT_ID}))
    assert _is_reached(outside, GUEST, guest)
    assert _is_reached(guest, OUTSIDE, outside)
    filters.ensure_groups(_around(()), frozenset({PORT_ID}))
    assert not _is_reached(outside, GUEST, guest)
    assert not _is_reached(guest, OUTSIDE, outside)


def test_a_routed_port_does_not_speak_as_another(ends: tuple[str, str]) -> None:
    guest, outside = ends
    with IPRoute(netns=guest) as inner:
        inner.addr("add", index=inner.link_lookup(ifname="eth0")[0], address="10.9.0.66", prefixlen=32)
    with run_in(outside, _server) as server:
        for source in ("10.9.0.66", GUEST):
            with run_in(guest, functools.partial(_datagram_socket, source)) as sender:
                sender.sendto(source.encode(), (OUTSIDE, 80))
        server.settimeout(ANSWER_LIMIT_S)
        assert server.recv(100) == GUEST.encode(), "the other one came first, if it came"


def test_a_routed_port_reaches_none_of_the_hosts_own_services(ends: tuple[str, str]) -> None:
    with socket.create_server(("", 80)), pytest.raises(OSError, match="No route to host"):
        run_in(ends[0], lambda: socket.create_connection((HOST, 80), timeout=ANSWER_LIMIT_S))


def _around(rules: tuple[SecurityRule, ...]) -> Surroundings:
    member = Member(port_id=PORT_ID, host=HostName("here"), mac=MAC, addresses=(GUEST,), security_groups=(GROUP,))
    return Surroundings(
        network=Network(
            id=network_id_for("routed"), name="routed", kind=NetworkKind.ROUTED, cidr="10.9.0.0/24", gateway=GATEWAY
        ),
        members=(member,),
        groups=(SecurityGroup(id=GROUP, name="web", rules=rules),),
    )


def _set_up(namespace: str, address: str, gateway: str, mac: str) -> None:
    with IPRoute(netns=namespace) as inner:
        index = inner.link_lookup(ifname="eth0")[0]
        inner.link("set", index=index, address=mac)
        inner.link("set", index=index, state="up")
        inner.addr("add", index=index, address=address, prefixlen=24)
        inner.route("add", dst="default", gateway=gateway)


def _is_reached(client: str, address: str, server: str) -> bool:
    """Whether a TCP connection comes about: tried twice, for the first packet may wait for a neighbour's answer."""
    with run_in(server, lambda: socket.create_server(("", 80))):
        for _ in range(3):
            try:
                run_in(client, lambda: socket.create_connection((address, 80), timeout=SILENCE_S)).close()
            except TimeoutError:
                continue
            return True
        return False


def _server() -> socket.socket:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("", 80))
    return server


def _datagram_socket(source: str) -> socket.socket:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((source, 0))
    return sender
