"""Connections between filtered guests of hosts that are joined by tunnels, and what a guest that moves is to its peers."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from taskvisor.model.network import Ipv6Mode, Network, NetworkKind
from taskvisor.model.plan import VifPlan
from tests.fixtures.machine import require_tool
from tests.net.hosts import read_world
from tests.net.lan import LanHost, WiredGuest, asked, guest_at
from tests.net.peers import peer_vif, peers_around
from tests.net.plans import network
from tests.net.underlay import tunnelled, watched_underlay

pytestmark = pytest.mark.real

Lan = tuple[LanHost, ...]
VNI = 100
ON: Network = replace(network(ipv6=Ipv6Mode.SLAAC), kind=NetworkKind.VXLAN, segment=VNI)
HEADERS_BYTES = 28  # IPv4 20, ICMP 8
INTERVAL_S = 0.05
STARTED_LIMIT_S = 60.0
AGAIN_LIMIT_S = 15.0
"""How long a peer may wait on a loaded machine after the last host was told; on an idle one it is one or two pings."""
TRANSFER_BYTES = 4 * 1024**2
IN_FLIGHT_BYTES = 1024**2
"""More than the sockets' buffers hold: iperf3 ends when all is sent, and counts what has come by then."""


def nic_of(number: int, host: LanHost) -> VifPlan:
    return peer_vif(number, ON, host)


@contextmanager
def guest_on(lan: Lan, host: int, number: int) -> Iterator[WiredGuest]:
    """The guest, with both of its addresses, behind its plugged TAP on that host."""
    nic = nic_of(number, lan[host])
    with guest_at(lan[host], nic, f"{lan[0].namespace[:6]}t{number}{host}") as inside:
        asked(inside.namespace, "ip", "addr", "replace", f"{nic.address6}/64", "dev", "eth0", "nodad")
        yield inside


@contextmanager
def plugged(lan: Lan, places: dict[int, int]) -> Iterator[None]:
    """Plugged, and every host told; whatever is plugged of these guests on any host is unplugged afterwards."""
    with ExitStack() as stack:
        for number, host in places.items():
            lan[host].plug(nic_of(number, lan[host]))
        for number in places:
            for there in lan:
                stack.callback(there.unplug, nic_of(number, there))
        for there in lan:
            there.tell(peers_around(lan, ON, places))
        yield


def test_tcp_between_guests_of_two_hosts_passes_their_filters_and_the_tunnel(lan: Lan) -> None:
    require_tool("iperf3")
    with plugged(lan, {0: 0, 1: 1}), guest_on(lan, 0, 0) as client, guest_on(lan, 1, 1) as server:
        assert client.reaches(nic_of(1, lan[1]).address)
        for address in (nic_of(1, lan[1]).address, str(nic_of(1, lan[1]).address6)):
            for direction in ((), ("-R",)):
                said = transferred(client, server, address, *direction)
                print(address, *direction, f"{said['bits_per_second'] / 1e6:.0f} Mbit/s")
                assert said["bytes"] >= TRANSFER_BYTES - IN_FLIGHT_BYTES


def transferred(client: WiredGuest, server: WiredGuest, address: str, *options: str) -> dict[str, float]:
    """What iperf3 says that the receiver got."""
    argv = ["ip", "netns", "exec", server.namespace, "iperf3", "-s", "-1", "--forceflush"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as listening:
        assert listening.stdout is not None
        try:
            assert any("Server listening" in line for line in listening.stdout)
            said = asked(
                client.namespace, "iperf3", "-J", "-n", str(TRANSFER_BYTES), "-w", "256K", "-c", address, *options
            )
        finally:
            listening.kill()
    received: dict[str, float] = json.loads(said)["end"]["sum_received"]
    return received


def test_frames_of_the_networks_mtu_pass_whole_and_one_byte_more_does_not(lan: Lan, tmp_path: Path) -> None:
    """Also of a guest that believes in a larger MTU: what is too large for the tunnel is dropped, and never cut in pieces."""
    fits = ON.mtu - HEADERS_BYTES
    with plugged(lan, {0: 0, 1: 1}), guest_on(lan, 0, 0) as here, guest_on(lan, 1, 1) as there:
        target = nic_of(1, lan[1]).address
        with watched_underlay(lan[0], tmp_path) as seen:
            assert here.reaches(target, payload_bytes=fits)
            assert not here.reaches(target, payload_bytes=fits + 1, limit_s=1.0)
            for guest in (here, there):
                asked(guest.namespace, "ip", "link", "set", "eth0", "mtu", "9000")
            assert here.reaches(target, payload_bytes=fits)
            assert not here.reaches(target, payload_bytes=fits + 1, limit_s=3.0)
    assert max(len(packet) for packet in seen) == 14 + 1500, "the largest fills the underlay, and nothing is larger"
    assert max(len(frame) for frame in tunnelled(seen, VNI)) == 14 + ON.mtu
    assert not any(packet["IP"].flags.MF or packet["IP"].frag for packet in seen if "IP" in packet)


@dataclass(frozen=True, kw_only=True)
class Pings:
    """Pings of one address, one each INTERVAL_S, which go on until they are stopped."""

    running: "subprocess.Popen[str]"
    said: Path

    def answers(self) -> list[tuple[int, float]]:
        """The number of each ping that was answered, and when."""
        found = re.findall(r"^\[([\d.]+)\] .*icmp_seq=(\d+) (?:ttl|hlim)=", self.said.read_text(), re.MULTILINE)
        return [(int(number), float(at)) for at, number in found]

    def answered_since(self, moment: float, *, limit_s: float) -> float | None:
        """How long after that moment the first answer came; None when it did not in time."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if (at := next((at for _, at in self.answers() if at > moment), None)) is not None:
                return at - moment
            time.sleep(INTERVAL_S)
        return None

    def lost(self) -> int:
        """How many of those before the last answered one were not answered."""
        numbers = [number for number, _ in self.answers()]
        return max(numbers) - min(numbers) + 1 - len(numbers)


@contextmanager
def pinging(guest: WiredGuest, address: str, scratch: Path) -> Iterator[Pings]:
    said = scratch / f"{guest.namespace}-{address.replace(':', '-')}"
    argv = ["stdbuf", "-oL", "ping", "-n", "-D", "-i", str(INTERVAL_S), address]
    with said.open("w") as file, subprocess.Popen(["ip", "netns", "exec", guest.namespace, *argv], stdout=file) as run:
        pings = Pings(running=run, said=said)  # type: ignore[arg-type]  # its output is a file: it has no pipe of any type
        try:
            assert pings.answered_since(0.0, limit_s=STARTED_LIMIT_S) is not None, f"{address} is not reached at all"
            yield pings
        finally:
            run.kill()


def test_a_guest_that_moves_is_reached_again_by_its_peers_on_the_host_it_left_and_on_a_third(
    lan: Lan, tmp_path: Path
) -> None:
    left, to = lan[0], lan[1]
    before, after = {0: 0, 1: 0, 2: 2}, {0: 0, 1: 1, 2: 2}
    with plugged(lan, {0: 0, 2: 2}):
        without_it = left.run(lambda: read_world(left.fabric._directory.parent))
    with plugged(lan, before), guest_on(lan, 0, 0) as on_left, guest_on(lan, 2, 2) as on_third, ExitStack() as stack:
        moving = nic_of(1, left)
        with guest_on(lan, 0, 1):
            pings = [
                stack.enter_context(pinging(peer, str(address), tmp_path))
                for peer in (on_left, on_third)
                for address in (moving.address, moving.address6)
            ]
        to.plug(nic_of(1, to))
        left.unplug(moving)
        with guest_on(lan, 1, 1):
            begun = time.time()
            for host in lan:
                host.tell(peers_around(lan, ON, after))
            told = time.time()
            waited = [one.answered_since(told, limit_s=AGAIN_LIMIT_S) for one in pings]
            print(f"told in {told - begun:.3f} s; answered after", waited, "lost", [one.lost() for one in pings])
            assert None not in waited
            assert_kernels_know(lan, moving, to)
        now = left.run(lambda: read_world(left.fabric._directory.parent))
        seen = replace(now, ways=without_it.ways, ports=without_it.ports, settled=without_it.settled)
        assert seen == without_it, "nothing is left of it there"
        assert not [note for note in now.settled if moving.tap in note]
        assert not [line for line in left.ask("nft", "list", "ruleset").splitlines() if moving.tap in line]


def assert_kernels_know(lan: Lan, moved: VifPlan, to: LanHost) -> None:
    """On every other host its MAC is behind the new host's end, on the new one behind its TAP; its addresses are its MAC's."""
    for host in lan:
        fdb = json.loads(host.ask("bridge", "-j", "fdb", "show", "dev", f"vxlan-{VNI}"))
        ends = {entry["dst"] for entry in fdb if entry["mac"] == moved.mac and "dst" in entry}
        assert ends == (set() if host is to else {to.address})
        known = json.loads(host.ask("ip", "-j", "neigh", "show", "dev", moved.bridge, "nud", "permanent"))
        macs = {entry["lladdr"] for entry in known if entry["dst"] in (moved.address, moved.address6)}
        assert (macs, len([entry for entry in known if entry["lladdr"] == moved.mac])) == ({moved.mac}, 2)
