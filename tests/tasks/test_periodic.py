"""What beat keeps true: lost messages, forgotten addresses, hosts' reports, power states. None of it destroys anything."""

from dataclasses import replace

import pytest

from tasks.periodic import FORGOTTEN_S
from taskvisor.compute.power_sync import Look
from taskvisor.model.errors import CannotAsk
from taskvisor.model.ids import HostName, OperationId, mac_for, port_id_for
from taskvisor.model.records import Resources
from taskvisor.model.states import Phase, PowerPolicy, PowerState, TaskState, VirtType, VmState
from tests.support.fleet import KEYS, PERIOD_S, Fleet
from tests.support.spies import WorkerDied
from tests.support.world import read_everything, read_held, read_hosts
from tests.tasks.doors import Failing, do_during

H1 = HostName("h1")


def test_a_lost_message_is_sent_again_when_it_is_overdue(fleet: Fleet) -> None:
    fleet.begin_build()
    fleet.post.chains.clear()

    assert fleet.sweep.run() == 0
    fleet.clock.sleep(PERIOD_S - 0.1)
    assert fleet.sweep.run() == 0
    fleet.clock.sleep(0.1)
    assert fleet.sweep.run() == 1
    assert fleet.sweep.run() == 0

    fleet.post.deliver_all()
    assert fleet.read("build-web").phase is Phase.SUCCEEDED


def test_what_is_sent_again_and_lost_again_is_sent_less_and_less_often(fleet: Fleet) -> None:
    fleet.begin_build()
    began_at, sent_at_periods = fleet.clock.now(), []
    for _ in range(32):
        fleet.post.chains.clear()
        fleet.clock.sleep(PERIOD_S)
        if fleet.sweep.run():
            sent_at_periods.append(round((fleet.clock.now() - began_at) / PERIOD_S))

    assert sent_at_periods == [1, 3, 7, 15, 31]


def test_messages_for_a_silent_host_are_left_to_its_next_start(fleet: Fleet) -> None:
    fleet.begin_build()
    fleet.client.delete(KEYS.alive(H1))
    fleet.post.chains.clear()
    fleet.clock.sleep(100 * PERIOD_S)

    assert fleet.sweep.run() == 0
    fleet.restart()
    fleet.post.deliver_all()

    assert fleet.read("build-web").phase is Phase.SUCCEEDED


def test_a_step_whose_node_died_is_sent_again(fleet: Fleet) -> None:
    def die() -> None:
        raise WorkerDied

    do_during(fleet, "fabric.ensure_plugged", die)
    fleet.begin_build()
    with pytest.raises(WorkerDied):
        fleet.post.deliver_all()
    fleet.post.chains.clear()
    fleet.clock.sleep(PERIOD_S)
    assert fleet.sweep.run() == 0  # its node lives, and may be at it

    fleet.store.hosts.note_alive(H1, "second", keep_s=3600)
    assert fleet.sweep.run() == 1
    fleet.post.deliver_all()

    assert fleet.read("build-web").phase is Phase.SUCCEEDED


def test_a_step_past_its_time_is_sent_again(fleet: Fleet) -> None:
    def die() -> None:
        raise WorkerDied

    do_during(fleet, "fabric.ensure_plugged", die)
    fleet.begin_build()
    with pytest.raises(WorkerDied):
        fleet.post.deliver_all()
    fleet.clock.sleep(61.0)

    assert fleet.sweep.run() == 1


def test_what_waits_is_not_sent_but_its_holder(fleet: Fleet) -> None:
    do_during(fleet, "fabric.ensure_plugged", lambda: fleet.begin("instance.delete", "del", instance="web"))
    fleet.begin_build()
    for _ in range(4):
        fleet.post.deliver(fleet.post.chains[0])
    fleet.post.chains.clear()
    assert fleet.read("del").phase is Phase.WAITING
    fleet.clock.sleep(PERIOD_S)

    assert fleet.sweep.run() == 1
    assert [chain.operation_id for chain in fleet.post.chains] == ["build-web"]
    fleet.post.deliver_all()

    assert fleet.read("del").phase is Phase.SUCCEEDED
    assert read_held(fleet) == {}


def test_one_bad_record_does_not_keep_the_others_from_being_sent(fleet: Fleet) -> None:
    fleet.begin_build("unreadable")
    fleet.begin_build("newer")
    fleet.begin_build("good")
    fleet.client.hset(KEYS.operation("build-unreadable"), "doc", "{")
    newer = str(fleet.client.hget(KEYS.operation("build-newer"), "doc"))
    fleet.client.hset(
        KEYS.operation("build-newer"), "doc", newer.replace('"flow":"instance.build"', '"flow":"instance.fly"')
    )
    fleet.post.chains.clear()
    fleet.clock.sleep(PERIOD_S)

    fleet.sweep.run()
    fleet.post.chains = [chain for chain in fleet.post.chains if chain.operation_id == "build-good"]
    fleet.post.deliver_all()

    assert fleet.read("build-good").phase is Phase.SUCCEEDED


def test_what_has_ended_is_never_sent(fleet: Fleet) -> None:
    fleet.build()
    fleet.build("bad", image="/nosuch")
    fleet.clock.sleep(100 * PERIOD_S)
    before = read_everything(fleet.client)

    assert fleet.sweep.run() == 0
    assert read_everything(fleet.client) == before


def test_operations_that_have_expired_are_listed_no_more(fleet: Fleet) -> None:
    fleet.build()
    fleet.client.delete(KEYS.operation("build-web"))

    fleet.sweep.run()

    assert fleet.client.zcard(KEYS.operations) == 0


def test_an_address_of_a_request_that_never_became_an_operation_is_freed(fleet: Fleet) -> None:
    network = fleet.store.find_network("default")
    port = port_id_for(OperationId("gone"), 0)  # type: ignore[arg-type]
    fleet.store.addresses.allocate(network, port, mac=mac_for(port), wanted=None, now=fleet.clock.now())

    fleet.clock.sleep(FORGOTTEN_S - 1)
    fleet.sweep.run()
    assert fleet.client.hlen(KEYS.addresses(network.id)) == 1
    fleet.clock.sleep(1)
    fleet.sweep.run()

    assert read_held(fleet) == {}


def test_an_address_of_a_guest_is_never_freed(fleet: Fleet) -> None:
    fleet.build()
    fleet.clock.sleep(10 * FORGOTTEN_S)

    fleet.sweep.run()

    assert fleet.build("db").result is not None
    assert fleet.instance("db").addresses == ("10.152.0.3",)


def test_an_address_whose_request_comes_twice_is_never_freed(fleet: Fleet) -> None:
    """A late twin of the request asks for the address again when it is part of the guest already."""
    fleet.build()
    port = fleet.instance().ports[0]
    network = fleet.store.find_network("default")
    fleet.store.addresses.allocate(network, port.id, mac=port.mac, wanted=None, now=fleet.clock.now())
    fleet.clock.sleep(2 * FORGOTTEN_S)

    fleet.sweep.run()

    assert fleet.client.hget(KEYS.addresses(network.id), port.address) == port.id


def test_a_host_reports_what_it_has(fleet: Fleet) -> None:
    fleet.build()
    fleet.clock.sleep(60.0)

    fleet.hosts[H1].report.track()

    (host,) = fleet.store.hosts.list_hosts()
    assert host.inventory is not None
    of_cells = {f"memory_mib@{cell}": 24_576 for cell in (0, 1)} | {f"pages_2048@{cell}": 4096 for cell in (0, 1)}
    assert host.inventory.total == Resources(vcpus=64, memory_mib=65_536, disk_gib=16_384, others=of_cells)
    assert host.inventory.limits == Resources(vcpus=256, memory_mib=65_536, disk_gib=16_384, others=of_cells)
    assert (host.inventory.virt_type, host.inventory.domains) == (VirtType.QEMU, 1)
    assert host.reported_at == fleet.clock.now()
    assert host.used == Resources(vcpus=1, memory_mib=64, disk_gib=1)


def test_a_host_that_cannot_ask_keeps_its_last_report(fleet: Fleet) -> None:
    before = fleet.store.hosts.list_hosts()
    report = fleet.hosts[H1].report
    failing = replace(report.tracker, hypervisor=Failing())  # type: ignore[arg-type]
    report = replace(report, tracker=failing)

    with pytest.raises(Exception, match="cannot read_facts"):
        report.track()

    assert fleet.store.hosts.list_hosts() == before


def test_a_guest_that_went_off_by_itself_is_stopped(fleet: Fleet) -> None:
    fleet.build()
    fleet.hosts[H1].outsider.ensure_power_state(fleet.instance().id, PowerState.SHUTDOWN)

    assert fleet.hosts[H1].report.sync_power_states() == 1
    assert (fleet.instance().vm_state, fleet.instance().power_state) == (VmState.STOPPED, PowerState.SHUTDOWN)
    assert fleet.hosts[H1].report.sync_power_states() == 0


def test_a_guest_whose_domain_is_gone_keeps_its_state_and_everything_else(fleet: Fleet) -> None:
    fleet.build()
    before = fleet.instance()
    fleet.hosts[H1].outsider.ensure_domain_gone(before.id)

    fleet.hosts[H1].report.sync_power_states()

    assert fleet.instance() == replace(before, power_state=PowerState.NOSTATE)


def seen_gone(fleet: Fleet) -> None:
    """web's domain was gone at two periodic looks."""
    fleet.build()
    fleet.hosts[H1].outsider.ensure_domain_gone(fleet.instance().id)
    report = fleet.hosts[H1].report
    assert [report.sync_power_states(Look.CONFIRMING) for _ in range(3)] == [1, 1, 0]


def test_a_guest_whose_domain_is_gone_at_two_looks_is_in_error_and_keeps_everything_else(fleet: Fleet) -> None:
    seen_gone(fleet)

    assert (fleet.instance().vm_state, fleet.instance().power_state) == (VmState.ERROR, PowerState.NOSTATE)
    assert fleet.store.counters.read()["domains_gone"] == 1
    assert [host.used for host in fleet.store.hosts.list_hosts()] == [Resources(vcpus=1, memory_mib=64, disk_gib=1)]
    assert fleet.hosts[H1].ports.disks.list_directories() == (fleet.instance().id,)


def test_as_its_fault_says_a_start_brings_it_back(fleet: Fleet) -> None:
    seen_gone(fleet)

    assert fleet.ask("instance.start", "start", instance="web").phase is Phase.SUCCEEDED
    assert (fleet.instance().vm_state, fleet.instance().fault) == (VmState.ACTIVE, None)


def test_looks_because_of_events_put_nothing_into_error(fleet: Fleet) -> None:
    fleet.build()
    fleet.hosts[H1].outsider.ensure_domain_gone(fleet.instance().id)

    for _ in range(3):
        fleet.hosts[H1].report.sync_power_states()
        fleet.hosts[H1].report.sync_power_state(fleet.instance().id)

    assert fleet.instance().vm_state is VmState.ACTIVE


class BlindForAMoment:
    """A hypervisor whose list lacks a domain that is there when it is asked for alone."""

    def __init__(self, fleet: Fleet) -> None:
        self._real = fleet.hosts[H1].ports.hypervisor

    def list_domains(self) -> tuple[()]:
        return ()

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


def test_a_domain_that_a_list_lacked_is_asked_for_alone_before_it_is_called_gone(fleet: Fleet) -> None:
    fleet.build()
    report = replace(fleet.hosts[H1].report, hypervisor=BlindForAMoment(fleet))  # type: ignore[arg-type]

    for _ in range(3):
        report.sync_power_states(Look.CONFIRMING)

    assert (fleet.instance().vm_state, fleet.instance().power_state) == (VmState.ACTIVE, PowerState.NOSTATE)


def test_by_novas_policy_a_guest_that_somebody_started_is_stopped_by_an_operation(fleet: Fleet) -> None:
    fleet.build()
    fleet.ask("instance.stop", "stop", instance="web", timeout_s=0)
    fleet.hosts[H1].outsider.ensure_power_state(fleet.instance().id, PowerState.RUNNING)
    report = replace(fleet.hosts[H1].report, power_policy=PowerPolicy.STOP)

    assert report.sync_power_states() == 1
    assert fleet.instance().vm_state is VmState.ACTIVE
    ((name, operation_id, _),) = fleet.asked
    fleet.take_asked()

    assert (name, fleet.read(operation_id).phase) == ("instance.stop", Phase.SUCCEEDED)
    assert fleet.instance().vm_state is VmState.STOPPED


def test_a_guest_that_an_operation_holds_is_left_alone(fleet: Fleet) -> None:
    fleet.build()
    fleet.begin("instance.reboot", "op", instance="web")
    fleet.post.deliver(fleet.post.chains[0])
    noted = KEYS.host(H1)  # when the sync was made
    before = read_everything(fleet.client)

    assert fleet.hosts[H1].report.sync_power_states() == 0
    assert {**read_everything(fleet.client), noted: before[noted]} == before
    assert fleet.instance().task_state is TaskState.REBOOT_PENDING


def test_a_guest_that_is_built_while_it_looks_is_not_called_absent(fleet: Fleet) -> None:
    """Its domains are listed after the records: a record read first cannot be younger than the look."""
    fleet.build("first")
    hypervisor = fleet.hosts[H1].ports.hypervisor
    listing = BuildsWhileListing(fleet)
    report = replace(fleet.hosts[H1].report, hypervisor=listing)  # type: ignore[arg-type]

    report.sync_power_states()

    assert fleet.instance("second").power_state is PowerState.RUNNING
    assert len(hypervisor.list_domains()) == 2


def test_a_guest_that_is_stopped_while_it_looks_is_left_alone(fleet: Fleet) -> None:
    fleet.build()
    fleet.hosts[H1].outsider.ensure_power_state(fleet.instance().id, PowerState.PAUSED)
    admission = StopsFirst(fleet)
    report = replace(
        fleet.hosts[H1].report,
        store=replace(fleet.store, admission=admission),  # type: ignore[arg-type]
    )

    assert report.sync_power_states() == 0
    assert fleet.instance().vm_state is VmState.STOPPED


def test_a_hypervisor_that_cannot_be_asked_changes_nothing(fleet: Fleet) -> None:
    fleet.build()
    before = read_everything(fleet.client)
    report = replace(fleet.hosts[H1].report, hypervisor=Deaf())  # type: ignore[arg-type]

    with pytest.raises(CannotAsk):
        report.sync_power_states()

    assert read_everything(fleet.client) == before


def test_guests_of_other_hosts_are_not_looked_at(fleet: Fleet) -> None:
    fleet.build()
    guest = fleet.instance()
    report = replace(fleet.hosts[H1].report, host=HostName("h2"))

    assert report.sync_power_states() == 0
    assert fleet.instance() == guest


class BuildsWhileListing:
    """A hypervisor on which a guest comes to be right after its domains were listed, or right before."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def list_domains(self) -> object:
        domains = self._fleet.hosts[H1].ports.hypervisor.list_domains()
        self._fleet.build("second")
        return domains


class StopsFirst:
    """An admission to which a stop comes right before what was seen is noted."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def write_at_rest(self, former: object, instance: object, cause: object) -> None:
        self._fleet.ask("instance.stop", "stop", instance="web", timeout_s=0)
        self._fleet.store.admission.write_at_rest(former, instance, cause)  # type: ignore[arg-type]


class Deaf:
    def list_domains(self) -> None:
        raise CannotAsk("libvirtd is down")


def test_nothing_periodic_touches_a_host(fleet: Fleet) -> None:
    fleet.build()
    fleet.begin_build("second")
    before = read_hosts(fleet)
    fleet.clock.sleep(10 * FORGOTTEN_S)

    fleet.sweep.run()
    fleet.hosts[H1].report.track()
    fleet.hosts[H1].report.sync_power_states()

    assert read_hosts(fleet) == before


def test_requests_are_taken_back_from_hosts_that_take_none(fleet: Fleet) -> None:
    fleet.sweep.run()
    assert fleet.reclaimed == ["h1"]

    fleet.store.hosts.note_taking(HostName("h1"), "first", keep_s=60)
    fleet.sweep.run()
    assert fleet.reclaimed == ["h1"]
