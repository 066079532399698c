"""The copy of its record that a domain carries follows what requests change in the record alone, and forgets nothing by it."""

from collections.abc import Iterator

import pytest

from taskvisor.model.errors import CannotAsk
from taskvisor.model.finding import Code
from taskvisor.model.ids import HostName
from taskvisor.model.network import Port
from taskvisor.model.observed import DefinitionFacts
from taskvisor.model.states import PowerState
from taskvisor.state.codec import encode
from tests.support.audits import audit
from tests.support.fleet import KEYS, Fleet
from tests.support.network_desk import NetworkDesk, open_network_desk
from tests.tasks.doors import do_during
from virt.readback import instance_from_xml
from workers.locks import InstanceLocks

H1 = HostName("h1")


@pytest.fixture
def desk(redis_url: str, fleet: Fleet) -> Iterator[NetworkDesk]:
    """Requests about the guest web, which runs; there is a group of that name."""
    fleet.build("web")
    with open_network_desk(redis_url, fleet) as desk:
        desk.ask("security_group.create", name="web")
        yield desk


def definition(fleet: Fleet) -> DefinitionFacts:
    (found,) = fleet.hosts[H1].ports.hypervisor.list_definitions()
    return found


def rebuilt(xml: str | None) -> tuple[Port, ...]:
    """The ports of the record that would be rebuilt from that XML, with Redis empty."""
    assert xml is not None
    return instance_from_xml(xml, PowerState.RUNNING).ports


def codes(fleet: Fleet) -> list[Code]:
    return [finding.code for finding in audit(fleet)]


@pytest.mark.parametrize("look", ["copy_records", "check"])
def test_what_is_rebuilt_from_the_hosts_has_a_ports_groups_of_now(desk: NetworkDesk, fleet: Fleet, look: str) -> None:
    before = fleet.instance().ports
    desk.ask("port.update", instance="web", security_groups=["web"])
    (port,) = fleet.instance().ports
    assert rebuilt(definition(fleet).persistent_xml) == before != (port,)
    assert codes(fleet) == [Code.GUEST_DRIFTED]

    getattr(fleet.hosts[H1].plugs, look)()

    assert rebuilt(definition(fleet).persistent_xml) == rebuilt(definition(fleet).live_xml) == (port,)
    assert codes(fleet) == []


def test_looking_again_writes_nothing(desk: NetworkDesk, fleet: Fleet) -> None:
    plugs = fleet.hosts[H1].plugs
    assert plugs.copy_records() == 0
    desk.ask("port.update", instance="web", security_groups=["web"])
    assert (plugs.copy_records(), plugs.copy_records()) == (1, 0)


def test_a_nic_that_was_attached_is_in_the_copy_that_runs_as_well(desk: NetworkDesk, fleet: Fleet) -> None:
    fleet.ask("instance.attach_interface", "attach", instance="web", interface="default")
    mac = fleet.instance().ports[1].mac
    desk.ask("port.update", instance="web", port=mac, security_groups=["web"])
    fleet.hosts[H1].plugs.copy_records()
    assert rebuilt(definition(fleet).persistent_xml) == rebuilt(definition(fleet).live_xml) == fleet.instance().ports


def test_a_copy_that_knows_more_than_the_record_is_left_and_told(desk: NetworkDesk, fleet: Fleet) -> None:
    """As after a restore of an older Redis: the NIC is the guest's, and only its domain still says so."""
    older = fleet.instance()
    fleet.ask("instance.attach_interface", "attach", instance="web", interface="default")
    known = rebuilt(definition(fleet).persistent_xml)
    fleet.client.set(KEYS.instance(older.id), encode(older))
    desk.ask("port.update", instance="web", security_groups=["web"])

    assert fleet.hosts[H1].plugs.copy_records() == 0

    assert rebuilt(definition(fleet).persistent_xml) == known
    assert Code.GUEST_DRIFTED in codes(fleet)


def test_a_guest_that_an_operation_holds_or_works_on_is_not_touched(desk: NetworkDesk, fleet: Fleet) -> None:
    desk.ask("port.update", instance="web", security_groups=["web"])
    plugs = fleet.hosts[H1].plugs
    with InstanceLocks(fleet.hosts[H1].root / "locks").hold(fleet.instance().id) as held:
        assert held
        assert plugs.copy_records() == 0
    copied: list[int] = []
    do_during(fleet, "fabric.ensure_plugged", lambda: copied.append(plugs.copy_records()))
    fleet.ask("instance.reboot", "again", instance="web", type="hard")
    assert copied == [0]
    assert plugs.copy_records() == 0, "a hard reboot defines it from its record"


def test_a_hypervisor_that_can_not_be_asked_ends_the_look(desk: NetworkDesk, fleet: Fleet) -> None:
    desk.ask("port.update", instance="web", security_groups=["web"])
    domains = fleet.hosts[H1].root / "domains"
    domains.rename(domains.with_name("away"))
    with pytest.raises(CannotAsk):
        fleet.hosts[H1].plugs.copy_records()
    domains.with_name("away").rename(domains)


def test_a_host_that_was_told_copies_and_so_nothing_has_drifted(desk: NetworkDesk, fleet: Fleet) -> None:
    desk.ask("port.update", instance="web", security_groups=["web"])
    assert ("host.copy_records", {}) in desk.read_messages("h1")
