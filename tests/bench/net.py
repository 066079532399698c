"""`python -m tests.bench.net [pairs]`: what a NIC's plug costs, beside the same done with `ip` and `nft`, in one run.

Both make the TAP, its alias, the bridge, its address and rules; neither serves DHCP. "further" is a port of a network that is
there already, which is what most plugs are. Both are measured in turns, so that the machine's load is the same for both.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any
from unittest.mock import patch

import structlog
from pyroute2 import IPRoute

from net.fabric import LinuxFabric
from net.filters.firewall import read_listing
from net.filters.ruleset import NetworkRules, removal_script_for, script_for
from net.plan import bridge_mac_for, network_owner_for
from taskvisor.model.ids import HostName, PortId
from taskvisor.model.network import HostLinks, Member, NetworkKind, Surroundings
from taskvisor.model.plan import VifPlan
from tests.bench.report import Row, p50, percentile, progress, table
from tests.fixtures.namespaces import entered_namespace, open_namespace
from tests.net.plans import network, vif

PAIRS = 30
MANY = 100
PROCESSES = 4  # TASKVISOR_STEP_CONCURRENCY
MEMBERS = 1000
LINKS = HostLinks(tunnel_address="127.0.0.1")


class Counted:
    """An IPRoute whose requests are counted: every call of it that we use is one message."""

    requests = 0

    def __init__(self) -> None:
        self._ipr = IPRoute()

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._ipr, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            Counted.requests += name != "close"
            return call(*args, **kwargs)

        return counted


@dataclass(frozen=True, kw_only=True)
class Timed:
    """How long each repetition of something took."""

    plugs_s: Sequence[float]
    unplugs_s: Sequence[float]


def main() -> int:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    with tempfile.TemporaryDirectory(prefix="tvb-") as directory, _entered():
        Path(directory).chmod(0o755)
        fabric = LinuxFabric(Path(directory))
        rows = [*_one_nic(fabric, pairs), *_requests(fabric), *_at_once(Path(directory)), *_surroundings(fabric)]
    print(table("one NIC on a NAT network, and many", rows))
    return 0


def _one_nic(fabric: LinuxFabric, pairs: int) -> Iterator[Row]:
    first, further = vif(0, network(9, dhcp=False)), vif(1, network(9, dhcp=False))
    hand_first, hand_further = vif(0, network(8, dhcp=False)), vif(1, network(8, dhcp=False))
    progress(f"{pairs} first ports by each")
    ours, hand = _alternating(
        pairs, _pair(fabric, first), (lambda: _by_hand(hand_first), lambda: _undo_by_hand(hand_first))
    )
    yield from _rows("first port", ours, hand)
    fabric.ensure_plugged(first)
    _by_hand(hand_first)
    progress(f"{pairs} further ports by each")
    ours, hand = _alternating(
        pairs, _pair(fabric, further), (lambda: _tap_by_hand(hand_further), lambda: _undo_tap_by_hand(hand_further))
    )
    yield from _rows("further port", ours, hand)
    fabric.ensure_unplugged(first)
    _undo_by_hand(hand_first)


def _requests(fabric: LinuxFabric) -> Iterator[Row]:
    with _counting():
        for on in (network(9, dhcp=False), replace(network(7, dhcp=False), kind=NetworkKind.VXLAN, segment=7)):
            for number, what in ((0, "first"), (1, "further")):
                plugged, again = (_counted(fabric.ensure_plugged, vif(number, on, LINKS)) for _ in range(2))
                yield Row(what=f"{on.kind}, {what} port: netlink requests", value=f"{plugged}", other=f"again: {again}")
            for number in (1, 0):
                fabric.ensure_unplugged(vif(number, on, LINKS))


def _at_once(directory: Path) -> Iterator[Row]:
    plans = [vif(number, network(9, dhcp=False)) for number in range(MANY)]
    progress(f"{MANY} NICs at once, by {PROCESSES} processes")
    fabric = LinuxFabric(directory)  # of each process by its fork, and as fresh as a process's is
    plug_s = _timed(lambda: _in_processes(plans, fabric.ensure_plugged))
    unplug_s = _timed(lambda: _in_processes(plans, fabric.ensure_unplugged))
    by_hand = [vif(number, network(8, dhcp=False)) for number in range(MANY)]
    _by_hand(by_hand[0])
    hand_s = _timed(lambda: _in_processes(by_hand[1:], _tap_by_hand))
    undo_s = _timed(lambda: _in_processes(by_hand[1:], _undo_tap_by_hand))
    _undo_by_hand(by_hand[0])
    yield Row(what=f"{MANY} NICs plugged", value=f"{plug_s:.2f} s", other=f"by hand {hand_s:.2f} s")
    yield Row(what=f"{MANY} NICs unplugged", value=f"{unplug_s:.2f} s", other=f"by hand {undo_s:.2f} s")


def _surroundings(fabric: LinuxFabric) -> Iterator[Row]:
    on = replace(network(7, dhcp=False), kind=NetworkKind.VXLAN, segment=7, cidr="10.7.0.0/16")
    plan = vif(0, replace(on, cidr="10.7.0.0/24"), LINKS)
    fabric.ensure_plugged(plan)
    hosts = IPv4Network("10.7.0.0/16")
    members = tuple(
        Member(
            port_id=PortId(f"p{number}"),
            host=HostName(f"h{number % 50}"),
            mac=f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}",
            addresses=(str(hosts[number + 300]),),
        )
        for number in range(MEMBERS)
    )
    ends = {HostName(f"h{number}"): f"192.0.2.{number + 1}" for number in range(50)}
    moved = (replace(members[0], host=HostName("h1")), *members[1:])
    progress(f"{MEMBERS} members of a VXLAN network")
    for what, told in (("told first", members), ("told again", members), ("one moved", moved)):
        around = Surroundings(network=on, members=told, tunnels=ends)
        took_s = _timed(partial(fabric.ensure_surroundings, around))
        yield Row(what=f"{MEMBERS} members, {what}", value=_ms([took_s]))
    fabric.ensure_unplugged(plan)


def _by_hand(nic: VifPlan) -> None:
    _ip("link", "add", nic.bridge, "address", bridge_mac_for(nic.network_id), "type", "bridge", "stp_state", "0")
    _ip("link", "set", nic.bridge, "alias", network_owner_for(nic.network_id), "mtu", str(nic.mtu))
    _ip("addr", "add", f"{nic.gateway}/{nic.prefix_length}", "dev", nic.bridge)
    _ip("link", "set", nic.bridge, "up")
    _nft(script_for(NetworkRules(bridge=nic.bridge, cidr=nic.cidr, nat=True)))
    _tap_by_hand(nic)


def _undo_by_hand(nic: VifPlan) -> None:
    _undo_tap_by_hand(nic)
    _ip("link", "del", nic.bridge)
    _nft(removal_script_for(nic.bridge, read_listing()))


def _tap_by_hand(nic: VifPlan) -> None:
    _ip("tuntap", "add", nic.tap, "mode", "tap")
    _ip("link", "set", nic.tap, "alias", nic.owner, "mtu", str(nic.mtu), "master", nic.bridge, "up")


def _undo_tap_by_hand(nic: VifPlan) -> None:
    _ip("link", "del", nic.tap)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _nft(script: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=script, text=True, check=True)


def _pair(fabric: LinuxFabric, nic: VifPlan) -> tuple[Callable[[], None], Callable[[], None]]:
    return lambda: fabric.ensure_plugged(nic), lambda: fabric.ensure_unplugged(nic)


def _alternating(
    times: int, ours: tuple[Callable[[], None], Callable[[], None]], hand: tuple[Callable[[], None], Callable[[], None]]
) -> tuple[Timed, Timed]:
    found = [[(_timed(do), _timed(undo)) for do, undo in (ours, hand)] for _ in range(times)]
    both = [Timed(plugs_s=[one[n][0] for one in found], unplugs_s=[one[n][1] for one in found]) for n in (0, 1)]
    return both[0], both[1]


def _rows(what: str, ours: Timed, hand: Timed) -> Iterator[Row]:
    yield Row(what=f"{what}, plug: p50, p95", value=_ms(ours.plugs_s), other=f"by hand {_ms(hand.plugs_s)}")
    yield Row(what=f"{what}, unplug: p50, p95", value=_ms(ours.unplugs_s), other=f"by hand {_ms(hand.unplugs_s)}")


def _ms(seconds: Sequence[float]) -> str:
    if len(seconds) == 1:
        return f"{seconds[0] * 1000:.1f} ms"
    return f"{p50(seconds) * 1000:.1f}, {percentile(seconds, 95) * 1000:.1f} ms"


def _timed(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def _in_processes(plans: Sequence[VifPlan], act: Callable[[VifPlan], None]) -> None:
    def run(share: Sequence[VifPlan]) -> None:
        for plan in share:
            act(plan)

    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=run, args=(plans[start::PROCESSES],)) for start in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a process failed; its error is above")


@contextmanager
def _entered() -> Iterator[None]:
    with open_namespace(f"tvb-{os.getpid()}") as name, entered_namespace(name):
        yield


@contextmanager
def _counting() -> Iterator[None]:
    with patch("net.links.netlink.IPRoute", Counted), patch("net.links.neighbours.IPRoute", Counted):
        yield


def _counted(act: Callable[[VifPlan], None], plan: VifPlan) -> int:
    before = Counted.requests
    act(plan)
    return Counted.requests - before


if __name__ == "__main__":
    sys.exit(main())
