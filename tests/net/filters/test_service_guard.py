"""What passes a tunnel's port and what does not: frames sent, frames arrived."""

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from net.filters.service_guard import OUTER, SERVED, SERVICE, ServiceGuard, read_names, removal_script_for, script_for
from net.filters.transactions import Transactions
from net.services.site import METADATA_ADDRESS
from taskvisor.model.network import NetworkKind
from tests.fixtures.namespaces import open_namespace
from tests.net.hosts import run_in, veth
from tests.net.plans import vif

TUNNELLED = replace(vif(), kind=NetworkKind.VXLAN, segment=77)
TUNNEL = "vxlan-77"
BRIDGE = "b0"
BROADCAST, SENDER = b"\xff" * 6, bytes.fromhex("525400000001")
RECEIVE_LIMIT_S = 20.0
DATA = b"so much that no frame is filled up: netfilter cuts the filling off"
LAST = BROADCAST + SENDER + (0x88B5).to_bytes(2, "big") + bytes(46)


def ethernet(kind: int, payload: bytes) -> bytes:
    return (BROADCAST + SENDER + kind.to_bytes(2, "big") + payload).ljust(60, b"\0")


def udp4(port: int) -> bytes:
    datagram = struct.pack("!HHHH", 40000, port, 8 + len(DATA), 0) + DATA
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    total: int = sum(struct.unpack("!10H", head))
    folded = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF  # RFC 791; netfilter drops what has another
    return ethernet(0x0800, head[:10] + folded.to_bytes(2, "big") + head[12:] + datagram)


def ip6(next_header: int, payload: bytes) -> bytes:
    source, target = IPv6Address("fe80::1").packed, IPv6Address("ff02::1").packed
    return ethernet(0x86DD, struct.pack("!IHBB", 6 << 28, len(payload), next_header, 255) + source + target + payload)


def udp6(port: int) -> bytes:
    return ip6(17, struct.pack("!HHHH", 40000, port, 12, 0xFFFF) + b"data")


def icmp6(kind: int) -> bytes:
    return ip6(58, struct.pack("!BBH", kind, 0, 0) + bytes(12))


def arp(sender: str, target: str) -> bytes:
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    return ethernet(0x0806, head + SENDER + IPv4Address(sender).packed + bytes(6) + IPv4Address(target).packed)


STOPPED = {
    "a question for DHCP": udp4(67),
    "an answer of DHCP": udp4(68),
    "a question for DHCPv6": udp6(547),
    "an answer of DHCPv6": udp6(546),
    "a router solicitation": icmp6(133),
    "a router advertisement": icmp6(134),
    "ARP for the metadata service": arp("10.9.0.10", METADATA_ADDRESS),
    "ARP of the metadata service": arp(METADATA_ADDRESS, "10.9.0.10"),
}
PASSED = {
    "UDP": udp4(9999),
    "UDP over IPv6": udp6(9999),
    "a neighbour solicitation": icmp6(135),
    "an echo request": icmp6(128),
    "ARP": arp("10.9.0.10", "10.9.0.11"),
}


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """A bridge with a tunnel's port, and a guest's. Each of three places: a namespace and the link there."""

    guest: tuple[str, str]
    host: tuple[str, str]
    far: tuple[str, str]


@pytest.fixture
def bridge(host_namespace: str, tmp_path: Path) -> Iterator[Bridge]:
    """A guarded bridge. The tunnel is a cable, so that its far end can be listened at."""
    guest, far = f"{host_namespace[:11]}g", f"{host_namespace[:11]}f"
    guard = ServiceGuard(Transactions(tmp_path / "lock"))
    with ExitStack() as stack:
        for name in (guest, far):
            stack.enter_context(open_namespace(name))
        with IPRoute() as netlink:
            netlink.link("add", ifname=BRIDGE, kind="bridge", br_forward_delay=0)
            netlink.link("set", index=netlink.link_lookup(ifname=BRIDGE)[0], state="up")
        for name, there in (("g0", guest), (TUNNEL, far)):
            stack.enter_context(veth(name, there, bridge=BRIDGE))
            with IPRoute(netns=there) as netlink:
                netlink.link("set", index=netlink.link_lookup(ifname="eth0")[0], state="up")
        guard.ensure_guarded(TUNNELLED)
        yield Bridge(guest=(guest, "eth0"), host=(host_namespace, BRIDGE), far=(far, "eth0"))
        guard.ensure_network_unguarded(TUNNELLED)
        assert not any(read_names().values())
        with IPRoute() as netlink:
            netlink.link("del", index=netlink.link_lookup(ifname=BRIDGE)[0])


def arrived(sender: tuple[str, str], receiver: tuple[str, str], frames: dict[str, bytes]) -> set[str]:
    """Which of the frames, all sent, the receiver's link heard. Until the last frame, which nothing stops, has come."""
    with run_in(receiver[0], lambda: _packet_socket(receiver[1])) as listening:
        with run_in(sender[0], lambda: _packet_socket(sender[1])) as sending:
            for frame in (*frames.values(), LAST):
                sending.send(frame)
        heard: set[bytes] = set()
        while LAST not in heard:
            heard.add(listening.recv(2048))
    return {name for name, frame in frames.items() if frame in heard}


def _packet_socket(link: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
    made.settimeout(RECEIVE_LIMIT_S)
    made.bind((link, 3))
    return made


@pytest.mark.real
@pytest.mark.parametrize(("sender", "receiver"), [("guest", "far"), ("far", "guest"), ("far", "host")])
def test_what_every_host_serves_itself_does_not_pass_a_tunnel_and_all_else_does(
    bridge: Bridge, sender: str, receiver: str
) -> None:
    assert arrived(getattr(bridge, sender), getattr(bridge, receiver), STOPPED | PASSED) == set(PASSED)


@pytest.mark.real
def test_the_bridge_itself_asks_nobody_behind_a_tunnel_who_has_an_address(bridge: Bridge) -> None:
    passed = set(PASSED) - {"ARP", "a neighbour solicitation"}
    assert arrived(bridge.host, bridge.far, STOPPED | PASSED) == passed


@pytest.mark.real
@pytest.mark.parametrize(("sender", "receiver"), [("guest", "host"), ("host", "guest")])
def test_within_the_host_all_passes(bridge: Bridge, sender: str, receiver: str) -> None:
    assert arrived(getattr(bridge, sender), getattr(bridge, receiver), STOPPED | PASSED) == {*STOPPED, *PASSED}


def test_the_table_goes_with_the_last_name_and_not_before() -> None:
    held = {SERVED: frozenset({"tap1"}), SERVICE: frozenset({"svp1"}), OUTER: frozenset({TUNNEL})}
    assert "delete table" not in removal_script_for({OUTER: TUNNEL}, held)
    last = {SERVED: frozenset[str](), SERVICE: frozenset[str](), OUTER: frozenset({TUNNEL})}
    assert removal_script_for({OUTER: TUNNEL}, last).endswith("delete table bridge taskvisor_services\n")


def test_a_name_is_added_and_none_is_taken() -> None:
    script = script_for({OUTER: TUNNEL})
    assert f"add element bridge taskvisor_services outer {{ {TUNNEL} }}" in script
    assert "flush set" not in script
    assert "delete" not in script
