"""A guest's memory saved and brought back on real QEMU, by processes that die in the midst."""

import os
import signal
import time
from collections.abc import Callable

import libvirt
import pytest

from taskvisor.model.errors import Contradiction, Refused
from taskvisor.model.states import PowerState
from tests.fixtures.hosts import Libvirtd
from tests.virt.test_hypervisor_qemu import Guest, guest, make_guest, running, wait_for
from tests.virt.test_quiesce_qemu import in_a_child, kill_oneself
from virt import suspend
from virt.hypervisor import LibvirtHypervisor
from virt.notes import Note, ensure_note, has_note

__all__ = ["guest", "make_guest", "running"]

pytestmark = pytest.mark.real

SAVE_LIMIT_S = 60.0


def suspend_elsewhere(running: Guest, libvirtd: Libvirtd) -> Callable[[], object]:
    return lambda: LibvirtHypervisor(libvirtd.uri).ensure_suspended_to_disk(running.instance.id)


def require_as_before(running: Guest) -> None:
    """It runs, and nothing is left of a suspension."""
    found = running.hypervisor.read_domain(running.instance.id)
    assert found is not None
    assert found.power_state is PowerState.RUNNING
    assert not running.domain.hasManagedSaveImage()
    assert not has_note(running.domain, Note.SUSPENDED)


@pytest.mark.parametrize("pause_s", [0.0, 0.02, 0.05, 0.1, 0.3])
def test_a_process_killed_in_mid_save_leaves_a_guest_that_the_undo_brings_back(
    running: Guest, libvirtd: Libvirtd, pause_s: float
) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            suspend_elsewhere(running, libvirtd)()
        finally:
            os._exit(0)
    wait_for(lambda: has_note(running.domain, Note.SUSPENDED), SAVE_LIMIT_S)
    time.sleep(pause_s)  # to die at different moments of the save, whichever they are
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

    for _ in range(2):
        running.hypervisor.ensure_resumed(running.instance.id)

    require_as_before(running)


def test_a_process_killed_in_mid_save_leaves_a_guest_that_the_next_suspends(running: Guest, libvirtd: Libvirtd) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            suspend_elsewhere(running, libvirtd)()
        finally:
            os._exit(0)
    wait_for(lambda: has_note(running.domain, Note.SUSPENDED), SAVE_LIMIT_S)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

    assert running.hypervisor.ensure_suspended_to_disk(running.instance.id)
    assert running.domain.hasManagedSaveImage()
    running.hypervisor.ensure_resumed(running.instance.id)
    require_as_before(running)


@pytest.mark.parametrize("moment", ["before it is saved", "after it is saved"])
def test_a_process_killed_around_the_save_is_gone_on_from(
    running: Guest, libvirtd: Libvirtd, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def suspend_and_die() -> None:
        if moment.startswith("before"):
            monkeypatch.setattr(libvirt.virDomain, "managedSave", kill_oneself)
        else:
            monkeypatch.setattr(suspend.log, "info", kill_oneself)
        suspend_elsewhere(running, libvirtd)()

    assert in_a_child(suspend_and_die) == signal.SIGKILL
    assert has_note(running.domain, Note.SUSPENDED)
    assert running.hypervisor.ensure_suspended_to_disk(running.instance.id)
    running.hypervisor.ensure_resumed(running.instance.id)
    require_as_before(running)


def test_a_process_killed_after_the_start_leaves_a_guest_that_runs(
    running: Guest, libvirtd: Libvirtd, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.hypervisor.ensure_suspended_to_disk(running.instance.id)

    def resume_and_die() -> None:
        monkeypatch.setattr(suspend.log, "info", kill_oneself)
        LibvirtHypervisor(libvirtd.uri).ensure_resumed(running.instance.id)

    assert in_a_child(resume_and_die) == signal.SIGKILL
    boot_id = running.domain.ID()
    running.hypervisor.ensure_resumed(running.instance.id)
    require_as_before(running)
    assert running.domain.ID() == boot_id


def test_a_libvirtd_that_dies_over_a_suspended_guest_knows_of_it_again(running: Guest, libvirtd: Libvirtd) -> None:
    running.hypervisor.ensure_suspended_to_disk(running.instance.id)
    os.kill(libvirtd.pid, signal.SIGKILL)
    libvirtd.start()
    assert running.hypervisor.ensure_suspended_to_disk(running.instance.id)
    running.hypervisor.ensure_resumed(running.instance.id)
    found = running.hypervisor.read_domain(running.instance.id)
    assert found is not None
    assert found.power_state is PowerState.RUNNING


def test_memory_that_is_gone_leaves_a_guest_that_is_off(running: Guest) -> None:
    running.hypervisor.ensure_suspended_to_disk(running.instance.id)
    running.domain.managedSaveRemove()
    for _ in range(2):
        running.hypervisor.ensure_resumed(running.instance.id)
    assert not running.domain.isActive()
    assert not has_note(running.domain, Note.SUSPENDED)


def test_a_guest_beside_which_somebody_elses_memory_lies_is_not_suspended(
    running: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libvirt.virDomain, "hasManagedSaveImage", lambda _: 1)
    with pytest.raises(Refused, match="somebody else saved"):
        running.hypervisor.ensure_suspended_to_disk(running.instance.id)
    assert running.domain.isActive()


def test_memory_older_than_the_disk_goes_once_the_guest_runs(running: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[object] = []

    def remove(domain: "libvirt.virDomain") -> None:
        removed.append(domain)

    ensure_note(running.domain, Note.SUSPENDED)
    monkeypatch.setattr(libvirt.virDomain, "hasManagedSaveImage", lambda _: 1)
    monkeypatch.setattr(libvirt.virDomain, "managedSaveRemove", remove)
    running.hypervisor.ensure_resumed(running.instance.id)
    assert len(removed) == 1
    assert not has_note(running.domain, Note.SUSPENDED)


def test_a_domain_of_somebody_else_is_neither_suspended_nor_resumed(guest: Guest) -> None:
    domain = guest.backdoor.createXML(guest.xml.replace("urn:taskvisor:instance:1", "urn:somebody:else"))
    for verb in (guest.hypervisor.ensure_suspended_to_disk, guest.hypervisor.ensure_resumed):
        with pytest.raises(Contradiction):
            verb(guest.instance.id)
    assert domain.isActive()
    domain.destroy()
