"""Frames that a port may not send, sent: counted at another guest of its bridge, made by scapy rather than by us."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import DHCP6_Advertise
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    PadN,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from net.fabric import LinuxFabric
from net.filters.anti_spoofing import link_local_for
from taskvisor.model.network import AddressPair
from taskvisor.model.plan import VifPlan
from tests.net.hosts import EMPTY, read_world
from tests.net.plans import vif
from tests.net.wired import Wired, arrivals, wired

pytestmark = pytest.mark.real

TIMES = 5
NOBODY = str(IPv4Address(0))
EVERYBODY = "ff:ff:ff:ff:ff:ff"
OTHER_MAC = "fa:16:3e:aa:bb:cc"
OTHER, OTHER6 = "10.9.0.77", "fd00:9::77"
SENDER = replace(vif(0), address6="fd00:9::10")
LISTENER = replace(vif(1), anti_spoofing=False, address6="fd00:9::11")
MAC, LINK_LOCAL = SENDER.mac, link_local_for(SENDER.mac)
OPEN = Ether(src=MAC, dst=EVERYBODY) / ARP(op=1, hwsrc=MAC, psrc=SENDER.address, pdst=OTHER) / Raw(b"the-way-is-open")


def _ether(src: str = MAC, dst: str = EVERYBODY) -> Packet:
    return Ether(src=src, dst=dst)


def _arp(mac: str = MAC, ip: str = SENDER.address, op: int = 2, pdst: str = LISTENER.address) -> Packet:
    return ARP(op=op, hwsrc=mac, psrc=ip, pdst=pdst)


def _ip6(src: str, dst: str = "ff02::1") -> Packet:
    return IPv6(src=src, dst=dst, hlim=255)


FORBIDDEN: dict[str, Packet] = {
    "IPv4 of another MAC": _ether(OTHER_MAC) / IP(src=SENDER.address, dst=LISTENER.address) / ICMP(),
    "IPv4 of another address": _ether() / IP(src=OTHER, dst=LISTENER.address) / ICMP(),
    "IPv4 of the gateway": _ether() / IP(src="10.9.0.1", dst=LISTENER.address) / UDP(sport=53, dport=5353),
    "IPv4 of no address": _ether() / IP(src=NOBODY, dst=LISTENER.address) / UDP(sport=1, dport=2),
    "ARP in a frame of another MAC": _ether(OTHER_MAC) / _arp(),
    "ARP that names another MAC": _ether() / _arp(mac=OTHER_MAC),
    "ARP reply for another address": _ether() / _arp(ip=OTHER),
    "ARP reply for the gateway": _ether() / _arp(ip="10.9.0.1"),
    "ARP request of another address": _ether() / _arp(ip=OTHER, op=1),
    "gratuitous ARP for another address": _ether() / _arp(ip=OTHER, pdst=OTHER, op=1),
    "ARP reply of no address": _ether() / _arp(ip=NOBODY),
    "reverse ARP": _ether() / _arp(op=3),
    "IPv6 of another address": _ether() / _ip6(OTHER6) / ICMPv6EchoRequest(),
    "IPv6 of another MAC": _ether(OTHER_MAC) / _ip6("fd00:9::10") / ICMPv6EchoRequest(),
    "IPv6 of another link-local address": _ether() / _ip6("fe80::1") / UDP(sport=1, dport=2),
    "IPv6 of no address": _ether() / _ip6("::") / UDP(sport=1, dport=2),
    "neighbour advertisement for another": _ether() / _ip6(LINK_LOCAL) / ICMPv6ND_NA(tgt=OTHER6, O=1),
    "look whether another's address is taken": _ether() / _ip6("::", "ff02::1:ff00:77") / ICMPv6ND_NS(tgt=OTHER6),
    "router advertisement": _ether() / _ip6(LINK_LOCAL) / ICMPv6ND_RA(),
    "router advertisement behind an extension": _ether() / _ip6(LINK_LOCAL) / IPv6ExtHdrDestOpt() / ICMPv6ND_RA(),
    "redirect": _ether() / _ip6(LINK_LOCAL) / ICMPv6ND_Redirect(tgt=LINK_LOCAL, dst="fd00:9::99"),
    "DHCP offer": _ether()
    / IP(src=SENDER.address, dst="255.255.255.255")
    / UDP(sport=67, dport=68)
    / BOOTP(op=2, yiaddr=OTHER)
    / DHCP(options=[("message-type", "offer"), "end"]),
    "DHCP offer from another port": _ether() / IP(src=SENDER.address, dst=LISTENER.address) / UDP(sport=4067, dport=68),
    "DHCPv6 advertisement": _ether() / _ip6(LINK_LOCAL) / UDP(sport=547, dport=546) / DHCP6_Advertise(),
    "a VLAN's frame": _ether() / Dot1Q(vlan=7) / IP(src=SENDER.address, dst=LISTENER.address) / ICMP(),
    "LLDP's protocol": Ether(src=MAC, dst=EVERYBODY, type=0x88CC),
    "PPPoE's protocol": Ether(src=MAC, dst=EVERYBODY, type=0x8864),
}
ALLOWED: dict[str, Packet] = {
    "IPv4": _ether() / IP(src=SENDER.address, dst=LISTENER.address) / ICMP(),
    "ARP request": _ether() / _arp(op=1),
    "ARP reply": _ether() / _arp(),
    "gratuitous ARP of its own": _ether() / _arp(op=1, pdst=SENDER.address),
    "ARP probe": _ether() / _arp(op=1, ip=NOBODY, pdst=SENDER.address),
    "DHCP's first question": _ether() / IP(src=NOBODY, dst="255.255.255.255") / UDP(sport=68, dport=67) / BOOTP(),
    "IPv6": _ether() / _ip6("fd00:9::10") / ICMPv6EchoRequest(),
    "IPv6 of its link-local address": _ether() / _ip6(LINK_LOCAL) / UDP(sport=1, dport=2),
    "neighbour advertisement": _ether() / _ip6("fd00:9::10") / ICMPv6ND_NA(tgt="fd00:9::10"),
    "neighbour solicitation": _ether() / _ip6(LINK_LOCAL, "ff02::1:ff00:11") / ICMPv6ND_NS(tgt="fd00:9::11"),
    "look whether its own address is taken": _ether() / _ip6("::", "ff02::1:ff00:10") / ICMPv6ND_NS(tgt="fd00:9::10"),
    "router solicitation": _ether() / _ip6("::", "ff02::2") / ICMPv6ND_RS(),
    "DHCPv6 solicitation": _ether() / _ip6(LINK_LOCAL, "ff02::1:2") / UDP(sport=546, dport=547),
}


@pytest.fixture
def listener(fabric: LinuxFabric) -> Iterator[Wired]:
    """A guest that hears all that its bridge carries to it."""
    fabric.ensure_plugged(LISTENER)
    with wired(LISTENER) as (guest,):
        yield guest
    fabric.ensure_unplugged(LISTENER)


def test_no_forbidden_frame_arrives(fabric: LinuxFabric, listener: Wired) -> None:
    with _plugged(fabric, SENDER) as send:
        assert arrived_of(send, listener, FORBIDDEN) == dict.fromkeys(FORBIDDEN, 0)


def test_each_of_them_arrives_from_a_port_without_anti_spoofing(fabric: LinuxFabric, listener: Wired) -> None:
    with _plugged(fabric, replace(SENDER, anti_spoofing=False)) as send:
        assert arrived_of(send, listener, FORBIDDEN) == dict.fromkeys(FORBIDDEN, TIMES)


def test_every_allowed_frame_arrives(fabric: LinuxFabric, listener: Wired) -> None:
    with _plugged(fabric, SENDER) as send:
        assert arrived_of(send, listener, ALLOWED) == dict.fromkeys(ALLOWED, TIMES)


def test_an_allowed_pair_lets_its_address_and_its_mac_pass_and_no_other(fabric: LinuxFabric, listener: Wired) -> None:
    pairs = (
        AddressPair(address="10.9.0.77"),
        AddressPair(address="10.9.0.64/28", mac=OTHER_MAC),
        AddressPair(address="fd00:9::70/124"),
    )
    with _plugged(fabric, replace(SENDER, allowed_pairs=pairs)) as send:
        allowed = {
            "its MAC, IPv4": FORBIDDEN["IPv4 of another address"],
            "its MAC, ARP": FORBIDDEN["ARP reply for another address"],
            "the pair's MAC": _ether(OTHER_MAC) / IP(src="10.9.0.65", dst=LISTENER.address) / ICMP(),
            "the pair's MAC, ARP": _ether(OTHER_MAC) / _arp(mac=OTHER_MAC, ip="10.9.0.66"),
            "IPv6": FORBIDDEN["IPv6 of another address"],
            "neighbour advertisement": FORBIDDEN["neighbour advertisement for another"],
        }
        forbidden = {
            "the pair's address of its own MAC": _ether() / IP(src="10.9.0.65", dst=LISTENER.address) / ICMP(),
            "its own address of the pair's MAC": FORBIDDEN["IPv4 of another MAC"],
            "beyond the pair's network": _ether(OTHER_MAC) / IP(src="10.9.0.81", dst=LISTENER.address) / ICMP(),
            "beyond the pair's IPv6 network": _ether() / _ip6("fd00:9::80") / ICMPv6EchoRequest(),
        }
        wanted = {**dict.fromkeys(allowed, TIMES), **dict.fromkeys(forbidden, 0)}
        assert arrived_of(send, listener, {**allowed, **forbidden}) == wanted


@pytest.mark.parametrize(
    ("cut_at", "otherwise"),
    [
        (8, False),
        (16, False),
        (24, True),
    ],  # the kernel itself puts nothing together that hides what it is (RFC 8200 §4.5)
    ids=["within the extension", "before the type", "after the type"],
)
def test_a_router_advertisement_in_fragments_does_not_arrive(
    fabric: LinuxFabric, listener: Wired, cut_at: int, otherwise: bool
) -> None:
    extension = IPv6ExtHdrDestOpt(nh=58, len=1, options=[PadN(optdata=bytes(12))])
    whole = bytes(_ip6(LINK_LOCAL) / extension / ICMPv6ND_RA() / Raw(b"<advertised>"))[40:]
    parts = [(whole[:cut_at], 0, 1), (whole[cut_at:], cut_at // 8, 0)]
    frames = [
        _ether() / _ip6(LINK_LOCAL) / IPv6ExtHdrFragment(nh=60, offset=offset, m=more, id=7) / Raw(part)
        for part, offset, more in parts
    ]
    for nic, arriving in ((SENDER, False), (replace(SENDER, anti_spoofing=False), otherwise)):
        with _plugged(fabric, nic) as send, listener.listen() as heard:
            for frame in frames:
                send(bytes(frame))
            send(bytes(OPEN))
            counts = arrivals(heard, [b"<advertised>"], last=b"the-way-is-open")
            assert bool(counts[b"<advertised>"]) == arriving


@pytest.mark.parametrize("address", [LISTENER.address, "fd00:9::11"])
def test_a_large_echo_passes_in_fragments(fabric: LinuxFabric, listener: Wired, address: str) -> None:
    fabric.ensure_plugged(SENDER)
    with wired(SENDER) as (guest,):
        ping = ["ping", "-c1", "-W20", "-s5000", address]
        said = subprocess.run(["ip", "netns", "exec", guest.namespace, *ping], capture_output=True, check=False)
        assert b"1 received" in said.stdout
    fabric.ensure_unplugged(SENDER)


def test_a_frame_of_link_control_teaches_the_bridge_no_strangers_mac(fabric: LinuxFabric, listener: Wired) -> None:
    stp = Ether(src=OTHER_MAC, dst="01:80:c2:00:00:00", type=0x0027) / Raw(bytes(39))
    with _plugged(fabric, replace(SENDER, anti_spoofing=False)) as send:
        send(bytes(stp))
        assert OTHER_MAC in _learned()
    with _plugged(fabric, SENDER) as send:
        send(bytes(stp))
        assert arrived_of(send, listener, {"IPv4": ALLOWED["IPv4"]}) == {"IPv4": TIMES}
        assert OTHER_MAC not in _learned()


def test_filters_flushed_by_hand_are_back_with_the_next_plug(
    fabric: LinuxFabric, listener: Wired, state_dir: Path
) -> None:
    some = {kind: FORBIDDEN[kind] for kind in ("IPv4 of another address", "ARP reply for the gateway")}
    with _plugged(fabric, SENDER) as send:
        before = read_world(state_dir)
        _nft("flush ruleset")
        assert arrived_of(send, listener, some) == dict.fromkeys(some, TIMES)
        fabric.ensure_plugged(SENDER)
        assert read_world(state_dir) == before
        assert arrived_of(send, listener, some) == dict.fromkeys(some, 0)


def test_the_last_filtered_ports_tables_go_with_it(fabric: LinuxFabric, state_dir: Path) -> None:
    with _plugged(fabric, SENDER):
        assert read_world(state_dir) != EMPTY
    assert read_world(state_dir) == EMPTY


@contextmanager
def _plugged(fabric: LinuxFabric, nic: VifPlan) -> Iterator[Callable[[bytes], None]]:
    """What sends as the guest of the NIC, whose own stack is silent."""
    fabric.ensure_plugged(nic)
    try:
        with wired(nic) as (guest,):
            yield guest.send
    finally:
        fabric.ensure_unplugged(nic)


def arrived_of(send: Callable[[bytes], None], listener: Wired, frames: dict[str, Packet]) -> dict[str, int]:
    """How many of five frames of each kind reached the listener."""
    markers = {f"<{number:03}>".encode() * 3: kind for number, kind in enumerate(frames)}
    with listener.listen() as heard:
        for marker, kind in markers.items():
            for _ in range(TIMES):
                send(bytes(frames[kind] / Raw(marker)))
        send(bytes(OPEN))
        counts = arrivals(heard, list(markers), last=b"the-way-is-open")
    return {kind: counts[marker] for marker, kind in markers.items()}


def _learned() -> set[str]:
    """The MACs that bridges of this namespace know."""
    with IPRoute() as ipr:
        return {str(entry.get("lladdr")) for entry in ipr.fdb("dump")}


def _nft(command: str) -> None:

    subprocess.run(["nft", command], check=True)
