"""What happens to guests behind our back reaches their records within seconds, on a host with everything real.

The periodic sync, sent by beat, does not run here: whatever follows, follows from events.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import libvirt
import psutil
import pytest

from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.records import Instance
from taskvisor.model.states import PowerState, VmState
from taskvisor.state.counters import CounterName, Counters
from taskvisor.state.keys import Keys
from tests.fixtures.hosts import Libvirtd
from tests.fixtures.machine import run_or_fail
from tests.system import nodes as nodes_module
from tests.system.nodes import PREFIX, Nodes, running_nodes

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

SMALL = {"vcpus": 1, "memory_mib": 128, "disk_gib": 1}
LIMIT_S = 240.0
MAX_LISTENER_MIB = 48


@pytest.fixture
def nodes(libvirtd: Libvirtd, host_namespace: str, redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    """A host whose guests are deleted when the test ends."""
    with running_nodes(redis_url, tmp_state_dir, driver="libvirt", libvirt_uri=libvirtd.uri) as running:
        yield running
        for name in running.redis.hkeys(f"{PREFIX}names"):
            running.ask("instance.delete", instance=name)


def wait_until(true: Callable[[], object], what: str) -> None:
    """As that of all system tests, with the patience that emulated guests and a crowded machine need."""
    nodes_module.wait_until(true, what, LIMIT_S)


def hears(nodes: Nodes) -> bool:
    return nodes.hosts.list_listening() == ((HostName(nodes.host), True),)


def count(nodes: Nodes, name: CounterName) -> int:
    return Counters(nodes.redis, Keys(PREFIX)).read().get(name.value, 0)


def guest(nodes: Nodes, name: str) -> Instance:
    found = nodes.catalog.find_instance(name)
    assert found is not None
    return found


def state(nodes: Nodes, name: str) -> tuple[VmState, PowerState]:
    found = guest(nodes, name)
    return found.vm_state, found.power_state


def virsh(libvirtd: Libvirtd, *words: str) -> str:
    """What an operator does who does not know of us."""
    return run_or_fail(["virsh", "-q", "-c", libvirtd.uri, *words], limit_s=60)


def listener(nodes: Nodes) -> psutil.Process:
    """The listener's process, a child of the control node's."""
    (found,) = (child for child in psutil.Process(nodes.pid("control")).children() if "virt.events" in child.cmdline())
    return found


def log_of(nodes: Nodes) -> str:
    return (nodes.state_dir / "control.log").read_text()


def said_in(nodes: Nodes, name: str, words: str) -> int:
    console = nodes.state_dir / "instances" / guest(nodes, name).id / "console.log"
    return console.read_text(errors="replace").count(words)


def test_guests_that_end_are_stopped_and_one_that_reboots_is_not(
    nodes: Nodes, libvirtd: Libvirtd, guest_image: Path
) -> None:
    wait_until(lambda: hears(nodes), "the listener to hear")
    users = {
        "powers-off": "#!/bin/sh\npoweroff -f\n",
        "reboots": "#!/bin/sh\nsync\nreboot -f\n",
        "destroyed": "#!/bin/sh\n",
        "killed": "#!/bin/sh\n",
    }
    asked = [
        nodes.send("instance.build", name=name, image=str(guest_image), flavor=SMALL, user_data=data)
        for name, data in users.items()
    ]
    for result in asked:
        assert result.get(timeout=LIMIT_S)["vm_state"] == "active"
    wait_until(lambda: said_in(nodes, "killed", "ready"), "a guest to boot")

    virsh(libvirtd, "destroy", guest(nodes, "destroyed").id)
    os.kill(qemu_of(libvirtd, guest(nodes, "killed")), signal.SIGKILL)
    for name in ("destroyed", "killed", "powers-off"):
        wait_until(
            lambda name=name: state(nodes, name) == (VmState.STOPPED, PowerState.SHUTDOWN),  # type: ignore[misc]
            f"the record of {name} to follow; it is {state(nodes, name)}",
        )
    wait_until(lambda: said_in(nodes, "reboots", "starting") >= 2, "the guest to reboot by itself")

    virsh(libvirtd, "suspend", guest(nodes, "reboots").id)
    wait_until(lambda: state(nodes, "reboots")[1] is PowerState.PAUSED, "a pause to be noted")
    virsh(libvirtd, "resume", guest(nodes, "reboots").id)
    wait_until(lambda: state(nodes, "reboots")[1] is PowerState.RUNNING, "its end to be noted")
    virsh(libvirtd, "start", guest(nodes, "destroyed").id)
    wait_until(lambda: state(nodes, "destroyed") == (VmState.ACTIVE, PowerState.RUNNING), "a start to be noted")

    stops = [line for line in log_of(nodes).splitlines() if "power_state_synced" in line and "stopped" in line]
    assert [line for line in stops if guest(nodes, "reboots").id in line] == []
    assert count(nodes, CounterName.GUEST_STOPS_HELD) >= 3
    assert count(nodes, CounterName.GUEST_LISTENERS_DIED) == 0


def test_a_guest_that_somebody_restarts_was_never_stopped(nodes: Nodes, libvirtd: Libvirtd, guest_image: Path) -> None:
    wait_until(lambda: hears(nodes), "the listener to hear")
    nodes.ask("instance.build", name="web", image=str(guest_image), flavor=SMALL)
    synced = count(nodes, CounterName.GUEST_LOOKS)

    virsh(libvirtd, "destroy", guest(nodes, "web").id)
    virsh(libvirtd, "start", guest(nodes, "web").id)

    wait_until(lambda: count(nodes, CounterName.GUEST_STOPS_DROPPED) == 1, "the stop to be dropped")
    wait_until(lambda: count(nodes, CounterName.GUEST_LOOKS) > synced, "the start to be looked at")
    assert state(nodes, "web") == (VmState.ACTIVE, PowerState.RUNNING)
    assert "vm=stopped" not in log_of(nodes)


def test_a_listener_that_is_killed_is_replaced(nodes: Nodes) -> None:
    wait_until(lambda: hears(nodes), "the listener to hear")
    first = listener(nodes)
    assert first.memory_full_info().pss / 2**20 < MAX_LISTENER_MIB

    first.kill()

    wait_until(lambda: count(nodes, CounterName.GUEST_LISTENERS_DIED) == 1, "its death to be counted")
    wait_until(lambda: has_listener(nodes), "another to be started")
    wait_until(lambda: hears(nodes), "it to hear")
    assert listener(nodes).pid != first.pid


def test_a_libvirtd_that_was_away_is_heard_by_the_same_listener(nodes: Nodes, libvirtd: Libvirtd) -> None:
    wait_until(lambda: hears(nodes), "the listener to hear")
    first = listener(nodes)

    libvirtd.stop()
    try:
        wait_until(lambda: not hears(nodes), "the deafness to be noted")
    finally:
        libvirtd.start()

    wait_until(lambda: hears(nodes), "libvirtd to be heard again")
    assert listener(nodes).pid == first.pid


def test_a_listener_ends_with_its_node_however_that_ends(nodes: Nodes) -> None:
    wait_until(lambda: hears(nodes), "the listener to hear")
    first = listener(nodes)
    nodes.kill("control")
    wait_until(lambda: not first.is_running(), "the listener to end with the node that was killed")

    nodes.start("control", concurrency=1)
    wait_until(lambda: has_listener(nodes), "the next node to have one")
    second = listener(nodes)
    nodes.stop()
    assert not second.is_running()


def has_listener(nodes: Nodes) -> bool:
    return any("virt.events" in words for words in _children(nodes))


def _children(nodes: Nodes) -> list[str]:
    found = []
    for child in psutil.Process(nodes.pid("control")).children():
        with suppress(psutil.NoSuchProcess):
            found.append(" ".join(child.cmdline()))
    return found


def test_an_operation_under_a_hung_libvirtd_waits_for_it_and_ends_well(
    nodes: Nodes, libvirtd: Libvirtd, guest_image: Path
) -> None:
    nodes.ask("instance.build", name="web", image=str(guest_image), flavor=SMALL)
    pid = libvirtd.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        stopping = nodes.send("instance.stop", instance="web", timeout_s=0)
        wait_until(lambda: tries_of(nodes, stopping.id), "the step to be told that it cannot ask")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert set(tries_of(nodes, stopping.id)) == {"CannotAsk"}
    assert stopping.get(timeout=LIMIT_S)["vm_state"] == "stopped"
    assert state(nodes, "web") == (VmState.STOPPED, PowerState.SHUTDOWN)


def test_a_guest_whose_qemu_hangs_can_be_stopped_and_others_do_not_notice(
    nodes: Nodes, libvirtd: Libvirtd, guest_image: Path
) -> None:
    for name in ("hung", "other"):
        nodes.ask("instance.build", name=name, image=str(guest_image), flavor=SMALL)
    pid = qemu_of(libvirtd, guest(nodes, "hung"))
    os.kill(pid, signal.SIGSTOP)
    try:
        stopping = nodes.send("instance.stop", instance="hung", timeout_s=5)
        assert nodes.ask("instance.reboot", instance="other", type="hard")["vm_state"] == "active"
        assert stopping.get(timeout=LIMIT_S)["vm_state"] == "stopped"
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert state(nodes, "hung") == (VmState.STOPPED, PowerState.SHUTDOWN)
    assert set(tries_of(nodes, stopping.id)) <= {"Busy", "done"}


def tries_of(nodes: Nodes, operation_id: str) -> list[str]:
    """How the tries of its steps ended so far."""
    operation = nodes.catalog.read_operation(OperationId(operation_id))
    return [] if operation is None else [entry.outcome for entry in operation.timeline]


def qemu_of(libvirtd: Libvirtd, instance: Instance) -> int:
    connection = libvirt.open(libvirtd.uri)
    try:
        name = connection.lookupByUUIDString(instance.id).name()
    finally:
        connection.close()
    return int((libvirtd.directory / "run" / "qemu" / f"{name}.pid").read_text())
