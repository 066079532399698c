"""A process that dies anywhere while it serves a network, or tells a guest who it is: whoever comes next converges.

As tests/net/test_interruption.py, for what is there besides: IPv6, the service link, its guard, the metadata server.
"""

import functools
import inspect
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from net.fabric import LinuxFabric
from net.filters import service_guard, transactions
from net.filters.service_guard import read_names
from net.links import gateway6, service_link, sysctl
from net.links.netlink import Netlink
from net.plan import vif_plan_for
from net.services import dhcp, metadata
from net.services.metadata import Place
from net.services.process import Process, list_pids_with
from taskvisor.model.network import HostLinks, Ipv6Mode, NetworkKind
from taskvisor.model.plan import VifPlan
from tests.net.hosts import EMPTY, World, read_world
from tests.net.plans import network, port, vif

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

UPLINK = "up0"
ON_BRIDGE = vif(on=network(ipv6=Ipv6Mode.DHCPV6))
FLAT = replace(network(kind=NetworkKind.FLAT), physical="physnet1")
ROUTED = vif(on=replace(network(kind=NetworkKind.ROUTED), nat=False))
ON_LINK = vif_plan_for(port(0, FLAT), FLAT, hostname="web-0", links=HostLinks(uplinks={"physnet1": UPLINK}))
DIED = 77
MOMENTS_LIMIT = 400
EVERY = 3
TOLD = {"latest/meta-data/instance-id": "i-1"}
DEADLY: tuple[tuple[Any, str], ...] = (
    *((Netlink, name) for name, _ in inspect.getmembers(Netlink, inspect.isfunction) if not name.startswith("_")),
    (sysctl, "ensure_sysctl"),
    (service_link, "ensure_sysctl"),
    (gateway6, "ensure_sysctl"),
    (service_guard, "run_command"),
    (transactions, "run_command"),
    (dhcp, "run_command"),
    (dhcp, "_replace"),
    (dhcp, "send_release"),
    (dhcp, "send_release6"),
    (metadata, "run_command"),
    (metadata, "_give_to_server"),
    (metadata, "ensure_none_with"),
    (Process, "send"),
    (Path, "mkdir"),
    (Path, "touch"),
    (Path, "write_bytes"),
    (Path, "write_text"),
    (Path, "unlink"),
    (Path, "rmdir"),
)

Act = Callable[[LinuxFabric, VifPlan], None]


@dataclass(frozen=True, kw_only=True)
class Served:
    """All that may be left on the host. `world` is without the uplink; `guarded` are the links in the guard's sets."""

    world: World = EMPTY
    addresses: frozenset[str] = frozenset()
    guarded: frozenset[str] = frozenset()
    servers: int = 0
    told: str = ""


def read_served(state_dir: Path, nic: VifPlan) -> Served:
    world = read_world(state_dir)
    place = Place(directory=state_dir / "net" / "networks" / nic.network_id)
    with IPRoute() as netlink:
        links = {link["index"]: link.get("ifname") for link in netlink.get_links()}
        held = {f"{links[at['index']]} {at.get('address')}" for at in netlink.get_addr() if links[at["index"]] != "lo"}
    return Served(
        world=replace(world, links=frozenset(link for link in world.links if not link.name.startswith(UPLINK))),
        addresses=frozenset(address for address in held if not address.startswith(UPLINK) and " fe80" not in address),
        guarded=frozenset(name for names in read_names().values() for name in names),
        servers=len(list_pids_with(place.pid_argument)),
        told=place.file_of(nic).read_text() if place.file_of(nic).exists() else "",
    )


def plug(fabric: LinuxFabric, nic: VifPlan) -> None:
    fabric.ensure_plugged(nic)
    fabric.ensure_told(nic, TOLD)


def unplug(fabric: LinuxFabric, nic: VifPlan) -> None:
    fabric.ensure_unplugged(nic)


@pytest.fixture(
    params=[ON_BRIDGE, ON_LINK, ROUTED], ids=["on the bridge, with IPv6", "on a link of their own", "on the TAPs"]
)
def nic(request: pytest.FixtureRequest, state_dir: Path) -> Iterator[VifPlan]:
    """A NIC of each kind of site, on a host with an uplink."""
    with IPRoute() as netlink:
        netlink.link("add", ifname=UPLINK, kind="veth", peer=f"{UPLINK}p")
        yield request.param
        netlink.link("del", index=netlink.link_lookup(ifname=UPLINK)[0])


def test_what_is_served_and_told_after_any_death_is_what_would_have_been(state_dir: Path, nic: VifPlan) -> None:
    plug(LinuxFabric(state_dir), nic)
    plugged = read_served(state_dir, nic)
    assert plugged.servers == 1
    assert plugged.told
    unplug(LinuxFabric(state_dir), nic)
    for _ in _deaths(state_dir, nic, plug):
        plug(LinuxFabric(state_dir), nic)
        assert read_served(state_dir, nic) == plugged
        unplug(LinuxFabric(state_dir), nic)
        assert read_served(state_dir, nic) == Served()


def test_nothing_is_left_of_it_after_an_unplug_that_died_anywhere(state_dir: Path, nic: VifPlan) -> None:
    for _ in _deaths(state_dir, nic, unplug, before=plug):
        unplug(LinuxFabric(state_dir), nic)
        assert read_served(state_dir, nic) == Served()


def _deaths(state_dir: Path, nic: VifPlan, act: Act, *, before: Act | None = None) -> Iterator[int]:
    """The host after a death at every third moment of `act`: there are many, and each costs two plugs."""
    for nth in range(0, MOMENTS_LIMIT, EVERY):
        if before is not None:
            before(LinuxFabric(state_dir), nic)
        if not _dies(state_dir, nic, act, nth):
            assert nth > 40, "hardly anything was wrapped"
            unplug(LinuxFabric(state_dir), nic)
            return
        yield nth
    pytest.fail(f"more than {MOMENTS_LIMIT} moments")


def _dies(state_dir: Path, nic: VifPlan, act: Act, nth: int) -> bool:
    """Whether a process that was to die at that moment of `act` came to it. An exception in it fails the test."""
    pid = os.fork()
    if pid == 0:
        try:
            moments = itertools.count()
            for owner, name in DEADLY:
                setattr(owner, name, _deadly(getattr(owner, name), moments, nth))
            act(LinuxFabric(state_dir), nic)
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, DIED), f"the process failed at moment {nth}"
    return code == DIED


def _deadly(function: Callable[..., Any], moments: Iterator[int], nth: int) -> Callable[..., Any]:
    """The function, with a moment before it and one after; at the nth of all the process ends, and no `finally` of it runs."""

    def boundary() -> None:
        if next(moments) == nth:
            os._exit(DIED)

    @functools.wraps(function)
    def deadly(*args: Any, **kwargs: Any) -> Any:
        boundary()
        result = function(*args, **kwargs)
        boundary()
        return result

    return deadly
