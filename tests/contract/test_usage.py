"""What a Hypervisor and a Fabric promise of what they measure (taskvisor/flow/ports.py)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from net.fabric import LinuxFabric
from net.simulated import SimulatedFabric
from taskvisor.flow.ports import Fabric
from taskvisor.model.errors import CannotAsk
from taskvisor.model.measured import GuestUsage
from taskvisor.model.states import PowerState
from tests.contract.hypervisors import HypervisorHost
from tests.contract.test_hypervisor import GUEST, STRANGER, defined, disk, host, running, xml

__all__ = ["defined", "disk", "host", "running", "xml"]


def guest_of(host: HypervisorHost) -> GuestUsage:
    (usage,) = host.port.read_usage().guests
    assert usage.instance_id == GUEST
    return usage


def test_a_host_tells_its_cpu_times_and_they_only_grow(host: HypervisorHost) -> None:
    before, now = host.port.read_usage().cpu, host.port.read_usage().cpu

    assert before is not None
    assert now is not None
    for name in ("user_ns", "kernel_ns", "idle_ns"):
        assert getattr(now, name) >= getattr(before, name) >= 0
    assert now.idle_ns > 0


def test_a_host_tells_its_memory(host: HypervisorHost) -> None:
    memory = host.port.read_usage().memory

    assert memory is not None
    assert 0 < memory.free_kib <= memory.total_kib
    assert host.port.read_usage().guests == ()


def test_a_guest_that_is_off_has_used_nothing(defined: HypervisorHost) -> None:
    usage = guest_of(defined)

    assert usage.power_state is PowerState.SHUTDOWN
    assert usage.rss_kib is None
    assert usage.traffic is None


def test_a_guest_that_runs_tells_what_it_uses(running: HypervisorHost) -> None:
    before, now = guest_of(running), guest_of(running)

    assert now.power_state is PowerState.RUNNING
    assert now.vcpus == 1
    assert now.memory_kib
    assert now.disks is not None
    assert before.cpu_ns is not None
    assert now.cpu_ns is not None
    assert now.cpu_ns >= before.cpu_ns > 0


def test_guests_that_are_not_ours_are_told_too(running: HypervisorHost) -> None:
    running.ensure_foreign_domain(STRANGER, "stranger")

    assert {guest.instance_id for guest in running.port.read_usage().guests} == {GUEST, STRANGER}


def test_a_hypervisor_that_cannot_be_asked_says_so(host: HypervisorHost) -> None:
    with pytest.raises(CannotAsk):
        host.unreachable.read_usage()


@pytest.mark.parametrize("open_port", [SimulatedFabric, LinuxFabric], ids=["simulated", "real"])
def test_traffic_only_grows_where_there_is_any(open_port: Callable[[Path], Fabric], tmp_path: Path) -> None:
    fabric = open_port(tmp_path)

    before, now = fabric.read_traffic(), fabric.read_traffic()

    assert (before is None) == (now is None)
    if before is not None and now is not None:
        assert now.rx_bytes >= before.rx_bytes >= 0
        assert now.tx_packets >= before.tx_packets >= 0
