"""Two networks of one host with the same addresses: what is remembered of one is not taken for the other's."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from net.filters.port_filters import PortFilters
from net.filters.port_rules import PortRules, Segment
from net.filters.states import zone_for
from net.filters.transactions import Transactions
from taskvisor.model.ids import network_id_for
from tests.net.hosts import guest_on, run_in
from tests.net.wired import arrivals

pytestmark = pytest.mark.real

HERE, THERE = "10.9.0.10", "10.9.0.11"
MAC, OTHER_MAC = "fa:16:3e:00:00:10", "fa:16:3e:00:00:11"
BRIDGE_MAC = "02:00:00:00:00:01"
QUESTION = Ether(src=MAC, dst=OTHER_MAC) / IP(src=HERE, dst=THERE) / UDP(sport=1000, dport=2000) / Raw(b"question")
ANSWER = Ether(src=OTHER_MAC, dst=MAC) / IP(src=THERE, dst=HERE) / UDP(sport=2000, dport=1000) / Raw(b"the-answer")
OPEN = Ether(src=OTHER_MAC, dst=MAC) / ARP(hwsrc=OTHER_MAC, psrc=THERE) / Raw(b"the-way-is-open")


@pytest.mark.parametrize(("zones", "arriving"), [((7, 9), 0), ((7, 7), 1)], ids=["apart", "the same"])
def test_an_answer_to_a_question_of_another_network_is_none(
    host_namespace: str, tmp_state_dir: Path, zones: tuple[int, int], arriving: int
) -> None:
    with _network("red", zones[0], tmp_state_dir) as red, _network("blue", zones[1], tmp_state_dir) as blue:
        assert _arrived(red, QUESTION, ANSWER) == 1, "its own answer"
        with _heard(blue[0]) as heard:
            _send(blue[1], bytes(ANSWER))
            _send(blue[1], bytes(OPEN))
            assert arrivals(heard, [b"the-answer"], last=b"the-way-is-open") == {b"the-answer": arriving}


def test_a_networks_zone_is_drawn_from_its_id_and_is_never_that_of_all_else() -> None:
    zones = [zone_for(network_id_for(f"net-{number}")) for number in range(2000)]
    assert zones == [zone_for(network_id_for(f"net-{number}")) for number in range(2000)]
    assert min(zones) >= 1
    assert max(zones) <= 65535
    assert len(set(zones)) > 1900


def _arrived(guests: tuple[str, str], question: Ether, answer: Ether) -> int:
    with _heard(guests[0]) as heard:
        _send(guests[0], bytes(question))
        _send(guests[1], bytes(answer))
        _send(guests[1], bytes(OPEN))
        return arrivals(heard, [b"the-answer"], last=b"the-way-is-open")[b"the-answer"]


@contextmanager
def _network(name: str, zone: int, state_dir: Path) -> Iterator[tuple[str, str]]:
    """Two guests on a bridge, the first of them filtered. Yields their namespaces."""
    filters = PortFilters(Transactions(state_dir / "lock"), state_dir / "filters")
    with ExitStack() as stack:
        with IPRoute() as host:
            host.link("add", ifname=name, kind="bridge", address=BRIDGE_MAC, br_stp_state=0, br_forward_delay=0)
            index = host.link_lookup(ifname=name)[0]
            host.link("set", index=index, state="up")
        stack.callback(_remove, name)
        guests = tuple(
            stack.enter_context(guest_on(name, f"{state_dir.name[-6:]}{name[0]}{number}", "", "", mac))
            for number, mac in enumerate((MAC, OTHER_MAC))
        )
        tap = f"v-{guests[0][-9:]}"
        segment = Segment(bridge=name, mac=BRIDGE_MAC, zone=zone)
        filters.ensure_port(PortRules(tap=tap, mac=MAC, addresses=(HERE,), segment=segment))
        yield guests[0], guests[1]
        filters.ensure_port_absent(tap)


def _remove(name: str) -> None:
    with IPRoute() as host:
        host.link("del", index=host.link_lookup(ifname=name)[0])


def _heard(namespace: str) -> socket.socket:
    return run_in(namespace, lambda: _wire(3))


def _send(namespace: str, frame: bytes) -> None:
    with run_in(namespace, lambda: _wire(0)) as wire:
        wire.send(frame)


def _wire(protocol: int) -> socket.socket:
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    wire.bind(("eth0", protocol))
    return wire
