"""What passes between guests, other networks and the outside, in namespaces that the test made."""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from net.fabric import LinuxFabric
from taskvisor.model.plan import VifPlan
from tests.fixtures.namespaces import open_namespace
from tests.net.hosts import guest_on, run_in, veth
from tests.net.plans import network, vif

pytestmark = pytest.mark.real

HOST_ADDRESS, OUTER_ADDRESS = "192.0.2.1", "192.0.2.2"
ANSWER_LIMIT_S = 3.0
PORT = 7007


def test_a_guest_reaches_the_outside_as_the_host(fabric: LinuxFabric, state_dir: Path) -> None:
    with _plugged(fabric, vif()), _outer(state_dir) as outer, _guest(state_dir, vif()) as guest:
        server, client = _listening(outer), _connected(guest, OUTER_ADDRESS)
        client.send(b"hello")
        said, seen_as = server.recvfrom(100)
        assert (said, seen_as[0]) == (b"hello", HOST_ADDRESS)
        server.sendto(b"welcome", seen_as)
        assert client.recv(100) == b"welcome"


def test_the_outside_does_not_reach_a_guest_on_its_own_account(fabric: LinuxFabric, state_dir: Path) -> None:
    with _plugged(fabric, vif()), _outer(state_dir) as outer, _guest(state_dir, vif()):
        assert _is_turned_away(outer, "10.9.0.99")


def test_one_network_does_not_reach_another(fabric: LinuxFabric, state_dir: Path) -> None:
    ours, other = vif(), vif(on=network(8))
    with _plugged(fabric, ours, other), _guest(state_dir, ours) as guest, _guest(state_dir, other):
        assert _is_turned_away(guest, "10.8.0.99")


def test_guests_of_one_network_reach_each_other(fabric: LinuxFabric, state_dir: Path) -> None:
    with (
        _plugged(fabric, vif()),
        _guest(state_dir, vif()) as guest,
        guest_on(vif().bridge, f"{state_dir.name[-8:]}x", "10.9.0.98", "10.9.0.1") as neighbour,
    ):
        server, client = _listening(neighbour), _connected(guest, "10.9.0.98")
        client.send(b"hello")
        assert server.recvfrom(100)[1][0] == "10.9.0.99"


def test_a_network_without_nat_reaches_nothing_outside(fabric: LinuxFabric, state_dir: Path) -> None:
    isolated, routed = vif(on=network(8, nat=False)), vif()  # the other one has forwarding switched on
    with _plugged(fabric, isolated, routed), _outer(state_dir), _guest(state_dir, isolated) as guest:
        assert _is_turned_away(guest, OUTER_ADDRESS)


def test_a_guest_cannot_send_as_somebody_from_elsewhere(fabric: LinuxFabric, state_dir: Path) -> None:
    with _plugged(fabric, vif()), _outer(state_dir), _guest(state_dir, vif()) as guest:
        with IPRoute(netns=guest) as inner:
            inner.addr("add", index=inner.link_lookup(ifname="eth0")[0], address="198.51.100.7", prefixlen=32)
        sender = _connected(guest, OUTER_ADDRESS, source="198.51.100.7")
        with IPRoute() as host:  # so that the host's refusal finds its way back
            host.route("add", dst="198.51.100.7/32", oif=host.link_lookup(ifname=vif().bridge)[0])
        assert _is_refused(sender)


@contextmanager
def _plugged(fabric: LinuxFabric, *nics: VifPlan) -> Iterator[None]:
    with ExitStack() as stack:
        for nic in nics:
            fabric.ensure_plugged(nic)
            stack.callback(fabric.ensure_unplugged, nic)
        yield


@contextmanager
def _outer(state_dir: Path) -> Iterator[str]:
    """A machine next to the host, which knows a way to the guests (a real one doesn't)."""
    name = f"{state_dir.name[-8:]}o"
    with open_namespace(name), veth("uplink", name) as index:
        with IPRoute() as host:
            host.addr("add", index=index, address=HOST_ADDRESS, prefixlen=24)
        with IPRoute(netns=name) as outer:
            peer = outer.link_lookup(ifname="eth0")[0]
            outer.link("set", index=peer, state="up")
            outer.addr("add", index=peer, address=OUTER_ADDRESS, prefixlen=24)
            outer.route("add", dst="10.0.0.0/8", gateway=HOST_ADDRESS)
        yield name


@contextmanager
def _guest(state_dir: Path, nic: VifPlan) -> Iterator[str]:
    """A guest with an IP stack on the NIC's bridge, at .99."""
    prefix = nic.gateway.rsplit(".", 1)[0]
    with guest_on(nic.bridge, f"{state_dir.name[-8:]}{prefix.split('.')[1]}", f"{prefix}.99", nic.gateway) as name:
        yield name


def _listening(namespace: str) -> socket.socket:
    def listen() -> socket.socket:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("", PORT))
        server.settimeout(ANSWER_LIMIT_S)
        return server

    return run_in(namespace, listen)


def _connected(namespace: str, address: str, *, source: str = "") -> socket.socket:
    def connect() -> socket.socket:
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.bind((source, 0))
        client.connect((address, PORT))
        client.settimeout(ANSWER_LIMIT_S)
        return client

    return run_in(namespace, connect)


def _is_turned_away(namespace: str, address: str) -> bool:
    return _is_refused(_connected(namespace, address))


def _is_refused(client: socket.socket) -> bool:
    """The host said "administratively prohibited" to a datagram (the kernel's EHOSTUNREACH)."""
    client.send(b"hello")
    try:
        client.recv(100)
    except OSError as error:
        return error.errno == errno.EHOSTUNREACH
    return False
