"""`python -m tests.bench.net [pairs]`: what a NIC's plug costs, beside the same done with `ip` and `nft`, in one run.

Both make the TAP, its alias, the bridge, its address and rules, and the port's own filters; neither serves DHCP. "bare" is by
hand without the port's filters. "further" is a port of a network that is there already, which is what most plugs are. Both are
measured in turns, so that the machine's load is the same for both, and each in a network namespace of its own, so that neither
changes rules behind the other's back.
"""

import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any
from unittest.mock import patch

import structlog
from pyroute2 import IPRoute

from net.fabric import LinuxFabric
from net.filters import chains
from net.filters.placement import TABLES, port_unwanted_for
from net.filters.port_rules import PortRules, port_for, port_rules_for
from net.filters.ruleset import Listing, NetworkRules, removal_script_for, script_for
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
Pair = tuple[Callable[[], None], Callable[[], None]]
"""What makes something, and what unmakes it."""


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
    with tempfile.TemporaryDirectory(prefix="tvb-") as directory, _entered() as hand:
        Path(directory).chmod(0o755)
        fabric = LinuxFabric(Path(directory))
        rows = [
            *_one_nic(fabric, hand, pairs),
            *_requests(fabric),
            *_at_once(Path(directory), hand),
            *_surroundings(fabric),
        ]
    print(table("one NIC on a NAT network, and many", rows))
    return 0


def _one_nic(fabric: LinuxFabric, hand: str, pairs: int) -> Iterator[Row]:
    first, further = vif(0, network(9, dhcp=False)), vif(1, network(9, dhcp=False))
    progress(f"{pairs} first ports by each")
    yield from _rows("first port", *_alternating(pairs, hand, _pair(fabric, first), _network_by_hand(first)))
    fabric.ensure_plugged(first)
    with entered_namespace(hand):
        _network_by_hand(first)[0]()
    progress(f"{pairs} further ports by each")
    yield from _rows("further port", *_alternating(pairs, hand, _pair(fabric, further), _port_by_hand(further, first)))
    with entered_namespace(hand):
        _network_by_hand(first)[1]()
    fabric.ensure_unplugged(first)


def _requests(fabric: LinuxFabric) -> Iterator[Row]:
    with _counting():
        for on in (network(9, dhcp=False), replace(network(7, dhcp=False), kind=NetworkKind.VXLAN, segment=7)):
            for number, what in ((0, "first"), (1, "further")):
                plugged, again = (_counted(fabric.ensure_plugged, vif(number, on, LINKS)) for _ in range(2))
                yield Row(what=f"{on.kind}, {what} port: netlink requests", value=f"{plugged}", other=f"again: {again}")
            for number in (1, 0):
                fabric.ensure_unplugged(vif(number, on, LINKS))


def _at_once(directory: Path, hand: str) -> Iterator[Row]:
    first, *others = [vif(number, network(9, dhcp=False)) for number in range(MANY)]
    progress(f"{MANY} NICs at once, by {PROCESSES} processes")
    fabric = LinuxFabric(directory)  # of each process by its fork, and as fresh as a process's is
    ours = [_spent(partial(_in_processes, [first, *others], act)) for act in _both_of(fabric)]
    with entered_namespace(hand):
        make, undo = _network_by_hand(first)
        make()
        whole = [_spent(partial(_in_processes, others, _nth(number, first))) for number in (0, 1)]
        bare = [_spent(partial(_in_processes, others, act)) for act in (_tap_by_hand, _undo_tap_by_hand)]
        undo()
    for what, us, by_hand, by_hand_bare in zip(("plugged", "unplugged"), ours, whole, bare, strict=True):
        for unit, of in (("s", 0), ("s of CPU", 1)):
            more = f"by hand {by_hand[of]:.2f} ({us[of] / by_hand[of]:.1f}), bare {by_hand_bare[of]:.2f}"
            yield Row(what=f"{MANY} NICs {what}", value=f"{us[of]:.2f} {unit}", other=more)


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


def _network_by_hand(nic: VifPlan) -> Pair:
    """A network with this port, and nothing of it: its bridge, address and rules, and all of the port."""
    rules = NetworkRules(bridge=nic.bridge, cidr=nic.cidr, nat=True)
    filters = chains.script_for(port_for(_filtered(nic)), chains.Listing())

    def make() -> None:
        _ip("link", "add", nic.bridge, "address", bridge_mac_for(nic.network_id), "type", "bridge", "stp_state", "0")
        _ip("link", "set", nic.bridge, "alias", network_owner_for(nic.network_id), "mtu", str(nic.mtu))
        _ip("addr", "add", f"{nic.gateway}/{nic.prefix_length}", "dev", nic.bridge)
        _ip("link", "set", nic.bridge, "up")
        _nft(script_for(rules))
        _nft(filters)
        _tap_by_hand(nic)

    def undo() -> None:
        _undo_tap_by_hand(nic)
        _ip("link", "del", nic.bridge)
        _nft(removal_script_for(nic.bridge, Listing().with_network(rules)))
        _nft("".join(f"delete table {name}\n" for name in TABLES))

    return make, undo


def _port_by_hand(nic: VifPlan, first: VifPlan) -> Pair:
    """A port more, on the network that the first made: its TAP, and its filters as one script."""
    before = chains.Listing().with_all(port_for(_filtered(first)))
    wanted = port_for(_filtered(nic))
    after = before.with_all(wanted)
    filters = chains.script_for(wanted, before)
    removal = chains.removal_script_for(port_unwanted_for(nic.tap, after), after)

    def make() -> None:
        _nft(filters)
        _tap_by_hand(nic)

    def undo() -> None:
        _undo_tap_by_hand(nic)
        _nft(removal)

    return make, undo


def _nth(number: int, first: VifPlan) -> Callable[[VifPlan], None]:
    return lambda nic: _port_by_hand(nic, first)[number]()


def _filtered(nic: VifPlan) -> PortRules:
    return port_rules_for(nic, bridge_mac=bridge_mac_for(nic.network_id))


def _tap_by_hand(nic: VifPlan) -> None:
    _ip("tuntap", "add", nic.tap, "mode", "tap")
    _ip("link", "set", nic.tap, "alias", nic.owner, "mtu", str(nic.mtu), "master", nic.bridge, "up")


def _undo_tap_by_hand(nic: VifPlan) -> None:
    _ip("link", "del", nic.tap)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _nft(script: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=script, text=True, check=True)


def _pair(fabric: LinuxFabric, nic: VifPlan) -> Pair:
    return lambda: fabric.ensure_plugged(nic), lambda: fabric.ensure_unplugged(nic)


def _both_of(fabric: LinuxFabric) -> tuple[Callable[[VifPlan], None], Callable[[VifPlan], None]]:
    return fabric.ensure_plugged, fabric.ensure_unplugged


def _alternating(times: int, namespace: str, ours: Pair, hand: Pair) -> tuple[Timed, Timed]:
    found: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    for _ in range(times):
        found[0].append((_timed(ours[0]), _timed(ours[1])))
        with entered_namespace(namespace):
            found[1].append((_timed(hand[0]), _timed(hand[1])))
    by_us, by_hand = (Timed(plugs_s=[one[0] for one in each], unplugs_s=[one[1] for one in each]) for each in found)
    return by_us, by_hand


def _rows(what: str, ours: Timed, hand: Timed) -> Iterator[Row]:
    for act, ours_s, hand_s in (("plug", ours.plugs_s, hand.plugs_s), ("unplug", ours.unplugs_s, hand.unplugs_s)):
        ratio = p50(ours_s) / p50(hand_s)
        yield Row(what=f"{what}, {act}: p50, p95", value=_ms(ours_s), other=f"by hand {_ms(hand_s)} ({ratio:.1f})")


def _ms(seconds: Sequence[float]) -> str:
    if len(seconds) == 1:
        return f"{seconds[0] * 1000:.1f} ms"
    return f"{p50(seconds) * 1000:.1f}, {percentile(seconds, 95) * 1000:.1f} ms"


def _timed(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def _spent(act: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and seconds of CPU in processes that were begun and have ended meanwhile."""
    before = _children_cpu_s()
    took_s = _timed(act)
    return took_s, _children_cpu_s() - before


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
def _entered() -> Iterator[str]:
    """In a network namespace of our own; the other one, for what is done by hand."""
    name = f"tvb-{os.getpid()}"
    with open_namespace(f"{name}h") as hand, open_namespace(name), entered_namespace(name):
        yield hand


@contextmanager
def _counting() -> Iterator[None]:
    with ExitStack() as stack:
        for module in ("netlink", "neighbours"):
            stack.enter_context(patch(f"net.links.{module}.IPRoute", Counted))
        yield


def _counted(act: Callable[[VifPlan], None], plan: VifPlan) -> int:
    before = Counted.requests
    act(plan)
    return Counted.requests - before


if __name__ == "__main__":
    sys.exit(main())
