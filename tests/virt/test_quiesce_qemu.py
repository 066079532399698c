"""Quiescing with QEMU's own guest agent, in a Linux that boots on real QEMU: what is frozen, and that nothing stays so."""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu  # type: ignore[import-untyped]
import pytest

from taskvisor.model.errors import Refused
from taskvisor.model.ids import InstanceId, OperationId, instance_id_for
from taskvisor.model.plan import DiskRole
from taskvisor.model.records import Flavor
from taskvisor.model.snapshot import LiveCopy, Quiesce
from taskvisor.model.states import PowerState
from tests.fixtures.hosts import Libvirtd
from tests.fixtures.machine import run_or_fail
from tests.system.nodes import wait_until
from tests.virt.sample_guests import INSTANCE
from virt import blockcopy, quiesce
from virt.domain import render
from virt.hypervisor import LibvirtHypervisor
from virt.layout import disk_layout_for
from virt.notes import Note, has_note
from virt.policy import domain_config_for
from virt.progress import ignore_progress

pytestmark = pytest.mark.real

GUEST = InstanceId(instance_id_for(OperationId("build-with-agent")))
BOOT_LIMIT_S = 240.0
TOOL_LIMIT_S = 60.0
MIB = 1 << 20
DATA_BEGINS_MIB = 32
"""Where TVDATA begins on the disk; see scripts/build-guest-image.sh."""


@dataclass(frozen=True, kw_only=True)
class AgentGuest:
    """A guest whose agent answers. `backdoor` is a connection of the test's own."""

    hypervisor: LibvirtHypervisor
    backdoor: "libvirt.virConnect"
    directory: Path

    @property
    def domain(self) -> "libvirt.virDomain":
        return self.backdoor.lookupByUUIDString(GUEST)

    def tell(self, command: str, **arguments: Any) -> Any:
        """What the agent answers."""
        said = libvirt_qemu.qemuAgentCommand(
            self.domain, json.dumps({"execute": command, "arguments": arguments}), 30, 0
        )
        return json.loads(said)["return"]

    def run(self, script: str) -> None:
        """A shell in the guest has run it."""
        pid = self.tell("guest-exec", path="/bin/sh", arg=["-c", script])["pid"]
        wait_until(lambda: self.tell("guest-exec-status", pid=pid)["exited"], f"{script} to end", TOOL_LIMIT_S)

    def answers(self) -> bool:
        try:
            said: object = self.tell("guest-ping")
        except libvirt.libvirtError:
            return False
        return said == {}

    def is_frozen(self) -> bool:
        said: str = self.tell("guest-fsfreeze-status")
        return said == "frozen"

    def copy(self, quiesce: Quiesce) -> tuple[LiveCopy, Path]:
        target = self.directory / f"copy-{quiesce}.qcow2"
        return self.hypervisor.copy_disk(GUEST, "vda", str(target), ignore_progress, quiesce=quiesce), target

    def require_left_alone(self) -> None:
        """Nothing is frozen, noted or copied, and the guest writes."""
        assert not self.is_frozen()
        assert not has_note(self.domain, Note.FROZEN)
        assert self.domain.blockJobInfo("vda") == {}
        self.run("date >/data/alive; sync")


@pytest.fixture(scope="module")
def guest(libvirtd: Libvirtd, agent_image: Path) -> Iterator[AgentGuest]:
    """One guest for all tests of the module: each leaves it as it was, and says so."""
    directory = Path(tempfile.mkdtemp(prefix="tvt-agent-"))
    directory.chmod(0o755)
    instance = INSTANCE.__class__(
        **{
            **{name: getattr(INSTANCE, name) for name in INSTANCE.__dataclass_fields__},
            "id": GUEST,
            "ports": (),
            "flavor": Flavor(name="c1-m256-d1", vcpus=1, memory_mib=256, disk_gib=1),
        }
    )
    hypervisor = LibvirtHypervisor(libvirtd.uri, qemu_log_dir=str(libvirtd.directory / "log" / "qemu"))
    facts = hypervisor.read_facts()
    layout = disk_layout_for(instance, instances_dir=str(directory), machine=facts.machine)
    Path(layout.directory).mkdir()
    run_or_fail(
        ["qemu-img", "convert", "-O", "qcow2", agent_image, layout.disk(DiskRole.ROOT).path], limit_s=TOOL_LIMIT_S
    )
    Path(layout.disk(DiskRole.SEED).path).write_bytes(bytes(64 * 1024))
    backdoor = libvirt.open(libvirtd.uri)
    booted = AgentGuest(hypervisor=hypervisor, backdoor=backdoor, directory=directory)
    try:
        hypervisor.ensure_defined(GUEST, render(domain_config_for(instance, layout, (), facts)))
        hypervisor.ensure_running(GUEST)
        wait_until(booted.answers, "the agent to answer", BOOT_LIMIT_S)
        yield booted
    finally:
        hypervisor.ensure_undefined(GUEST)
        hypervisor.close()
        backdoor.close()
        shutil.rmtree(directory)


def data_of(copy: Path) -> Path:
    """The file system TVDATA of a copied disk, as a file of its own."""
    raw, data = copy.with_suffix(".raw"), copy.with_suffix(".ext4")
    run_or_fail(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", copy, raw], limit_s=TOOL_LIMIT_S)
    with raw.open("rb") as disk:
        disk.seek(DATA_BEGINS_MIB * MIB)
        data.write_bytes(disk.read())
    return data


def features_of(data: Path) -> str:
    """What its superblock says; `needs_recovery` while it is mounted and not frozen."""
    said = run_or_fail(["dumpe2fs", "-h", data], limit_s=TOOL_LIMIT_S)
    return next(line for line in said.splitlines() if line.startswith("Filesystem features"))


def in_a_child(act: Callable[[], object]) -> int:
    """The signal that a process of its own died of while it did so; 0 when it did not die."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return -os.waitstatus_to_exitcode(status)


def kill_oneself(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_quiesced_copy_has_what_was_written_last_and_needs_no_recovery(guest: AgentGuest) -> None:
    guest.run("rm -f /data/last; sync; yes taskvisor | head -c 100000 >/data/last")

    copied, target = guest.copy(Quiesce.REQUIRED)

    assert copied == LiveCopy(quiesced=True)
    guest.require_left_alone()
    data = data_of(target)
    assert "needs_recovery" not in features_of(data)
    run_or_fail(["e2fsck", "-f", "-n", data], limit_s=TOOL_LIMIT_S)
    said = run_or_fail(["debugfs", "-R", "cat /last", data], limit_s=TOOL_LIMIT_S)
    assert (len(said), said.startswith("taskvisor\n")) == (100000, True)


def test_a_copy_that_is_not_quiesced_is_as_after_a_power_cut(guest: AgentGuest) -> None:
    copied, target = guest.copy(Quiesce.NEVER)

    assert copied == LiveCopy(quiesced=False, why_not="it was not asked for")
    guest.require_left_alone()
    assert "needs_recovery" in features_of(data_of(target))


def test_without_more_being_said_a_guest_with_an_agent_is_quiesced(guest: AgentGuest) -> None:
    copied, target = guest.copy(Quiesce.AUTO)

    assert copied.quiesced
    assert "needs_recovery" not in features_of(data_of(target))


@pytest.mark.parametrize("mend", ["undo", "again"])
def test_a_process_killed_while_the_guest_is_frozen_leaves_it_to_be_thawed_by_the_next(
    guest: AgentGuest, libvirtd: Libvirtd, monkeypatch: pytest.MonkeyPatch, mend: str
) -> None:
    def copy_and_die() -> None:
        monkeypatch.setattr(blockcopy, "_abort", kill_oneself)
        LibvirtHypervisor(libvirtd.uri).copy_disk(
            GUEST, "vda", str(guest.directory / "dead.qcow2"), ignore_progress, quiesce=Quiesce.REQUIRED
        )

    assert in_a_child(copy_and_die) == signal.SIGKILL
    assert guest.is_frozen()
    assert has_note(guest.domain, Note.FROZEN)
    assert guest.domain.blockJobInfo("vda") != {}

    if mend == "again":
        assert guest.copy(Quiesce.REQUIRED)[0].quiesced
    else:
        for _ in range(2):
            guest.hypervisor.ensure_copy_ended(GUEST, "vda")

    guest.require_left_alone()


def test_a_guest_stays_thawable_when_libvirtd_dies_while_it_is_frozen(guest: AgentGuest, libvirtd: Libvirtd) -> None:
    def copy_and_die() -> None:
        blockcopy._abort = kill_oneself
        LibvirtHypervisor(libvirtd.uri).copy_disk(
            GUEST, "vda", str(guest.directory / "dead.qcow2"), ignore_progress, quiesce=Quiesce.REQUIRED
        )

    assert in_a_child(copy_and_die) == signal.SIGKILL
    os.kill(libvirtd.pid, signal.SIGKILL)
    libvirtd.start()

    guest.hypervisor.ensure_copy_ended(GUEST, "vda")

    again = AgentGuest(hypervisor=guest.hypervisor, backdoor=libvirt.open(libvirtd.uri), directory=guest.directory)
    again.require_left_alone()
    again.backdoor.close()


def test_what_somebody_else_froze_is_left_frozen_and_not_called_quiesced(libvirtd: Libvirtd, guest: AgentGuest) -> None:
    backdoor = libvirt.open(libvirtd.uri)
    domain = backdoor.lookupByUUIDString(GUEST)
    domain.fsFreeze()
    try:
        copied = guest.hypervisor.copy_disk(
            GUEST, "vda", str(guest.directory / "copy.qcow2"), ignore_progress, quiesce=Quiesce.AUTO
        )
        guest.hypervisor.ensure_copy_ended(GUEST, "vda")
        assert not copied.quiesced
        assert "disabled" in str(copied.why_not)
        said = libvirt_qemu.qemuAgentCommand(domain, '{"execute": "guest-fsfreeze-status"}', 30, 0)
        assert "frozen" in said
    finally:
        domain.fsThaw()
        backdoor.close()


def test_an_agent_that_falls_silent_costs_a_bounded_time_and_the_copy_says_so(
    guest: AgentGuest, libvirtd: Libvirtd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiesce, "ANSWER_LIMIT_S", 5)
    backdoor = libvirt.open(libvirtd.uri)
    here = AgentGuest(hypervisor=guest.hypervisor, backdoor=backdoor, directory=guest.directory)
    here.run("(sleep 1; kill -STOP $(pidof qemu-ga); sleep 45; kill -CONT $(pidof qemu-ga)) >/dev/null 2>&1 &")
    wait_until(lambda: not here.answers(), "the agent to fall silent", TOOL_LIMIT_S)

    with pytest.raises(Refused, match=r"cannot quiesce domain .*see that qemu-guest-agent runs"):
        here.copy(Quiesce.REQUIRED)
    copied, _ = here.copy(Quiesce.AUTO)

    assert not copied.quiesced
    assert copied.why_not
    wait_until(here.answers, "the agent to answer again", BOOT_LIMIT_S)
    here.require_left_alone()
    backdoor.close()


def test_a_guest_suspended_to_disk_goes_on_from_where_it_was(guest: AgentGuest, libvirtd: Libvirtd) -> None:
    backdoor = libvirt.open(libvirtd.uri)
    here = AgentGuest(hypervisor=guest.hypervisor, backdoor=backdoor, directory=guest.directory)
    here.run("echo remembered >/run/only-in-memory")

    assert guest.hypervisor.ensure_suspended_to_disk(GUEST)
    found = guest.hypervisor.read_domain(GUEST)
    assert found is not None
    assert found.power_state is PowerState.SHUTDOWN
    guest.hypervisor.ensure_resumed(GUEST)

    wait_until(here.answers, "the agent to answer", BOOT_LIMIT_S)
    here.run("grep -q remembered /run/only-in-memory && echo yes >/data/remembered; sync")
    _, target = here.copy(Quiesce.REQUIRED)
    assert run_or_fail(["debugfs", "-R", "cat /remembered", data_of(target)], limit_s=TOOL_LIMIT_S) == "yes\n"
    assert not has_note(here.domain, Note.SUSPENDED)
    backdoor.close()
