"""A process that dies anywhere in a plug or an unplug: whoever comes next converges.

The dying process is a real one: it is forked, and `_exit`s before or after its nth call to the kernel, a program, a
file or a daemon, so that no `finally` of it runs and the kernel alone cleans up after it.
"""

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from net.fabric import LinuxFabric
from net.filters import firewall, port_filters, transactions
from net.links import sysctl, tun
from net.links.conntrack import Conntrack
from net.links.neighbours import Neighbours
from net.links.netlink import Netlink
from net.services import dhcp
from net.services.process import Process
from taskvisor.model.ids import HostName
from taskvisor.model.network import HostLinks, Network, NetworkKind, Surroundings
from taskvisor.model.plan import VifPlan
from tests.net.hosts import World, read_world
from tests.net.plans import member, network, vif

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

DIED = 77
UNREACHED = 0
CALLS_LIMIT = 300
LEAST_CALLS = 5
DANGEROUS: tuple[tuple[Any, str], ...] = (
    *((Netlink, name) for name, _ in inspect.getmembers(Netlink, inspect.isfunction) if not name.startswith("_")),
    *((Neighbours, name) for name, _ in inspect.getmembers(Neighbours, inspect.isfunction) if not name.startswith("_")),
    *((Conntrack, name) for name, _ in inspect.getmembers(Conntrack, inspect.isfunction) if not name.startswith("_")),
    (tun, "_make_tap"),
    (tun.NewTap, "ensure_persistent"),
    (sysctl, "ensure_sysctl"),
    (firewall, "run_command"),
    (port_filters, "run_command"),
    (transactions, "run_command"),
    (dhcp, "run_command"),
    (dhcp, "_replace"),
    (dhcp, "send_release"),
    (Process, "send"),
    (Path, "mkdir"),
    (Path, "write_text"),
    (Path, "write_bytes"),
    (Path, "rename"),
    (Path, "unlink"),
    (Path, "rmdir"),
)

LINKS = HostLinks(uplinks={"lan": "eth0"}, tunnel_address="192.0.2.1")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A NIC of some kind of network, the surroundings that its host is told, and the host before it."""

    state_dir: Path
    nic: VifPlan
    around: Surroundings
    before: World

    def plug(self) -> None:
        """As the step does it."""
        fabric = LinuxFabric(self.state_dir)
        fabric.ensure_plugged(self.nic)
        fabric.ensure_surroundings(self.around)

    def unplug(self) -> None:
        LinuxFabric(self.state_dir).ensure_unplugged(self.nic)

    def read(self) -> World:
        return read_world(self.state_dir)

    def read_plugged(self) -> World:
        """The host with the NIC; it is unplugged again."""
        self.plug()
        world = self.read()
        self.unplug()
        return world


Act = Callable[[], None]


def network_of(kind: NetworkKind) -> Network:
    on = replace(network(dhcp=kind in (NetworkKind.NAT, NetworkKind.ROUTED)), kind=kind)
    match kind:
        case NetworkKind.VXLAN:
            return replace(on, segment=100)
        case NetworkKind.FLAT | NetworkKind.MACVTAP:
            return replace(on, physical="lan")
        case NetworkKind.EXISTING:
            return replace(on, bridge="br-lan")
        case _:
            return on


SELDOM = (NetworkKind.FLAT, NetworkKind.ROUTED, NetworkKind.MACVTAP, NetworkKind.EXISTING)
"""Kinds that have little of their own: `make slow` has them die too."""


@pytest.fixture(
    params=[NetworkKind.NAT, NetworkKind.VXLAN, *(pytest.param(kind, marks=pytest.mark.slow) for kind in SELDOM)]
)
def case(request: pytest.FixtureRequest, state_dir: Path) -> Iterator[Case]:
    """A host with an interface and a bridge of its operator's. VLANs need a kernel with 8021q."""
    on = network_of(request.param)
    ends = {HostName("here"): "192.0.2.1", HostName("there"): "192.0.2.2"}
    around = Surroundings(network=on, members=(member(0, on, "here"), member(1, on, "there")), tunnels=ends)
    with IPRoute() as ipr:
        ipr.link("add", ifname="eth0", kind="veth", peer="eth1")
        ipr.link("add", ifname="br-lan", kind="bridge", address="02:00:00:00:00:77")
        index = {name: ipr.link_lookup(ifname=name)[0] for name in ("eth0", "br-lan")}
        ipr.link("set", index=index["eth0"], state="up")
        if request.param is NetworkKind.VXLAN:
            ipr.addr("add", index=index["eth0"], address="192.0.2.1", prefixlen=24)
        yield Case(state_dir=state_dir, nic=vif(0, on, LINKS), around=around, before=read_world(state_dir))
        for each in index.values():
            ipr.link("del", index=each)


def test_a_plug_that_died_anywhere_is_finished_by_the_next(case: Case) -> None:
    plugged = case.read_plugged()
    for _ in deaths(case, case.plug):
        case.plug()
        assert case.read() == plugged
        case.unplug()
        assert case.read() == case.before


def test_a_plug_that_died_anywhere_is_undone_by_an_unplug(case: Case) -> None:
    for _ in deaths(case, case.plug):
        case.unplug()
        assert case.read() == case.before


def test_an_unplug_that_died_anywhere_is_finished_by_the_next(case: Case) -> None:
    for _ in deaths(case, case.unplug, before=case.plug):
        case.unplug()
        assert case.read() == case.before


def test_an_unplug_that_died_anywhere_is_reversed_by_a_plug(case: Case) -> None:
    plugged = case.read_plugged()
    for _ in deaths(case, case.unplug, before=case.plug):
        case.plug()
        assert case.read() == plugged
        case.unplug()


def test_an_error_anywhere_in_a_plug_leaves_what_the_next_can_finish(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugged = case.read_plugged()
    for nth in range(CALLS_LIMIT):
        with monkeypatch.context() as patch:
            counter = _Counter(nth, _raise)
            counter.install(patch.setattr)
            try:
                case.plug()
            except InjectedError:
                pass
            else:
                assert nth > LEAST_CALLS
                break
        case.plug()
        assert case.read() == plugged
        case.unplug()
        assert case.read() == case.before
    case.unplug()


class InjectedError(Exception):
    """Raised in place of a call's result."""


def _raise() -> None:
    raise InjectedError


def _die() -> None:
    os._exit(DIED)


class _Counter:
    """Wraps every dangerous call; at the nth boundary (before a call, after a call, …) it strikes."""

    def __init__(self, nth: int, strike: Callable[[], None]) -> None:
        self._left = nth
        self._strike = strike

    def install(self, setattr_: Callable[[Any, str, Any], None]) -> None:
        for owner, name in DANGEROUS:
            setattr_(owner, name, self._wrapped(getattr(owner, name)))

    def _wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self._boundary()
            result = function(*args, **kwargs)
            self._boundary()
            return result

        return counted

    def _boundary(self) -> None:
        if self._left == 0:
            self._strike()
        self._left -= 1


def deaths(case: Case, act: Act, *, before: Act | None = None) -> Iterator[int]:
    """The host after each possible death in `act`, which was begun on a host without the NIC (or after `before`)."""
    for nth in range(CALLS_LIMIT):
        if before is not None:
            before()
        if _exit_code_of(act, nth) == UNREACHED:
            assert nth > LEAST_CALLS, "hardly anything was wrapped"
            case.unplug()
            return
        yield nth
    pytest.fail(f"more than {CALLS_LIMIT} calls")


def _exit_code_of(act: Act, nth: int) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            _Counter(nth, _die).install(setattr)
            act()
            os._exit(UNREACHED)
        finally:
            os._exit(1)  # an exception, which the parent reports
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (DIED, UNREACHED), f"the process failed at call {nth}"
    return code
