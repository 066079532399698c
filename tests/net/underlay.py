"""What hosts say to each other inside their tunnels, by tcpdump on the link between them and scapy's reading of it (RFC 7348)."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scapy.layers.dhcp6 import DHCP6_Solicit
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA, ICMPv6ND_RS, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet
from scapy.utils import PcapReader

from tests.net.hosts import run_in
from tests.net.lan import UPLINK, LanHost

SEEN_LIMIT_S = 60.0
LAST_TYPE = 0x88B5  # IEEE 802: for experiments
SERVICE_PORTS = frozenset({67, 68, 546, 547})
"""Of DHCP, RFC 2131, and DHCPv6, RFC 8415."""
METADATA = "169.254.169.254"
_LAYERS_READ = (ICMP, TCP, DHCP6_Solicit)
"""Named so that scapy binds them: a layer that was never imported is left as bytes."""


@contextmanager
def watched_underlay(host: LanHost, scratch: Path) -> Iterator[list[Packet]]:
    """All that passes the host's uplink in the block, in both directions; there once the block has ended.

    A last frame of our own is sent and waited for, so that what came before it has been seen.
    """
    seen: list[Packet] = []
    pcap = scratch / f"{host.namespace}.pcap"
    argv = ["ip", "netns", "exec", host.namespace, "tcpdump", "-U", "--immediate-mode", "-i", UPLINK, "-w", "-"]
    with pcap.open("wb") as raw, subprocess.Popen(argv, stdout=raw, stderr=subprocess.PIPE, text=True) as tcpdump:
        assert tcpdump.stderr is not None
        try:
            assert any("listening on" in line for line in tcpdump.stderr)
            yield seen
            run_in(host.namespace, _send_last)
            deadline = time.monotonic() + SEEN_LIMIT_S
            while not _ended(found := _packets_in(pcap)):
                assert time.monotonic() < deadline, "tcpdump did not see the last frame"
                time.sleep(0.1)
            seen += [packet for packet in found if packet.type != LAST_TYPE]
        finally:
            tcpdump.kill()


def tunnelled(seen: list[Packet], vni: int) -> list[Packet]:
    """The frames of guests that passed in that network's tunnels."""
    return [packet[VXLAN].payload for packet in seen if VXLAN in packet and packet[VXLAN].vni == vni]


def is_dhcp(frame: Packet) -> bool:
    return UDP in frame and not SERVICE_PORTS.isdisjoint({frame[UDP].sport, frame[UDP].dport})


def is_router_discovery(frame: Packet) -> bool:
    return ICMPv6ND_RS in frame or ICMPv6ND_RA in frame


def is_about(address: str) -> Callable[[Packet], bool]:
    """Whether it asks for the address or speaks as it, by ARP or neighbour discovery, or is from or to it."""

    def judged(frame: Packet) -> bool:
        if ARP in frame:
            return address in (frame[ARP].psrc, frame[ARP].pdst)
        targets = [frame[layer].tgt for layer in (ICMPv6ND_NS, ICMPv6ND_NA) if layer in frame]
        ends = [end for layer in (IP, IPv6) if layer in frame for end in (frame[layer].src, frame[layer].dst)]
        return address in (*targets, *ends)

    return judged


def is_of(mac: str) -> Callable[[Packet], bool]:
    """Whether that MAC sent it, or it is for that MAC."""
    return lambda frame: mac in (frame[Ether].src, frame[Ether].dst)


def _packets_in(pcap: Path) -> list[Packet]:
    if not pcap.stat().st_size:
        return []
    with PcapReader(str(pcap)) as reader:
        return list(reader)


def _ended(packets: list[Packet]) -> bool:
    return any(packet.type == LAST_TYPE for packet in packets if Ether in packet)


def _send_last() -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((UPLINK, 0))
        sender.send(b"\xff" * 6 + bytes(6) + LAST_TYPE.to_bytes(2, "big") + bytes(46))
