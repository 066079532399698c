"""What a Hypervisor promises (taskvisor/flow/ports.py)."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from taskvisor.flow.ports import Hypervisor
from taskvisor.model.errors import CannotAsk, Contradiction, Refused, TaskvisorError
from taskvisor.model.ids import InstanceId
from taskvisor.model.observed import DefinitionFacts, DomainFacts, DomainUse
from taskvisor.model.snapshot import Quiesce
from taskvisor.model.states import PowerState
from tests.contract.hypervisors import HypervisorHost, RealHost, SimulatedHost
from tests.contract.plans import MIB, ignore_progress, instance_id, xml_for
from tests.contract.processes import repeat_at_once
from virt.definition import parse_definition
from virt.drift import differences_for
from virt.readback import parse_size
from virt.record_copy import record_copy_in, with_record_copy
from virt.simulated.image_file import read_image_file

GUEST = instance_id(0)
PORT = (
    '<port address="10.9.0.10" id="p" index="0" mac="52:54:00:00:00:01" network="n" network_id="x"'
    ' record="{&quot;security_groups&quot;:[&quot;g&quot;]}"></port>'
)
STRANGER = InstanceId("00000000-0000-4000-8000-00000000f00d")


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.real)])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HypervisorHost]:
    """A host with a hypervisor and no domain on it; afterwards our guests are gone, by its own verbs."""
    is_real = request.param == "real"
    made: HypervisorHost = (
        RealHost(request.getfixturevalue("libvirtd"))
        if is_real
        else SimulatedHost(tmp_path / "host", tmp_path / "away")
    )
    yield made
    for facts in made.port.list_domains():
        if facts.owned:
            made.port.ensure_undefined(facts.instance_id)
        else:
            made.ensure_foreign_domain_gone(facts.instance_id)
    assert made.port.list_domains() == ()


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A qcow2 overlay of 8 MiB with its base: what guests have for a root disk."""
    base, overlay = tmp_path / "base.qcow2", tmp_path / "disk"
    for argv in (
        ["qemu-img", "create", "-q", "-f", "qcow2", str(base), "4M"],
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "qcow2", str(overlay), "8M"],
    ):
        subprocess.run(argv, check=True, timeout=30)
    return overlay


@pytest.fixture
def xml(host: HypervisorHost, disk: Path) -> str:
    """The XML of GUEST on this host."""
    return xml_for(host.port.read_facts(), disk)


@pytest.fixture
def defined(host: HypervisorHost, xml: str) -> HypervisorHost:
    """GUEST is defined."""
    host.port.ensure_defined(GUEST, xml)
    return host


@pytest.fixture
def running(defined: HypervisorHost) -> HypervisorHost:
    """GUEST runs."""
    defined.port.ensure_running(GUEST)
    return defined


def seen(host: HypervisorHost) -> DomainFacts:
    """GUEST as it is now; it must be there."""
    facts = host.port.read_domain(GUEST)
    assert facts is not None
    return facts


def test_the_host_says_what_it_has(host: HypervisorHost) -> None:
    facts = host.port.read_facts()
    assert facts.cpus > 0
    assert facts.memory_mib > 0
    assert facts.arch
    assert facts.machine
    assert facts.domains == 0


def test_the_host_counts_domains_that_are_off(defined: HypervisorHost) -> None:
    assert defined.port.read_facts().domains == 1


def test_a_domain_that_is_not_there_is_none(host: HypervisorHost) -> None:
    assert host.port.read_domain(GUEST) is None
    assert host.port.list_domains() == ()


def test_a_defined_domain_is_off_and_ours(defined: HypervisorHost) -> None:
    facts = seen(defined)
    assert facts.instance_id == GUEST
    assert (facts.power_state, facts.boot_id, facts.owned) == (PowerState.SHUTDOWN, None, True)


def test_defining_twice_is_once(defined: HypervisorHost, xml: str) -> None:
    before = seen(defined)
    defined.port.ensure_defined(GUEST, xml)
    assert defined.port.list_domains() == (before,)


def test_defining_a_running_domain_leaves_it_running(running: HypervisorHost, xml: str) -> None:
    before = seen(running)
    running.port.ensure_defined(GUEST, xml)
    assert seen(running) == before


def copied_since(before: DefinitionFacts, after: DefinitionFacts, copy: str) -> bool:
    """Both of the XMLs carry the copy, where there are two, and are otherwise as they were."""
    pairs = ((before.persistent_xml, after.persistent_xml), (before.live_xml, after.live_xml))
    return all(
        new is not None and record_copy_in(new) == copy and is_same_but_for_the_copy(old, new, copy)
        for old, new in pairs
        if old is not None
    )


def is_same_but_for_the_copy(old: str, new: str, copy: str) -> bool:
    return parse_definition(with_record_copy(old, copy)) == parse_definition(new)


def with_a_port(found: DefinitionFacts) -> str:
    """The copy that the domain carries, with a port more, in a security group."""
    copy = record_copy_in(found.persistent_xml or "") or ""
    return copy.replace("</instance>", f"{PORT}</instance>")


def test_a_domain_that_is_off_carries_another_copy_of_its_record_and_is_otherwise_as_it_was(
    defined: HypervisorHost,
) -> None:
    was = definition(defined)
    for _ in range(2):
        defined.port.ensure_record_copied(GUEST, with_a_port(was))
        assert copied_since(was, definition(defined), with_a_port(was))


def test_a_guest_that_runs_notices_nothing_of_another_copy_of_its_record(running: HypervisorHost) -> None:
    before, was = seen(running), definition(running)
    assert was.live_xml is not None
    for _ in range(2):
        running.port.ensure_record_copied(GUEST, with_a_port(was))
        assert (seen(running), copied_since(was, definition(running), with_a_port(was))) == (before, True)


def test_a_copy_of_another_instances_record_is_refused(defined: HypervisorHost) -> None:
    was = definition(defined)
    copy = (record_copy_in(was.persistent_xml or "") or "").replace(GUEST, STRANGER)
    for wrong in (copy, "<instance/>", "no XML"):
        with pytest.raises(Refused, match="cannot copy the record"):
            defined.port.ensure_record_copied(GUEST, wrong)
    assert definition(defined) == was


def test_a_domain_that_is_not_there_carries_no_copy_and_anothers_is_left_alone(host: HypervisorHost) -> None:
    host.port.ensure_record_copied(GUEST, f'<instance id="{GUEST}"></instance>')
    host.ensure_foreign_domain(STRANGER, "theirs")
    with pytest.raises(Contradiction):
        host.port.ensure_record_copied(STRANGER, f'<instance id="{STRANGER}"></instance>')


def definition(host: HypervisorHost) -> DefinitionFacts:
    """GUEST's definition; it must be the only one."""
    (found,) = host.port.list_definitions()
    assert found.instance_id == GUEST
    return found


def is_as_asked(found: str | None, xml: str) -> bool:
    """Nothing of what was asked for is missing or different in what the hypervisor has."""
    assert found is not None
    return differences_for(parse_definition(xml), parse_definition(found), None) == ()


def memory_of(xml: str | None) -> str:
    assert xml is not None
    return parse_definition(xml).facts["memory"]


def test_no_domain_has_no_definition(host: HypervisorHost) -> None:
    assert host.port.list_definitions() == ()


def test_a_domain_that_is_off_has_the_definition_that_was_asked_for_and_none_that_runs(
    defined: HypervisorHost, xml: str
) -> None:
    found = definition(defined)
    assert is_as_asked(found.persistent_xml, xml)
    assert found.live_xml is None


def test_a_running_domain_keeps_what_it_was_started_with_when_it_is_defined_anew(
    running: HypervisorHost, xml: str
) -> None:
    other = xml.replace("65536</memory>", "131072</memory>")
    running.port.ensure_defined(GUEST, other)
    found = definition(running)
    assert (memory_of(found.persistent_xml), memory_of(found.live_xml)) == ("131072", "65536")

    running.port.ensure_off(GUEST)
    running.port.ensure_running(GUEST)
    assert memory_of(definition(running).live_xml) == "131072"


def test_the_definitions_of_others_are_listed_too(host: HypervisorHost) -> None:
    host.ensure_foreign_domain(STRANGER, "somebodys")
    assert [found.instance_id for found in host.port.list_definitions()] == [STRANGER]


def test_a_foreign_domain_of_our_uuid_is_left_alone(host: HypervisorHost, xml: str) -> None:
    host.ensure_foreign_domain(GUEST, "somebodys")
    before = seen(host)
    assert not before.owned
    actions: tuple[Callable[[Hypervisor], object], ...] = (
        lambda port: port.ensure_defined(GUEST, xml),
        lambda port: port.ensure_running(GUEST),
        lambda port: port.ensure_off(GUEST),
        lambda port: port.request_shutdown(GUEST),
        lambda port: port.ensure_undefined(GUEST),
        lambda port: port.copy_disk(GUEST, "vda", "/nowhere", ignore_progress),
        lambda port: port.ensure_suspended_to_disk(GUEST),
        lambda port: port.ensure_resumed(GUEST),
    )
    for action in actions:
        with pytest.raises(Contradiction):
            action(host.port)
    assert seen(host) == before


def test_a_foreign_domain_of_our_name_is_left_alone(host: HypervisorHost, xml: str) -> None:
    name = xml.partition("<name>")[2].partition("</name>")[0]
    host.ensure_foreign_domain(STRANGER, name)
    with pytest.raises(Contradiction):
        host.port.ensure_defined(GUEST, xml)
    assert [(facts.instance_id, facts.owned) for facts in host.port.list_domains()] == [(STRANGER, False)]


def test_a_foreign_domain_is_listed_and_counted(defined: HypervisorHost) -> None:
    defined.ensure_foreign_domain(STRANGER, "somebodys")
    assert {facts.instance_id: facts.owned for facts in defined.port.list_domains()} == {GUEST: True, STRANGER: False}
    assert defined.port.read_facts().domains == 2


def test_what_a_domain_has_of_the_host_is_what_its_xml_gives_it(defined: HypervisorHost, xml: str) -> None:
    (off,) = defined.port.list_uses()
    vcpus, memory_mib = parse_size(xml)
    name = seen(defined).name
    assert min(vcpus, memory_mib) > 0
    assert off == DomainUse(instance_id=GUEST, name=name, runs=False, vcpus=vcpus, memory_mib=memory_mib)

    defined.port.ensure_running(GUEST)
    assert defined.port.list_uses() == (replace(off, runs=True),)


def test_what_domains_of_others_have_is_told_too(defined: HypervisorHost) -> None:
    defined.ensure_foreign_domain(STRANGER, "somebodys")
    assert {use.instance_id for use in defined.port.list_uses()} == {GUEST, STRANGER}


def test_xml_of_another_instance_is_refused(host: HypervisorHost, disk: Path) -> None:
    with pytest.raises(Refused):
        host.port.ensure_defined(GUEST, xml_for(host.port.read_facts(), disk, 1))
    assert host.port.list_domains() == ()


def test_xml_without_a_name_is_refused(host: HypervisorHost, xml: str) -> None:
    before, _, rest = xml.partition("<name>")
    with pytest.raises(Refused):
        host.port.ensure_defined(GUEST, before + rest.partition("</name>")[2])
    assert host.port.list_domains() == ()


@pytest.mark.parametrize("text", ["", "not XML", "<domain>", "<network/>"])
def test_what_is_no_domains_xml_is_refused(host: HypervisorHost, text: str) -> None:
    with pytest.raises(Refused):
        host.port.ensure_defined(GUEST, text)


def test_starting_a_domain_that_is_not_there_is_refused(host: HypervisorHost) -> None:
    with pytest.raises(Refused):
        host.port.ensure_running(GUEST)


def test_a_started_domain_runs_and_has_a_boot_id(defined: HypervisorHost) -> None:
    facts = defined.port.ensure_running(GUEST)
    assert facts.power_state is PowerState.RUNNING
    assert facts.boot_id is not None
    assert facts == seen(defined)


def test_starting_twice_is_once(running: HypervisorHost) -> None:
    before = seen(running)
    assert running.port.ensure_running(GUEST) == before


def test_a_paused_domain_is_resumed_and_not_started_anew(running: HypervisorHost) -> None:
    before = seen(running)
    running.ensure_paused(GUEST)
    assert seen(running).power_state is PowerState.PAUSED
    assert running.port.ensure_running(GUEST) == before


def test_a_domain_whose_disk_is_gone_does_not_start(defined: HypervisorHost, disk: Path) -> None:
    disk.unlink()
    with pytest.raises(TaskvisorError, match=str(disk)):
        defined.port.ensure_running(GUEST)
    assert seen(defined).power_state is PowerState.SHUTDOWN


def test_a_domain_pulled_like_a_plug_is_off_and_still_defined(running: HypervisorHost) -> None:
    running.port.ensure_off(GUEST)
    assert (seen(running).power_state, seen(running).boot_id) == (PowerState.SHUTDOWN, None)


def test_a_paused_domain_is_pulled_like_any_other(running: HypervisorHost) -> None:
    running.ensure_paused(GUEST)
    running.port.ensure_off(GUEST)
    assert seen(running).power_state is PowerState.SHUTDOWN


def test_switching_off_twice_is_once(defined: HypervisorHost) -> None:
    defined.port.ensure_off(GUEST)
    defined.port.ensure_off(GUEST)
    assert seen(defined).power_state is PowerState.SHUTDOWN


def test_a_domain_that_is_not_there_is_off(host: HypervisorHost) -> None:
    host.port.ensure_off(GUEST)
    assert host.port.read_domain(GUEST) is None


def test_each_start_has_another_boot_id(running: HypervisorHost) -> None:
    before = seen(running).boot_id
    running.port.ensure_off(GUEST)
    assert running.port.ensure_running(GUEST).boot_id != before


def test_a_domain_defined_anew_has_another_boot_id(running: HypervisorHost, xml: str) -> None:
    before = seen(running).boot_id
    running.port.ensure_undefined(GUEST)
    running.port.ensure_defined(GUEST, xml)
    assert running.port.ensure_running(GUEST).boot_id != before


def test_undefining_a_running_domain_ends_it(running: HypervisorHost) -> None:
    running.port.ensure_undefined(GUEST)
    assert running.port.read_domain(GUEST) is None


def test_undefining_twice_is_once(defined: HypervisorHost) -> None:
    defined.port.ensure_undefined(GUEST)
    defined.port.ensure_undefined(GUEST)
    assert defined.port.list_domains() == ()


def test_the_name_of_an_undefined_domain_is_free(defined: HypervisorHost, xml: str) -> None:
    name = seen(defined).name
    defined.port.ensure_undefined(GUEST)
    defined.ensure_foreign_domain(STRANGER, name)
    assert [facts.instance_id for facts in defined.port.list_domains()] == [STRANGER]


def test_asking_to_shut_down_again_is_harmless(running: HypervisorHost) -> None:
    running.port.request_shutdown(GUEST)
    running.port.request_shutdown(GUEST)
    running.port.ensure_off(GUEST)
    running.port.request_shutdown(GUEST)
    assert seen(running).power_state is PowerState.SHUTDOWN


def test_a_domain_that_is_not_there_has_been_shut_down(host: HypervisorHost) -> None:
    host.port.request_shutdown(GUEST)
    assert host.port.read_domain(GUEST) is None


def test_the_disk_of_a_running_domain_is_copied_flat(running: HypervisorHost, tmp_path: Path) -> None:
    before, target = seen(running), tmp_path / "copy.qcow2"
    running.port.copy_disk(GUEST, "vda", str(target), ignore_progress)
    assert read_image_file(target).virtual_bytes == 8 * MIB  # which refuses what has a backing file
    assert seen(running) == before


def test_a_disk_copied_again_is_whole_again(running: HypervisorHost, tmp_path: Path) -> None:
    target = tmp_path / "copy.qcow2"
    target.write_bytes(b"left by a process that died")
    for _ in range(2):
        running.port.copy_disk(GUEST, "vda", str(target), ignore_progress)
        assert read_image_file(target).virtual_bytes == 8 * MIB


def test_the_disk_of_a_domain_that_is_off_is_not_copied(defined: HypervisorHost, tmp_path: Path) -> None:
    with pytest.raises(Refused):
        defined.port.copy_disk(GUEST, "vda", str(tmp_path / "copy.qcow2"), ignore_progress)


def test_a_disk_that_the_domain_has_not_is_not_copied(running: HypervisorHost, tmp_path: Path) -> None:
    with pytest.raises(TaskvisorError):
        running.port.copy_disk(GUEST, "vdz", str(tmp_path / "copy.qcow2"), ignore_progress)


def test_a_copy_of_a_paused_guest_is_not_quiesced_and_says_why(running: HypervisorHost, tmp_path: Path) -> None:
    running.ensure_paused(GUEST)
    target = str(tmp_path / "copy.qcow2")
    for quiesce in (Quiesce.AUTO, Quiesce.NEVER):
        copy = running.port.copy_disk(GUEST, "vda", target, ignore_progress, quiesce=quiesce)
        assert not copy.quiesced
        assert copy.why_not
    with pytest.raises(Refused, match="cannot quiesce"):
        running.port.copy_disk(GUEST, "vda", target, ignore_progress, quiesce=Quiesce.REQUIRED)
    assert seen(running).power_state is PowerState.PAUSED


def test_ending_a_copy_that_there_is_not_is_harmless(running: HypervisorHost) -> None:
    before = seen(running)
    for _ in range(2):
        running.port.ensure_copy_ended(GUEST, "vda")
    assert seen(running) == before


@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
def test_a_guest_suspended_to_disk_is_off_and_then_as_it_was(running: HypervisorHost, *, paused: bool) -> None:
    if paused:
        running.ensure_paused(GUEST)
    before = seen(running)
    for _ in range(2):
        assert running.port.ensure_suspended_to_disk(GUEST)
        assert (seen(running).power_state, running.has_saved_memory(GUEST)) == (PowerState.SHUTDOWN, True)
    for _ in range(2):
        running.port.ensure_resumed(GUEST)
        assert (seen(running).power_state, running.has_saved_memory(GUEST)) == (before.power_state, False)
    assert seen(running).boot_id not in (before.boot_id, None)


def test_a_guest_that_is_off_is_not_suspended_nor_started_by_being_resumed(defined: HypervisorHost) -> None:
    for _ in range(2):
        assert not defined.port.ensure_suspended_to_disk(GUEST)
        defined.port.ensure_resumed(GUEST)
    assert seen(defined).power_state is PowerState.SHUTDOWN


def test_a_guest_that_is_not_there_is_neither_suspended_nor_resumed(host: HypervisorHost) -> None:
    assert not host.port.ensure_suspended_to_disk(GUEST)
    host.port.ensure_resumed(GUEST)
    assert host.port.read_domain(GUEST) is None


def test_a_guest_that_runs_is_not_changed_by_being_resumed(running: HypervisorHost) -> None:
    before = seen(running)
    running.port.ensure_resumed(GUEST)
    assert seen(running) == before


def test_memory_that_somebody_else_saved_is_left_alone(running: HypervisorHost) -> None:
    running.ensure_memory_saved(GUEST)
    assert not running.port.ensure_suspended_to_disk(GUEST)
    running.port.ensure_resumed(GUEST)
    assert (seen(running).power_state, running.has_saved_memory(GUEST)) == (PowerState.SHUTDOWN, True)


def test_a_suspended_guest_that_somebody_started_stays_as_it_is(running: HypervisorHost) -> None:
    running.port.ensure_suspended_to_disk(GUEST)
    started = running.port.ensure_running(GUEST)
    running.port.ensure_resumed(GUEST)
    assert (seen(running), running.has_saved_memory(GUEST)) == (started, False)


def test_nothing_is_left_of_a_suspended_guest_that_is_undefined(running: HypervisorHost, xml: str) -> None:
    running.port.ensure_suspended_to_disk(GUEST)
    running.port.ensure_undefined(GUEST)
    running.port.ensure_defined(GUEST, xml)
    running.port.ensure_resumed(GUEST)
    assert (seen(running).power_state, running.has_saved_memory(GUEST)) == (PowerState.SHUTDOWN, False)


def test_who_cannot_ask_does_not_say_that_nothing_is_there(host: HypervisorHost, xml: str) -> None:
    actions: tuple[Callable[[Hypervisor], object], ...] = (
        lambda port: port.read_facts(),
        lambda port: port.read_domain(GUEST),
        lambda port: port.list_domains(),
        lambda port: port.list_definitions(),
        lambda port: port.ensure_defined(GUEST, xml),
        lambda port: port.ensure_running(GUEST),
        lambda port: port.ensure_off(GUEST),
        lambda port: port.ensure_undefined(GUEST),
        lambda port: port.request_shutdown(GUEST),
        lambda port: port.ensure_suspended_to_disk(GUEST),
        lambda port: port.ensure_resumed(GUEST),
    )
    for action in actions:
        with pytest.raises(CannotAsk):
            action(host.unreachable)


def test_a_second_process_sees_what_the_first_did(running: HypervisorHost) -> None:
    assert running.open_port().read_domain(GUEST) == seen(running)


def test_two_processes_at_once_make_one_running_domain(host: HypervisorHost, xml: str) -> None:
    starts = [("ensure_defined", (GUEST, xml)), ("ensure_running", (GUEST,)), ("read_domain", (GUEST,))] * 3
    repeat_at_once(host.open_port, [starts, starts])
    facts = host.port.ensure_running(GUEST)
    assert facts.power_state is PowerState.RUNNING
    assert host.port.list_domains() == (replace(facts, vnc_port=None),)  # a list has no ports


def test_two_processes_at_once_leave_no_domain(host: HypervisorHost, xml: str) -> None:
    lives = [("ensure_defined", (GUEST, xml)), ("ensure_off", (GUEST,)), ("ensure_undefined", (GUEST,))] * 5
    repeat_at_once(host.open_port, [lives, lives])
    host.port.ensure_undefined(GUEST)
    assert host.port.list_domains() == ()
