"""What a libvirtd that dies in the midst of a start leaves behind, and that the next one's own start makes an end of it."""

import os
import re
import signal
from pathlib import Path

import libvirt
import pytest

from taskvisor.model.states import PowerState
from tests.fixtures.hosts import Libvirtd
from tests.system.nodes import wait_until
from tests.virt.bare_guests import bare_guest, qemu_pid
from virt.hypervisor import LibvirtHypervisor

pytestmark = pytest.mark.real

HALF_STARTED = "<domstatus state='paused' reason='starting up' pid='0'>"
START_JOB = "<job type='none' async='start' flags='0x0' asyncStarted='1795278617869'/>"
"""What libvirt 9.0 writes for about 4 ms of each start, copied from its own file."""


def kill_libvirtd_as_if_it_started(libvirtd: Libvirtd, name: str) -> None:
    """What lies on disk is as when the kill came between libvirt's first two writes of the domain's state."""
    os.kill(libvirtd.pid, signal.SIGKILL)
    state = libvirtd.directory / "run" / "qemu" / f"{name}.xml"
    begun = re.sub("<domstatus [^>]*>", HALF_STARTED, state.read_text(), count=1)
    state.write_text(begun.replace("<qemuCaps>", f"{START_JOB}<qemuCaps>", 1))


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/exe").exists() and bool(Path(f"/proc/{pid}/cmdline").read_bytes())


def test_a_guest_that_was_half_started_is_off_and_starts_and_others_run_on(libvirtd: Libvirtd) -> None:
    hypervisor = LibvirtHypervisor(libvirtd.uri)
    with bare_guest(libvirtd, "half") as (half, _), bare_guest(libvirtd, "other") as (other, _):
        left, others = qemu_pid(libvirtd, "half"), qemu_pid(libvirtd, "other")
        kill_libvirtd_as_if_it_started(libvirtd, "half")

        libvirtd.start()
        facts = {seen.instance_id: seen.power_state for seen in hypervisor.list_domains()}
        assert facts == {half: PowerState.SHUTDOWN, other: PowerState.RUNNING}
        wait_until(lambda: not is_alive(left), "the QEMU that nobody knows to end")
        assert is_alive(others)

        hypervisor.ensure_running(half)
        assert qemu_pid(libvirtd, "half") != left
    hypervisor.close()


def test_a_pid_that_is_somebody_elses_by_now_is_left_alone(libvirtd: Libvirtd) -> None:
    with bare_guest(libvirtd, "half") as (half, _):
        left = qemu_pid(libvirtd, "half")
        kill_libvirtd_as_if_it_started(libvirtd, "half")
        os.kill(left, signal.SIGKILL)
        (libvirtd.directory / "run" / "qemu" / "half.pid").write_text(str(os.getpid()))

        libvirtd.start()
        connection = libvirt.open(libvirtd.uri)
        assert not connection.lookupByUUIDString(half).isActive()
        connection.close()
