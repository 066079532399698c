"""The verbs of the hypervisor on libvirt's own test driver, which lives in this process. QEMU is in test_hypervisor_qemu."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import libvirt
import pytest

from taskvisor.flow.ports import Hypervisor
from taskvisor.model.errors import CannotAsk, Contradiction, Refused, Retryable
from taskvisor.model.ids import InstanceId, OperationId, instance_id_for
from taskvisor.model.observed import DomainFacts
from taskvisor.model.records import Instance
from taskvisor.model.states import PowerState
from tests.virt.sample_guests import INSTANCE, PC_HOST
from virt import power
from virt.domain import render
from virt.domain.owner import NAMESPACE
from virt.hypervisor import LibvirtHypervisor
from virt.layout import disk_layout_for
from virt.lookup import POWER_STATES, power_state_for
from virt.policy import domain_config_for, domain_name_for
from virt.progress import ignore_progress

TEST_URI = "test:///default"
DEFAULT_DOMAIN = "test"  # the driver's own, and nobody's of ours
OTHER = replace(INSTANCE, id=instance_id_for(OperationId("build-other")))
NAME = domain_name_for(INSTANCE)

Verb = Callable[[LibvirtHypervisor], object]

ACTING: dict[str, Verb] = {
    "ensure_defined": lambda hypervisor: hypervisor.ensure_defined(INSTANCE.id, xml_of(INSTANCE)),
    "ensure_running": lambda hypervisor: hypervisor.ensure_running(INSTANCE.id),
    "ensure_off": lambda hypervisor: hypervisor.ensure_off(INSTANCE.id),
    "ensure_undefined": lambda hypervisor: hypervisor.ensure_undefined(INSTANCE.id),
    "request_shutdown": lambda hypervisor: hypervisor.request_shutdown(INSTANCE.id),
    "copy_disk": lambda hypervisor: hypervisor.copy_disk(INSTANCE.id, "vda", "/nonexistent/copy", ignore_progress),
    "ensure_copy_ended": lambda hypervisor: hypervisor.ensure_copy_ended(INSTANCE.id, "vda"),
}
LOOKING: dict[str, Verb] = {
    "read_facts": lambda hypervisor: hypervisor.read_facts(),
    "read_domain": lambda hypervisor: hypervisor.read_domain(INSTANCE.id),
    "list_domains": lambda hypervisor: hypervisor.list_domains(),
    "list_uses": lambda hypervisor: hypervisor.list_uses(),
}


def xml_of(instance: Instance) -> str:
    layout = disk_layout_for(instance, instances_dir="/srv", machine=PC_HOST.machine)
    return render(domain_config_for(instance, layout, (), PC_HOST))


@pytest.fixture
def driver() -> Iterator["libvirt.virConnect"]:
    """The driver by the back door; what a test leaves in it is taken out."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    connection = libvirt.open(TEST_URI)
    yield connection
    for domain in connection.listAllDomains():
        if domain.name() != DEFAULT_DOMAIN:
            if domain.isActive():
                domain.destroy()
            domain.undefine()
    connection.close()


@pytest.fixture
def hypervisor(driver: "libvirt.virConnect") -> Iterator[LibvirtHypervisor]:
    opened = LibvirtHypervisor(TEST_URI)
    yield opened
    opened.close()


@pytest.fixture
def defined(hypervisor: LibvirtHypervisor) -> LibvirtHypervisor:
    hypervisor.ensure_defined(INSTANCE.id, xml_of(INSTANCE))
    return hypervisor


@pytest.fixture
def running(defined: LibvirtHypervisor) -> LibvirtHypervisor:
    defined.ensure_running(INSTANCE.id)
    return defined


@pytest.fixture
def strangers_domain(driver: "libvirt.virConnect") -> "libvirt.virDomain":
    """A running domain with our UUID and name that bears none of our metadata."""
    return driver.createXML(xml_of(INSTANCE).replace(NAMESPACE, "urn:somebody:else"))


def as_port(hypervisor: LibvirtHypervisor) -> Hypervisor:
    """mypy's proof that the adapter is what steps expect."""
    return hypervisor


def facts(power_state: PowerState, boot_id: int | None) -> DomainFacts:
    return DomainFacts(
        instance_id=INSTANCE.id, name=NAME, power_state=power_state, boot_id=boot_id, owned=True, vnc_port=None
    )


def first(monkeypatch: pytest.MonkeyPatch, method: str, interloper: Callable[["libvirt.virDomain"], None]) -> None:
    """Just before libvirt is told to do `method`, somebody else acts on the domain; once."""
    original = getattr(libvirt.virDomain, method)
    begun: list[bool] = []

    def raced(domain: "libvirt.virDomain", *args: object) -> object:
        if not begun:
            begun.append(True)
            interloper(domain)
        return original(domain, *args)

    monkeypatch.setattr(libvirt.virDomain, method, raced)


# Looking


def test_a_domain_that_is_not_there_is_none(hypervisor: LibvirtHypervisor) -> None:
    assert hypervisor.read_domain(INSTANCE.id) is None


def test_the_drivers_own_domain_is_seen_and_is_not_ours(hypervisor: LibvirtHypervisor) -> None:
    (found,) = hypervisor.list_domains()
    assert (found.name, found.owned, found.power_state) == (DEFAULT_DOMAIN, False, PowerState.RUNNING)
    assert hypervisor.read_domain(found.instance_id) == found


def test_list_and_read_say_the_same(running: LibvirtHypervisor) -> None:
    running.ensure_defined(OTHER.id, xml_of(OTHER))
    for found in running.list_domains():
        assert running.read_domain(found.instance_id) == found


def test_metadata_that_name_another_instance_do_not_make_a_domain_ours(
    hypervisor: LibvirtHypervisor, driver: "libvirt.virConnect"
) -> None:
    driver.defineXML(xml_of(INSTANCE).replace(f'schema="1" id="{INSTANCE.id}"', f'schema="1" id="{OTHER.id}"'))
    found = hypervisor.read_domain(INSTANCE.id)
    assert found is not None
    assert not found.owned
    assert found in hypervisor.list_domains()


def test_a_domain_that_vanishes_while_it_is_listed_is_left_out(
    running: LibvirtHypervisor, monkeypatch: pytest.MonkeyPatch, driver: "libvirt.virConnect"
) -> None:
    original = libvirt.virDomain.metadata

    def vanish(domain: "libvirt.virDomain", *args: object) -> object:
        if domain.name() == NAME and domain.isPersistent():
            domain.destroy()
            domain.undefine()
        return original(domain, *args)

    monkeypatch.setattr(libvirt.virDomain, "metadata", vanish)
    assert [found.name for found in running.list_domains()] == [DEFAULT_DOMAIN]


def test_a_domain_that_vanishes_while_it_is_read_is_none(
    defined: LibvirtHypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    first(monkeypatch, "XMLDesc", lambda domain: domain.undefine())
    assert defined.read_domain(INSTANCE.id) is None


@pytest.mark.parametrize("verb", [*ACTING, *LOOKING])
def test_without_libvirtd_no_verb_says_anything_of_a_domain(verb: str) -> None:
    hypervisor = LibvirtHypervisor("qemu+unix:///system?socket=/nonexistent/socket")
    with pytest.raises(CannotAsk):
        (ACTING | LOOKING)[verb](hypervisor)


@pytest.mark.parametrize(
    ("state", "power_state"),
    [
        (libvirt.VIR_DOMAIN_NOSTATE, 0),
        (libvirt.VIR_DOMAIN_RUNNING, 1),
        (libvirt.VIR_DOMAIN_BLOCKED, 1),
        (libvirt.VIR_DOMAIN_PAUSED, 3),
        (libvirt.VIR_DOMAIN_SHUTDOWN, 4),
        (libvirt.VIR_DOMAIN_SHUTOFF, 4),
        (libvirt.VIR_DOMAIN_CRASHED, 6),
        (libvirt.VIR_DOMAIN_PMSUSPENDED, 7),
        (99, 0),
    ],
)
def test_states_have_novas_numbers(state: int, power_state: int) -> None:
    assert power_state_for(state) == power_state


def test_every_state_of_this_libvirt_is_known() -> None:
    assert set(POWER_STATES) == set(range(libvirt.VIR_DOMAIN_PMSUSPENDED + 1))


# Defining


def test_a_defined_domain_is_off_and_ours(defined: LibvirtHypervisor) -> None:
    assert defined.read_domain(INSTANCE.id) == facts(PowerState.SHUTDOWN, None)


def test_defining_again_takes_the_new_definition(defined: LibvirtHypervisor, driver: "libvirt.virConnect") -> None:
    larger = replace(INSTANCE, flavor=replace(INSTANCE.flavor, memory_mib=1024))
    defined.ensure_defined(INSTANCE.id, xml_of(larger))
    defined.ensure_defined(INSTANCE.id, xml_of(larger))
    assert driver.lookupByUUIDString(INSTANCE.id).maxMemory() == 1024 * 1024


def test_a_running_domain_is_defined_for_its_next_start(running: LibvirtHypervisor) -> None:
    before = running.read_domain(INSTANCE.id)
    running.ensure_defined(INSTANCE.id, xml_of(INSTANCE))
    assert running.read_domain(INSTANCE.id) == before


def test_a_name_that_another_domain_has_is_left_to_it(
    hypervisor: LibvirtHypervisor, driver: "libvirt.virConnect"
) -> None:
    driver.defineXML(xml_of(OTHER).replace(domain_name_for(OTHER), NAME))
    with pytest.raises(Contradiction, match=rf"its name {NAME} is domain {OTHER.id}'s"):
        hypervisor.ensure_defined(INSTANCE.id, xml_of(INSTANCE))
    assert hypervisor.read_domain(INSTANCE.id) is None


def test_a_name_that_is_taken_between_look_and_act_is_left_to_its_taker(
    hypervisor: LibvirtHypervisor, driver: "libvirt.virConnect", monkeypatch: pytest.MonkeyPatch
) -> None:
    original = libvirt.virConnect.defineXMLFlags

    def taken(connection: "libvirt.virConnect", xml: str, flags: int) -> object:
        connection.defineXML(xml_of(OTHER).replace(domain_name_for(OTHER), NAME))
        return original(connection, xml, flags)

    monkeypatch.setattr(libvirt.virConnect, "defineXMLFlags", taken)
    with pytest.raises(Contradiction, match="its name"):
        hypervisor.ensure_defined(INSTANCE.id, xml_of(INSTANCE))


@pytest.mark.parametrize(
    "change",
    [
        lambda _xml: "",
        lambda xml: xml.removesuffix("</domain>\n"),
        lambda xml: xml.replace("<features>", "<bogus/><features>"),
        lambda xml: xml.replace('unit="KiB"', 'unit="lots"'),
        lambda xml: xml.replace(INSTANCE.id, OTHER.id),
        lambda xml: xml.replace(NAMESPACE, "urn:somebody:else"),
    ],
)
def test_xml_that_is_wrong_or_not_this_instances_is_refused(
    hypervisor: LibvirtHypervisor, change: Callable[[str], str]
) -> None:
    with pytest.raises(Refused):
        hypervisor.ensure_defined(INSTANCE.id, change(xml_of(INSTANCE)))
    assert len(hypervisor.list_domains()) == 1


# What is not ours


@pytest.mark.parametrize("verb", ACTING)
def test_no_verb_touches_a_domain_that_bears_no_metadata_of_ours(
    hypervisor: LibvirtHypervisor, strangers_domain: "libvirt.virDomain", verb: str
) -> None:
    before = strangers_domain.XMLDesc(), strangers_domain.state()
    with pytest.raises(Contradiction, match="left alone"):
        ACTING[verb](hypervisor)
    assert (strangers_domain.XMLDesc(), strangers_domain.state()) == before
    strangers_domain.destroy()


@pytest.mark.parametrize("verb", ["ensure_off", "ensure_undefined", "request_shutdown", "ensure_copy_ended"])
def test_what_is_not_there_is_off_and_undefined(hypervisor: LibvirtHypervisor, verb: str) -> None:
    ACTING[verb](hypervisor)
    ACTING[verb](hypervisor)


@pytest.mark.parametrize("verb", ["ensure_running", "copy_disk"])
def test_what_is_not_there_cannot_be_used(hypervisor: LibvirtHypervisor, verb: str) -> None:
    with pytest.raises(Refused):
        ACTING[verb](hypervisor)


def test_an_id_that_is_no_uuid_is_refused(hypervisor: LibvirtHypervisor) -> None:
    with pytest.raises(Refused):
        hypervisor.read_domain(InstanceId("not-a-uuid"))


# Power


def test_a_start_returns_what_runs(defined: LibvirtHypervisor) -> None:
    found = defined.ensure_running(INSTANCE.id)
    assert found.power_state is PowerState.RUNNING
    assert found.boot_id is not None
    assert found == defined.read_domain(INSTANCE.id)


def test_a_second_start_changes_nothing(running: LibvirtHypervisor) -> None:
    before = running.read_domain(INSTANCE.id)
    assert running.ensure_running(INSTANCE.id) == before


def test_a_paused_domain_is_resumed_and_not_started_anew(
    running: LibvirtHypervisor, driver: "libvirt.virConnect"
) -> None:
    before = running.read_domain(INSTANCE.id)
    driver.lookupByUUIDString(INSTANCE.id).suspend()
    assert running.ensure_running(INSTANCE.id) == before


def test_a_guest_started_anew_has_another_boot_id(running: LibvirtHypervisor) -> None:
    before = running.ensure_running(INSTANCE.id)
    running.ensure_off(INSTANCE.id)
    assert running.ensure_running(INSTANCE.id).boot_id != before.boot_id


def test_a_domain_that_somebody_starts_first_is_running(
    defined: LibvirtHypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = libvirt.virDomain.create
    first(monkeypatch, "create", original)
    assert defined.ensure_running(INSTANCE.id).power_state is PowerState.RUNNING


def test_a_domain_that_somebody_undefines_before_its_start_is_refused(
    defined: LibvirtHypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    first(monkeypatch, "create", lambda domain: domain.undefine())
    with pytest.raises(Refused, match="not defined"):
        defined.ensure_running(INSTANCE.id)


def test_a_guest_that_ends_at_once_is_not_started_again_and_again(
    defined: LibvirtHypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, starts = libvirt.virDomain.create, []

    def crash(domain: "libvirt.virDomain") -> None:
        starts.append(domain)
        original(domain)
        domain.destroy()

    monkeypatch.setattr(libvirt.virDomain, "create", crash)
    with pytest.raises(Retryable, match="right after its start it was shutdown again"):
        defined.ensure_running(INSTANCE.id)
    assert len(starts) == 1


def test_a_stop_twice_is_a_stop_once(running: LibvirtHypervisor) -> None:
    running.ensure_off(INSTANCE.id)
    running.ensure_off(INSTANCE.id)
    assert running.read_domain(INSTANCE.id) == facts(PowerState.SHUTDOWN, None)


def test_a_paused_domain_can_be_stopped(running: LibvirtHypervisor, driver: "libvirt.virConnect") -> None:
    driver.lookupByUUIDString(INSTANCE.id).suspend()
    running.ensure_off(INSTANCE.id)
    assert running.read_domain(INSTANCE.id) == facts(PowerState.SHUTDOWN, None)


def test_a_domain_that_somebody_stops_first_is_off(running: LibvirtHypervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    first(monkeypatch, "destroy", libvirt.virDomain.destroy)
    running.ensure_off(INSTANCE.id)
    assert running.read_domain(INSTANCE.id) == facts(PowerState.SHUTDOWN, None)


def test_a_domain_that_is_started_after_every_stop_is_given_up_on(
    running: LibvirtHypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, stops = libvirt.virDomain.destroy, []

    def start_again(domain: "libvirt.virDomain") -> None:
        stops.append(domain)
        original(domain)
        domain.create()

    with monkeypatch.context() as patched:
        patched.setattr(libvirt.virDomain, "destroy", start_again)
        with pytest.raises(Retryable, match="ran again after each"):
            running.ensure_off(INSTANCE.id)
    assert len(stops) == power.LOOKS


def test_memory_that_libvirt_saved_goes_with_a_stop(running: LibvirtHypervisor, driver: "libvirt.virConnect") -> None:
    domain = driver.lookupByUUIDString(INSTANCE.id)
    domain.managedSave()
    assert domain.hasManagedSaveImage()
    running.ensure_off(INSTANCE.id)
    assert not domain.hasManagedSaveImage()


def test_a_shutdown_ends_a_guest_that_listens(running: LibvirtHypervisor) -> None:
    running.request_shutdown(INSTANCE.id)
    running.request_shutdown(INSTANCE.id)
    assert running.read_domain(INSTANCE.id) == facts(PowerState.SHUTDOWN, None)


def test_a_shutdown_of_a_guest_that_ends_meanwhile_is_a_success(
    running: LibvirtHypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    first(monkeypatch, "shutdownFlags", libvirt.virDomain.destroy)
    running.request_shutdown(INSTANCE.id)


@pytest.mark.parametrize("verb", ["ensure_off", "request_shutdown"])
def test_a_guest_that_ends_right_after_it_was_seen_running_is_off(
    running: LibvirtHypervisor, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    seen = libvirt.virDomain.isActive

    def seen_and_ended(domain: "libvirt.virDomain") -> int:
        active: int = seen(domain)
        if active:
            domain.destroy()
        return active

    monkeypatch.setattr(libvirt.virDomain, "isActive", seen_and_ended)
    ACTING[verb](running)
    assert running.read_domain(INSTANCE.id) == facts(PowerState.SHUTDOWN, None)


def test_a_guest_that_somebody_starts_right_after_it_was_seen_off_is_running(
    defined: LibvirtHypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = libvirt.virDomain.state

    def seen_and_started(domain: "libvirt.virDomain", flags: int = 0) -> list[int]:
        state: list[int] = seen(domain, flags)
        if state[0] == libvirt.VIR_DOMAIN_SHUTOFF:
            domain.create()
        return state

    monkeypatch.setattr(libvirt.virDomain, "state", seen_and_started)
    assert defined.ensure_running(INSTANCE.id).power_state is PowerState.RUNNING


# Undefining


@pytest.mark.parametrize("stage", ["defined", "running"])
def test_nothing_is_left_of_an_undefined_domain(request: pytest.FixtureRequest, stage: str) -> None:
    hypervisor: LibvirtHypervisor = request.getfixturevalue(stage)
    hypervisor.ensure_undefined(INSTANCE.id)
    hypervisor.ensure_undefined(INSTANCE.id)
    assert hypervisor.read_domain(INSTANCE.id) is None


def test_a_transient_domain_goes_too(hypervisor: LibvirtHypervisor, driver: "libvirt.virConnect") -> None:
    driver.createXML(xml_of(INSTANCE))
    hypervisor.ensure_undefined(INSTANCE.id)
    assert hypervisor.read_domain(INSTANCE.id) is None


def test_a_domain_that_somebody_undefines_first_is_gone(
    defined: LibvirtHypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    first(monkeypatch, "undefineFlags", lambda domain: domain.undefine())
    defined.ensure_undefined(INSTANCE.id)
    assert defined.read_domain(INSTANCE.id) is None


def test_a_domain_that_somebody_starts_before_it_is_undefined_goes_too(
    defined: LibvirtHypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    first(monkeypatch, "undefineFlags", lambda domain: domain.create())
    defined.ensure_undefined(INSTANCE.id)
    assert defined.read_domain(INSTANCE.id) is None


def test_undefining_one_leaves_the_others(running: LibvirtHypervisor) -> None:
    running.ensure_defined(OTHER.id, xml_of(OTHER))
    running.ensure_undefined(INSTANCE.id)
    assert {found.name for found in running.list_domains()} == {DEFAULT_DOMAIN, domain_name_for(OTHER)}
