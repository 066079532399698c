"""The verbs of the hypervisor on real libvirtd and QEMU (emulated where there is no KVM)."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import libvirt
import pytest

from taskvisor.compute.traits import traits_for
from taskvisor.model.errors import Busy, CannotAsk, Contradiction, DoesNotFit, Refused, Retryable
from taskvisor.model.ids import OperationId, instance_id_for
from taskvisor.model.plan import DiskLayout, VifPlan
from taskvisor.model.records import Instance
from taskvisor.model.states import PowerState, VirtType
from tests.fixtures.hosts import Libvirtd
from tests.fixtures.machine import run_or_fail
from tests.virt.sample_guests import INSTANCE, port_of, vif_of
from virt import blockcopy
from virt.domain import render
from virt.hypervisor import LibvirtHypervisor
from virt.kvm import KvmReadings, read_kvm, virt_type_for
from virt.layout import disk_layout_for
from virt.policy import domain_config_for, domain_name_for, machine_for
from virt.progress import ignore_progress
from virt.readback import instance_from_xml, parse_domain

pytestmark = pytest.mark.real

GUEST = replace(
    INSTANCE,
    id=instance_id_for(OperationId("build-real")),
    flavor=replace(INSTANCE.flavor, vcpus=1, memory_mib=64),
    ports=(),
)
USABLE_KVM = KvmReadings(arch="x86_64", device_problem=None, cpu_flags=frozenset({"vmx"}))
MIB = 1 << 20
TOOL_LIMIT_S = 60.0
BOOT_LIMIT_S = 120.0
SLOW_BYTES_S = 1000


def run_tool(*argv: str | Path) -> str:
    return run_or_fail(argv, limit_s=TOOL_LIMIT_S)


def wait_for(true: Callable[[], bool], limit_s: float = 10.0) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


@dataclass(frozen=True, kw_only=True)
class Guest:
    """A guest that may be defined: its disks are there. `backdoor` is a connection of the test's own."""

    hypervisor: LibvirtHypervisor
    instance: Instance
    layout: DiskLayout
    xml: str
    backdoor: "libvirt.virConnect"

    @property
    def domain(self) -> "libvirt.virDomain":
        return self.backdoor.lookupByUUIDString(self.instance.id)

    @property
    def root(self) -> str:
        return self.layout.disks[0].path

    def start(self) -> "Guest":
        self.hypervisor.ensure_defined(self.instance.id, self.xml)
        self.hypervisor.ensure_running(self.instance.id)
        return self

    def copy(self, target: Path, progress: Callable[[int, int | None], None] = ignore_progress) -> None:
        self.hypervisor.copy_disk(self.instance.id, "vda", str(target), progress)

    def slow_copy(self, target: Path) -> None:
        """A copy that somebody began, and that will not end in the time of a test."""
        self.domain.blockCopy(
            "vda",
            f"<disk type='file'><driver type='qcow2'/><source file='{target}'/></disk>",
            {libvirt.VIR_DOMAIN_BLOCK_COPY_BANDWIDTH: SLOW_BYTES_S},
            libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB,
        )


MakeGuest = Callable[..., Guest]


@pytest.fixture
def make_guest(libvirtd: Libvirtd, tmp_state_dir: Path) -> Iterator[MakeGuest]:
    """Makes guests, whose domains are gone after the test."""
    hypervisor = LibvirtHypervisor(libvirtd.uri, qemu_log_dir=str(libvirtd.directory / "log" / "qemu"))
    backdoors = [libvirt.open(libvirtd.uri)]
    made: list[Guest] = []

    def make(instance: Instance = GUEST, vifs: tuple[VifPlan, ...] = ()) -> Guest:
        facts = hypervisor.read_facts()
        machine = machine_for(instance, facts)
        layout = disk_layout_for(instance, instances_dir=str(tmp_state_dir), machine=machine)
        base, (root, seed) = tmp_state_dir / "base.qcow2", layout.disks
        Path(layout.directory).mkdir()
        run_tool("qemu-img", "create", "-q", "-f", "qcow2", base, "16M")
        run_tool("qemu-io", "-c", "write -q -P 0xab 0 8M", base)
        run_tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", root.path, "32M")
        run_tool("qemu-io", "-c", "write -q -P 0xcd 4M 8M", root.path)
        Path(seed.path).write_bytes(bytes(64 * 1024))
        xml = render(domain_config_for(instance, layout, vifs, facts))
        guest = Guest(hypervisor=hypervisor, instance=instance, layout=layout, xml=xml, backdoor=backdoors[0])
        made.append(guest)
        return guest

    yield make
    for guest in made:
        hypervisor.ensure_undefined(guest.instance.id)
    hypervisor.close()
    for backdoor in backdoors:
        backdoor.close()


@pytest.fixture
def guest(make_guest: MakeGuest) -> Guest:
    return make_guest()


@pytest.fixture
def running(guest: Guest) -> Guest:
    return guest.start()


# Facts


def test_the_host_says_what_it_is(libvirt_uri: str) -> None:
    hypervisor = LibvirtHypervisor(libvirt_uri)
    facts = hypervisor.read_facts()
    meminfo_kib = int(Path("/proc/meminfo").read_text().split()[1])
    assert (facts.cpus, facts.memory_mib, facts.arch) == (os.cpu_count(), meminfo_kib // 1024, os.uname().machine)
    assert facts.virt_type is virt_type_for("auto", read_kvm())
    assert Path(facts.emulator).exists()
    assert facts.machine.startswith("pc-")
    assert facts.machine not in ("pc", "q35"), "the canonical name, which stays when qemu is upgraded"
    assert facts.hypervisor_version in run_tool(facts.emulator, "--version")
    hypervisor.close()


def test_the_host_says_what_a_guest_can_have(libvirt_uri: str) -> None:
    hypervisor = LibvirtHypervisor(libvirt_uri)
    facts = hypervisor.read_facts()
    support, machines = facts.support, facts.support.machines
    hypervisor.close()
    assert machines is not None
    assert machines["pc"].startswith("pc-i440fx-")
    assert machines["q35"].startswith("pc-q35-")
    assert {"ide", "sata", "scsi", "virtio"} <= (support.disk_buses or set()), "of both boards"
    assert {"custom", "host-model"} <= (support.cpu_modes or set())
    assert "Nehalem" in (support.cpu_models or ())
    assert None not in (support.firmwares, support.secure_boot, support.video_models, support.tpm_models)
    assert sorted(cpu for cell in facts.cells for cpu in cell.cpus) == list(range(facts.cpus))
    # At most: a cell may show less than the host has.
    assert 0 < sum(cell.memory_mib for cell in facts.cells) <= facts.memory_mib


def test_the_host_says_what_cpu_a_guest_can_be_shown_with_the_features_of_its_model(libvirt_uri: str) -> None:
    hypervisor = LibvirtHypervisor(libvirt_uri)
    facts = hypervisor.read_facts()
    hypervisor.close()
    assert facts.cpu_model
    assert {"sse2", "cx16"} <= facts.cpu_features, "libvirt names a model, and what it has is told when it is asked"
    assert "HW_CPU_X86_SSE2" in traits_for(facts)
    assert facts.pci_devices == (), "nobody said that guests may have any"


def test_the_host_lists_its_pci_devices_where_guests_may_have_some(libvirt_uri: str) -> None:
    hypervisor = LibvirtHypervisor(libvirt_uri, lists_pci_devices=True)
    found = {device.address: device for device in hypervisor.read_facts().pci_devices}
    hypervisor.close()
    there = {path.name: path for path in Path("/sys/bus/pci/devices").iterdir()}
    bridges = {name for name, path in there.items() if (path / "class").read_text().startswith("0x06")}
    assert set(found) == set(there) - bridges
    for address, device in found.items():
        ids = [(there[address] / part).read_text().strip() for part in ("vendor", "device")]
        assert ids == [f"0x{device.vendor_id}", f"0x{device.product_id}"]


def test_the_host_is_asked_what_a_guest_can_have_once_for_each_connection(
    libvirt_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    ask = libvirt.virConnect.getCapabilities

    def counted(connection: libvirt.virConnect) -> str:
        asked.append(connection)
        return str(ask(connection))

    monkeypatch.setattr(libvirt.virConnect, "getCapabilities", counted)
    hypervisor = LibvirtHypervisor(libvirt_uri)
    assert hypervisor.read_facts() == hypervisor.read_facts()
    assert len(asked) == 1
    hypervisor.close()
    hypervisor.read_facts()
    hypervisor.close()
    assert len(asked) == 2


def test_a_guest_asked_as_q35_is_kept_under_the_full_name_that_libvirt_runs_it_as(make_guest: MakeGuest) -> None:
    asked = replace(GUEST, image_properties={"hw_machine_type": "q35"})
    guest = make_guest(asked)
    machines = guest.hypervisor.read_facts().support.machines
    assert machines is not None
    kept = machine_for(asked, guest.hypervisor.read_facts())
    assert kept == machines["q35"] != "q35"
    domain = guest.start().domain
    assert f"machine='{kept}'" in domain.XMLDesc()


def test_kvm_that_libvirt_does_not_offer_is_not_used(libvirt_uri: str) -> None:
    offered = VirtType.KVM if virt_type_for("auto", read_kvm()) is VirtType.KVM else VirtType.QEMU
    hypervisor = LibvirtHypervisor(libvirt_uri, virt_type="auto", read_kvm=lambda: USABLE_KVM)
    assert hypervisor.read_facts().virt_type is offered
    hypervisor.close()
    if offered is VirtType.QEMU:
        hypervisor = LibvirtHypervisor(libvirt_uri, virt_type="kvm", read_kvm=lambda: USABLE_KVM)
        with pytest.raises(Refused, match="kvm"):
            hypervisor.read_facts()
        hypervisor.close()


# Life


def test_a_guest_runs_and_ends(guest: Guest) -> None:
    hypervisor, instance_id = guest.hypervisor, guest.instance.id
    assert hypervisor.read_domain(instance_id) is None
    guest.start()
    first = hypervisor.read_domain(instance_id)
    assert first is not None
    assert (first.power_state, first.owned) == (PowerState.RUNNING, True)
    assert first.vnc_port is not None
    guest.start()
    assert hypervisor.read_domain(instance_id) == first
    assert replace(first, vnc_port=None) in hypervisor.list_domains()
    for _ in range(2):
        hypervisor.ensure_off(instance_id)
    off = hypervisor.read_domain(instance_id)
    assert off == replace(first, power_state=PowerState.SHUTDOWN, boot_id=None, vnc_port=None)
    assert hypervisor.ensure_running(instance_id).boot_id != first.boot_id
    for _ in range(2):
        hypervisor.ensure_undefined(instance_id)
    assert hypervisor.read_domain(instance_id) is None
    assert hypervisor.list_domains() == ()


def test_a_paused_guest_is_resumed(running: Guest) -> None:
    before = running.hypervisor.read_domain(running.instance.id)
    running.domain.suspend()
    paused = running.hypervisor.read_domain(running.instance.id)
    assert paused is not None
    assert paused.power_state is PowerState.PAUSED
    assert running.hypervisor.ensure_running(running.instance.id) == before


def test_a_qemu_that_was_killed_is_a_guest_that_is_off(running: Guest, libvirtd: Libvirtd) -> None:
    pid = int((libvirtd.directory / "run" / "qemu" / f"{domain_name_for(running.instance)}.pid").read_text())
    os.kill(pid, signal.SIGKILL)

    def is_off() -> bool:
        found = running.hypervisor.read_domain(running.instance.id)
        return found is not None and found.power_state is PowerState.SHUTDOWN

    wait_for(is_off)
    assert running.hypervisor.ensure_running(running.instance.id).power_state is PowerState.RUNNING


def test_the_record_can_be_rebuilt_from_a_running_guest(running: Guest) -> None:
    rebuilt = instance_from_xml(running.domain.XMLDesc(), PowerState.RUNNING)
    assert (rebuilt.id, rebuilt.name, rebuilt.flavor, rebuilt.metadata, rebuilt.created_at) == (
        GUEST.id,
        GUEST.name,
        GUEST.flavor,
        GUEST.metadata,
        GUEST.created_at,
    )


def test_managed_save_and_snapshots_go_with_the_domain(running: Guest) -> None:
    running.domain.snapshotCreateXML("<domainsnapshot/>", libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY)
    running.domain.managedSave()
    running.hypervisor.ensure_undefined(running.instance.id)
    assert running.hypervisor.read_domain(running.instance.id) is None


def test_a_guest_without_its_disk_does_not_start_and_says_so(guest: Guest) -> None:
    Path(guest.root).unlink()
    with pytest.raises(Retryable, match=f"cannot start domain {GUEST.id}: .*No such file"):
        guest.start()
    found = guest.hypervisor.read_domain(guest.instance.id)
    assert found is not None
    assert found.power_state is PowerState.SHUTDOWN


def test_a_guest_larger_than_the_hosts_memory_does_not_fit(make_guest: MakeGuest) -> None:
    guest = make_guest(replace(GUEST, flavor=replace(GUEST.flavor, memory_mib=64 * MIB)))
    with pytest.raises(DoesNotFit, match="Cannot allocate memory"):
        guest.start()


def test_a_guest_that_ends_at_once_says_what_qemu_logged(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    original = libvirt.virDomain.create

    def crash(domain: "libvirt.virDomain") -> None:
        original(domain)
        domain.destroy()

    monkeypatch.setattr(libvirt.virDomain, "create", crash)
    with pytest.raises(Retryable, match=r"(?s)QEMU's log ends: .*shutting down"):
        guest.start()


def test_a_domain_of_somebody_else_is_left_alone(guest: Guest) -> None:
    domain = guest.backdoor.createXML(guest.xml.replace("urn:taskvisor:instance:1", "urn:somebody:else"))
    for verb in (guest.hypervisor.ensure_off, guest.hypervisor.ensure_undefined, guest.hypervisor.request_shutdown):
        with pytest.raises(Contradiction):
            verb(guest.instance.id)
    assert domain.isActive()
    domain.destroy()


def test_guests_and_their_boot_ids_outlive_libvirtd(running: Guest, libvirtd: Libvirtd) -> None:
    before = running.hypervisor.read_domain(running.instance.id)
    os.kill(libvirtd.pid, signal.SIGKILL)
    try:
        with pytest.raises(CannotAsk):  # and not None, which would say that the guest is gone
            wait_for(lambda: running.hypervisor.read_domain(running.instance.id) is None)
    finally:
        libvirtd.start()
    assert running.hypervisor.read_domain(running.instance.id) == before
    running.hypervisor.ensure_off(running.instance.id)


def test_a_nic_is_on_the_tap_that_was_there_and_stays(make_guest: MakeGuest, host_namespace: str) -> None:
    port = port_of(GUEST.id, 0)
    vif = vif_of(port, mtu=1400)
    run_tool("ip", "-n", host_namespace, "tuntap", "add", vif.tap, "mode", "tap", "vnet_hdr")
    try:
        run_tool("ip", "-n", host_namespace, "link", "set", vif.tap, "mtu", "1400", "up")
        guest = make_guest(replace(GUEST, ports=(port,)), (vif,)).start()
        assert parse_domain(guest.domain.XMLDesc()).taps == (vif.tap,)
        wait_for(lambda: "LOWER_UP" in run_tool("ip", "-n", host_namespace, "link", "show", vif.tap))
        guest.hypervisor.ensure_off(guest.instance.id)
        wait_for(lambda: "NO-CARRIER" in run_tool("ip", "-n", host_namespace, "link", "show", vif.tap))
    finally:
        run_tool("ip", "-n", host_namespace, "link", "delete", vif.tap)


def test_linux_boots_logs_to_the_console_and_obeys_the_power_button(guest: Guest, guest_image: Path) -> None:
    run_tool("qemu-img", "convert", "-O", "qcow2", guest_image, guest.root)
    larger = replace(GUEST, flavor=replace(GUEST.flavor, memory_mib=256))
    facts = guest.hypervisor.read_facts()
    big = replace(guest, xml=render(domain_config_for(larger, guest.layout, (), facts)))
    log = Path(guest.layout.console_log)

    def has_said(line: bytes, times: int) -> Callable[[], bool]:
        return lambda: log.read_bytes().count(b"taskvisor-guest: " + line) >= times

    def is_off() -> bool:
        found = big.hypervisor.read_domain(GUEST.id)
        return found is not None and found.power_state is PowerState.SHUTDOWN

    big.start()
    wait_for(has_said(b"ready", 1), BOOT_LIMIT_S)
    big.hypervisor.ensure_off(GUEST.id)
    big.start()
    wait_for(has_said(b"ready", 2), BOOT_LIMIT_S)  # the first boot's line is still there
    for _ in range(2):
        big.hypervisor.request_shutdown(GUEST.id)
    wait_for(is_off, BOOT_LIMIT_S)
    assert has_said(b"power button pressed", 1)()


# Copying


def test_a_copy_is_the_whole_disk_flattened_while_the_guest_runs(running: Guest, tmp_state_dir: Path) -> None:
    before, copy = running.hypervisor.read_domain(running.instance.id), tmp_state_dir / "copy.qcow2"
    seen: list[tuple[int, int | None]] = []
    running.copy(copy, lambda done, total: seen.append((done, total)))
    assert running.hypervisor.read_domain(running.instance.id) == before
    assert running.domain.blockJobInfo("vda") == {}
    assert parse_domain(running.domain.XMLDesc()).disks[0].path == running.root
    assert seen[-1] == (32 * MIB, 32 * MIB)
    assert [done for done, _total in seen] == sorted(done for done, _total in seen)
    running.hypervisor.ensure_off(running.instance.id)
    assert "backing file" not in run_tool("qemu-img", "info", copy)
    assert "identical" in run_tool("qemu-img", "compare", running.root, copy)
    run_tool("qemu-img", "check", copy)


def test_a_second_copy_replaces_the_first(running: Guest, tmp_state_dir: Path) -> None:
    copy = tmp_state_dir / "copy.qcow2"
    copy.write_bytes(b"half a copy of a process that died")
    running.copy(copy)
    running.copy(copy)
    running.hypervisor.ensure_off(running.instance.id)
    assert "identical" in run_tool("qemu-img", "compare", running.root, copy)


def test_a_copy_that_a_dead_process_left_is_ended_first(running: Guest, tmp_state_dir: Path) -> None:
    copy = tmp_state_dir / "copy.qcow2"
    running.slow_copy(copy)
    assert running.domain.blockJobInfo("vda") != {}
    running.copy(copy)
    assert running.domain.blockJobInfo("vda") == {}
    running.hypervisor.ensure_off(running.instance.id)
    assert "identical" in run_tool("qemu-img", "compare", running.root, copy)


def test_a_copy_can_be_ended_by_itself_and_again(running: Guest, tmp_state_dir: Path) -> None:
    running.slow_copy(tmp_state_dir / "copy.qcow2")
    for _ in range(2):
        running.hypervisor.ensure_copy_ended(running.instance.id, "vda")
        assert running.domain.blockJobInfo("vda") == {}
    assert parse_domain(running.domain.XMLDesc()).disks[0].path == running.root


def test_a_process_killed_in_mid_copy_leaves_a_job_that_the_next_copy_ends(
    running: Guest, tmp_state_dir: Path, libvirtd: Libvirtd
) -> None:
    copy = tmp_state_dir / "copy.qcow2"
    pid = os.fork()
    if pid == 0:
        LibvirtHypervisor(libvirtd.uri).copy_disk(
            running.instance.id, "vda", str(copy), lambda _done, _total: os.kill(os.getpid(), signal.SIGKILL)
        )
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert running.domain.blockJobInfo("vda") != {}
    running.copy(copy)
    assert running.domain.blockJobInfo("vda") == {}


def test_what_the_watcher_raises_ends_the_copy(running: Guest, tmp_state_dir: Path) -> None:
    def stop(_done: int, _total: int | None) -> None:
        raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        running.copy(tmp_state_dir / "copy.qcow2", stop)
    assert running.domain.blockJobInfo("vda") == {}


def test_a_copy_that_stands_still_is_given_up(
    running: Guest, tmp_state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blockcopy, "STALL_LIMIT_S", 1.0)
    original = libvirt.virDomain.blockCopy

    def crawl(domain: "libvirt.virDomain", device: str, xml: str, _params: object, flags: int) -> object:
        return original(domain, device, xml, {libvirt.VIR_DOMAIN_BLOCK_COPY_BANDWIDTH: SLOW_BYTES_S}, flags)

    monkeypatch.setattr(libvirt.virDomain, "blockCopy", crawl)
    with pytest.raises(Retryable, match=r"has not moved for 1\.0 s"):
        running.copy(tmp_state_dir / "copy.qcow2")
    assert running.domain.blockJobInfo("vda") == {}


def test_another_kind_of_job_is_left_alone(running: Guest, tmp_state_dir: Path) -> None:
    running.domain.blockPull("vda", SLOW_BYTES_S, libvirt.VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES)
    with pytest.raises(Busy, match="not ours"):
        running.copy(tmp_state_dir / "copy.qcow2")
    assert running.domain.blockJobInfo("vda")["type"] == libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_PULL
    running.domain.blockJobAbort("vda")


def test_a_job_of_another_kind_is_not_a_copy_to_end(running: Guest) -> None:
    running.domain.blockPull("vda", SLOW_BYTES_S, libvirt.VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES)
    running.hypervisor.ensure_copy_ended(running.instance.id, "vda")
    assert running.domain.blockJobInfo("vda")["type"] == libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_PULL
    running.domain.blockJobAbort("vda")


def test_a_guest_that_ends_under_a_copy_fails_it(running: Guest, tmp_state_dir: Path) -> None:
    def pull_the_plug(_done: int, _total: int | None) -> None:
        if running.domain.isActive():
            running.domain.destroy()

    with pytest.raises(Retryable, match="cannot copy disk vda"):
        running.copy(tmp_state_dir / "copy.qcow2", pull_the_plug)


def test_a_copy_is_begun_again_when_libvirtd_dies_under_it(
    running: Guest, tmp_state_dir: Path, libvirtd: Libvirtd
) -> None:
    copy = tmp_state_dir / "copy.qcow2"
    killed: list[int] = []
    running.hypervisor.read_domain(running.instance.id)

    def kill_once(_done: int, _total: int | None) -> None:
        if not killed:
            killed.append(libvirtd.pid)
            os.kill(libvirtd.pid, signal.SIGKILL)
            libvirtd.start()

    running.copy(copy, kill_once)
    running.hypervisor.ensure_off(running.instance.id)
    assert "identical" in run_tool("qemu-img", "compare", running.root, copy)


@pytest.mark.parametrize("device", ["vdz", "nonsense"])
def test_a_disk_that_is_not_there_is_refused(running: Guest, tmp_state_dir: Path, device: str) -> None:
    with pytest.raises(Refused):
        running.hypervisor.copy_disk(running.instance.id, device, str(tmp_state_dir / "copy"), ignore_progress)


def test_a_copy_to_where_nothing_can_be_written_says_so(running: Guest, tmp_state_dir: Path) -> None:
    with pytest.raises(Retryable, match="No such file"):
        running.copy(tmp_state_dir / "missing" / "copy.qcow2")
    assert running.domain.blockJobInfo("vda") == {}


def test_a_guest_that_is_off_is_not_copied_by_qemu(guest: Guest, tmp_state_dir: Path) -> None:
    guest.hypervisor.ensure_defined(guest.instance.id, guest.xml)
    with pytest.raises(Refused, match="does not run"):
        guest.copy(tmp_state_dir / "copy.qcow2")
