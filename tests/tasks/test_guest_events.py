"""A guest of which something was heard is looked at alone; its record follows, unless an operation has it."""

from dataclasses import replace

import pytest

from taskvisor.model.errors import CannotAsk
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.states import PowerState, TaskState, VmState
from tests.support.fleet import KEYS, Fleet
from tests.support.world import read_everything

H1 = HostName("h1")


def test_the_record_of_that_guest_follows_and_no_other(fleet: Fleet) -> None:
    fleet.build("web")
    fleet.build("db")
    host = fleet.hosts[H1]
    for name in ("web", "db"):
        host.outsider.ensure_power_state(fleet.instance(name).id, PowerState.SHUTDOWN)

    assert host.report.sync_power_state(fleet.instance("web").id)
    assert (fleet.instance("web").vm_state, fleet.instance("web").power_state) == (
        VmState.STOPPED,
        PowerState.SHUTDOWN,
    )
    assert fleet.instance("db").vm_state is VmState.ACTIVE
    assert not host.report.sync_power_state(fleet.instance("web").id)


def test_a_guest_that_runs_again_when_it_is_looked_at_has_never_stopped(fleet: Fleet) -> None:
    fleet.build()
    before = read_everything(fleet.client)

    assert not fleet.hosts[H1].report.sync_power_state(fleet.instance().id)
    assert read_everything(fleet.client) == before


def test_a_guest_that_an_operation_holds_is_left_to_it(fleet: Fleet) -> None:
    fleet.build()
    fleet.begin("instance.reboot", "op", instance="web")
    fleet.post.deliver(fleet.post.chains[0])
    fleet.hosts[H1].outsider.ensure_power_state(fleet.instance().id, PowerState.SHUTDOWN)
    before = read_everything(fleet.client)

    assert not fleet.hosts[H1].report.sync_power_state(fleet.instance().id)
    assert read_everything(fleet.client) == before
    assert fleet.instance().task_state is TaskState.REBOOT_PENDING


def test_a_guest_that_an_operation_takes_while_it_is_looked_at_is_left_to_it(fleet: Fleet) -> None:
    fleet.build()
    guest = fleet.instance()
    fleet.hosts[H1].outsider.ensure_power_state(guest.id, PowerState.PAUSED)
    report = replace(fleet.hosts[H1].report, hypervisor=StopsMeanwhile(fleet))  # type: ignore[arg-type]

    assert not report.sync_power_state(guest.id)
    assert (fleet.instance().vm_state, fleet.instance().power_state) == (VmState.STOPPED, PowerState.SHUTDOWN)


@pytest.mark.parametrize("known", [False, True])
def test_a_guest_that_is_nobodys_or_another_hosts_is_passed_over(fleet: Fleet, known: bool) -> None:
    fleet.build()
    guest = fleet.instance().id if known else InstanceId("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    fleet.hosts[H1].outsider.ensure_power_state(fleet.instance().id, PowerState.SHUTDOWN)
    report = replace(fleet.hosts[H1].report, host=HostName("h2")) if known else fleet.hosts[H1].report
    before = read_everything(fleet.client)

    assert not report.sync_power_state(guest)
    assert read_everything(fleet.client) == before


def test_a_hypervisor_that_cannot_be_asked_changes_nothing(fleet: Fleet) -> None:
    fleet.build()
    before = read_everything(fleet.client)
    report = replace(fleet.hosts[H1].report, hypervisor=Deaf())  # type: ignore[arg-type]

    with pytest.raises(CannotAsk):
        report.sync_power_state(fleet.instance().id)
    assert read_everything(fleet.client) == before


def test_whether_a_host_hears_is_noted_for_a_while(fleet: Fleet) -> None:
    hosts = fleet.store.hosts
    assert hosts.list_listening() == ()
    hosts.note_listening(H1, hears=True, keep_s=60)
    assert hosts.list_listening() == ((H1, True),)
    hosts.note_listening(H1, hears=False, keep_s=60)
    assert hosts.list_listening() == ((H1, False),)
    assert 0 < fleet.client.pttl(KEYS.listening(H1)) <= 60_000


class StopsMeanwhile:
    """A hypervisor on which the guest is stopped by a request right after it was looked at."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def read_domain(self, instance_id: InstanceId) -> object:
        seen = self._fleet.hosts[H1].ports.hypervisor.read_domain(instance_id)
        self._fleet.ask("instance.stop", "stop", instance="web", timeout_s=0)
        return seen


class Deaf:
    def read_domain(self, _instance_id: InstanceId) -> None:
        raise CannotAsk("libvirtd is down")
