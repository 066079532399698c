"""Several processes on one host, as a worker's pool is."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from net.fabric import LinuxFabric
from net.filters.firewall import read_listing
from net.filters.ruleset import NetworkRules
from net.links.link import TAP
from net.links.netlink import open_netlink
from taskvisor.model.plan import VifPlan
from tests.net.hosts import EMPTY, daemons_of, read_world
from tests.net.plans import network, vif

pytestmark = pytest.mark.real

PROCESSES = 5
PORTS_EACH = 4
ROUNDS = 6


def test_twenty_ports_plugged_and_unplugged_at_once(state_dir: Path) -> None:
    _in_processes(lambda number: _plug_many(state_dir, number))
    world = read_world(state_dir)
    assert sum(link.kind == TAP and link.up and link.master is not None for link in world.links) == 20
    assert len(world.hosts.splitlines()) == 20
    assert len(world.daemons) == 1
    _in_processes(lambda number: _unplug_many(state_dir, number))
    assert read_world(state_dir) == EMPTY


def test_last_unplugs_and_first_plugs_of_one_network_never_hurt_each_other(state_dir: Path) -> None:
    _in_processes(lambda number: _churn(state_dir, port=number, networks=(9,)))
    assert read_world(state_dir) == EMPTY


def test_networks_that_come_and_go_at_once_share_the_table_in_peace(state_dir: Path) -> None:
    _in_processes(lambda number: _churn(state_dir, port=0, networks=(20 + number,)))
    assert read_world(state_dir) == EMPTY


def test_the_same_port_plugged_by_several_processes_is_plugged_once(state_dir: Path) -> None:
    _in_processes(lambda _: LinuxFabric(state_dir).ensure_plugged(vif()))
    assert len(read_world(state_dir).links) == 2
    _in_processes(lambda _: LinuxFabric(state_dir).ensure_unplugged(vif()))
    assert read_world(state_dir) == EMPTY


def _plug_many(state_dir: Path, number: int) -> None:
    fabric = LinuxFabric(state_dir)
    for port in range(PORTS_EACH):
        fabric.ensure_plugged(vif(number * PORTS_EACH + port))


def _unplug_many(state_dir: Path, number: int) -> None:
    fabric = LinuxFabric(state_dir)
    for port in range(PORTS_EACH):
        fabric.ensure_unplugged(vif(number * PORTS_EACH + port))


def _churn(state_dir: Path, *, port: int, networks: tuple[int, ...]) -> None:
    """Plug, see that all is there, unplug, again and again."""
    fabric = LinuxFabric(state_dir)
    for _ in range(ROUNDS):
        for number in networks:
            nic = vif(port, network(number))
            fabric.ensure_plugged(nic)
            _require_plugged(state_dir, nic)
            fabric.ensure_unplugged(nic)


def _require_plugged(state_dir: Path, nic: VifPlan) -> None:
    """Looks at the port's own things only: what is the others' comes and goes meanwhile."""
    with open_netlink() as netlink:
        tap, bridge = netlink.read_link(nic.tap), netlink.read_link(nic.bridge)
    assert tap is not None
    assert bridge is not None
    assert (tap.master, tap.up, bridge.up) == (bridge.index, True, True)
    assert read_listing().holds(NetworkRules(bridge=nic.bridge, cidr=nic.cidr, nat=True))
    assert nic.mac in (state_dir / "net" / "networks" / nic.network_id / "hosts").read_text()
    assert any(f"--interface={nic.bridge}" in argv for argv in daemons_of(state_dir).values())


def _in_processes(work: Callable[[int], None]) -> None:
    """Each number's work in a process of its own, all at once; every one must succeed."""
    context = multiprocessing.get_context("fork")
    start = context.Event()

    def run(number: int) -> None:
        assert start.wait(10)
        work(number)

    workers = [context.Process(target=run, args=(number,)) for number in range(PROCESSES)]
    for worker in workers:
        worker.start()
    start.set()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES, f"in {os.getpid()}"
