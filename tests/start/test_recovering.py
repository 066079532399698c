"""What a host's start makes of its guests: records that were left are healed, guests that ran are started if that is wished."""

from dataclasses import replace

import pytest

from tasks.recovering import Recovery, Resumption
from taskvisor.model.errors import CannotAsk, Conflicting
from taskvisor.model.ids import HostName, resumption_id_for
from taskvisor.model.records import Instance
from taskvisor.model.states import Phase, PowerState, TaskState, VmState
from taskvisor.state.codec import encode
from tests.support.fleet import KEYS, Fleet
from tests.support.spies import WorkerDied
from tests.support.world import read_everything, read_hosts

H1 = HostName("h1")
WISHED = Resumption(wished=True, at_once=2, stagger_s=1.0)


def recovery(fleet: Fleet, boot: str = "boot-1", resumption: Resumption = WISHED) -> Recovery:
    return Recovery(
        store=fleet.store,
        host=H1,
        hypervisor=fleet.hosts[H1].ports.hypervisor,
        door=fleet.door,
        launch=fleet.post.launch,
        now=fleet.clock.now,
        boot_id=boot,
        resumption=resumption,
    )


def leave(fleet: Fleet, **fields: object) -> Instance:
    """The record of web says this, and no operation holds it: as no write of ours leaves it."""
    left: Instance = replace(fleet.instance(), **fields)  # type: ignore[arg-type]
    fleet.client.set(KEYS.instance(left.id), encode(left))
    return left


def power_off(fleet: Fleet, *names: str) -> None:
    """The machine has gone down: its guests' domains are defined, and off."""
    for name in names:
        fleet.hosts[H1].outsider.ensure_power_state(fleet.instance(name).id, PowerState.SHUTDOWN)


def is_running(fleet: Fleet, name: str = "web") -> bool:
    domain = fleet.hosts[H1].ports.hypervisor.read_domain(fleet.instance(name).id)
    return domain is not None and domain.power_state is PowerState.RUNNING


def test_every_state_that_was_left_comes_to_rest_and_nothing_is_touched(fleet: Fleet) -> None:
    """Each task state without an operation. With each vm_state and power: tests/compute/test_recovery.py."""
    fleet.build()
    before = read_hosts(fleet)

    for task_state in TaskState:
        left = leave(fleet, vm_state=VmState.ACTIVE, task_state=task_state)
        recovery(fleet).run()
        found = fleet.instance()
        if task_state is TaskState.DELETING:
            assert found == left  # only another delete is let in: see test_a_delete_that_failed_stays_to_be_asked_again
        else:
            assert (found.vm_state, found.task_state) == (VmState.ACTIVE, None), task_state
    assert read_hosts(fleet) == before


@pytest.mark.parametrize(
    ("vm_state", "task_state", "power", "becomes"),
    [
        (VmState.ACTIVE, TaskState.SUSPENDING, PowerState.RUNNING, VmState.ACTIVE),
        (VmState.SUSPENDED, TaskState.RESUMING, PowerState.RUNNING, VmState.ACTIVE),
        (VmState.ACTIVE, TaskState.PAUSING, PowerState.PAUSED, VmState.PAUSED),
        (VmState.PAUSED, TaskState.UNPAUSING, PowerState.RUNNING, VmState.ACTIVE),
        (VmState.PAUSED, TaskState.UNPAUSING, PowerState.PAUSED, VmState.PAUSED),
        (VmState.ACTIVE, TaskState.POWERING_OFF, PowerState.SHUTDOWN, VmState.STOPPED),
        (VmState.STOPPED, TaskState.POWERING_ON, PowerState.SHUTDOWN, VmState.STOPPED),
        (VmState.ACTIVE, TaskState.REBOOT_STARTED, PowerState.RUNNING, VmState.ACTIVE),
        (VmState.ACTIVE, TaskState.IMAGE_BACKUP, PowerState.RUNNING, VmState.ACTIVE),
        (VmState.ACTIVE, TaskState.RESCUING, PowerState.SHUTDOWN, VmState.STOPPED),
        (VmState.RESCUED, TaskState.UNRESCUING, PowerState.RUNNING, VmState.RESCUED),
        (VmState.RESIZED, TaskState.RESIZE_CONFIRMING, PowerState.RUNNING, VmState.RESIZED),
        (VmState.SHELVED, TaskState.UNSHELVING, PowerState.SHUTDOWN, VmState.SHELVED),
        (VmState.SOFT_DELETED, TaskState.RESTORING, PowerState.SHUTDOWN, VmState.SOFT_DELETED),
        (VmState.ERROR, TaskState.UPDATING_PASSWORD, PowerState.RUNNING, VmState.ERROR),
        (VmState.BUILDING, TaskState.SPAWNING, PowerState.RUNNING, VmState.ERROR),
        (VmState.BUILDING, None, PowerState.SHUTDOWN, VmState.ERROR),
    ],
)
def test_a_record_that_was_left_follows_its_hypervisor(
    fleet: Fleet, vm_state: VmState, task_state: TaskState | None, power: PowerState, becomes: VmState
) -> None:
    fleet.build()
    fleet.hosts[H1].outsider.ensure_power_state(fleet.instance().id, power)
    leave(fleet, vm_state=vm_state, task_state=task_state)

    assert recovery(fleet).run().healed == 1

    found = fleet.instance()
    assert (found.vm_state, found.task_state) == (becomes, None)
    assert (found.fault is not None) == (vm_state is VmState.BUILDING)
    last = fleet.events.read_after("0", wait_s=0.01)[-1]
    assert (last.flow, last.phase, last.outcome) == ("host.recover", "healed", (task_state or vm_state).value)
    assert recovery(fleet).run().healed == 0


def test_a_guest_whose_operation_is_under_way_is_left_to_it(fleet: Fleet) -> None:
    fleet.begin_build()
    before = fleet.instance()

    assert recovery(fleet).run().healed == 0
    assert fleet.instance() == before

    fleet.client.delete(KEYS.lease(before.id))  # damaged as well: the operation still says that it is under way
    assert recovery(fleet).run().healed == 0


def test_a_delete_that_failed_stays_to_be_asked_again(fleet: Fleet) -> None:
    fleet.build()
    left = leave(fleet, task_state=TaskState.DELETING)

    assert recovery(fleet).run().healed == 0

    assert fleet.instance() == left
    assert fleet.ask("instance.delete", "again", instance="web").phase is Phase.SUCCEEDED


def test_a_build_that_was_lost_can_be_deleted(fleet: Fleet) -> None:
    fleet.build()
    leave(fleet, vm_state=VmState.BUILDING, task_state=TaskState.NETWORKING, launched_at=None)

    recovery(fleet).run()

    fault = fleet.instance().fault
    assert fault is not None
    assert "the store has lost the operation" in fault.message
    assert fleet.ask("instance.delete", "away", instance="web").phase is Phase.SUCCEEDED


def test_a_hypervisor_that_is_silent_heals_nobody(fleet: Fleet) -> None:
    class Silent:
        def list_domains(self) -> None:
            raise CannotAsk("libvirtd is away")

    fleet.build()
    left = leave(fleet, task_state=TaskState.RESCUING)
    recovery(fleet).ensure_resumed()

    with pytest.raises(CannotAsk):
        replace(recovery(fleet), hypervisor=Silent()).run()  # type: ignore[arg-type]
    assert fleet.instance() == left
    with pytest.raises(CannotAsk):
        replace(recovery(fleet, "boot-2"), hypervisor=Silent()).ensure_resumed()  # type: ignore[arg-type]
    assert fleet.store.identities.read_recovered_boot(H1) == "boot-1"


def test_guests_that_ran_are_started_after_a_boot_of_their_host(fleet: Fleet) -> None:
    for name in ("web", "db", "off"):
        fleet.build(name)
    fleet.ask("instance.stop", "stop", instance="off", timeout_s=0)
    recovery(fleet).run()
    power_off(fleet, "web", "db")

    assert recovery(fleet, "boot-2").run().resumed == 2
    fleet.hosts[H1].report.sync_power_states()
    fleet.post.deliver_all()

    assert [is_running(fleet, name) for name in ("web", "db", "off")] == [True, True, False]
    assert [fleet.instance(name).vm_state for name in ("web", "off")] == [VmState.ACTIVE, VmState.STOPPED]
    operation = fleet.read(resumption_id_for("boot-2", fleet.instance().id))
    assert (operation.flow, operation.request["type"], operation.phase) == ("instance.reboot", "hard", Phase.SUCCEEDED)


def test_a_volume_is_connected_again_before_its_guest_is_started(fleet: Fleet) -> None:
    fleet.build(volumes=["nfs://filer/export/web.raw"])
    recovery(fleet).run()
    power_off(fleet, "web")
    volumes = fleet.hosts[H1].ports.volumes
    for volume in fleet.instance().volumes:
        volumes.ensure_disconnected(volume.source, fleet.instance().id)
    assert volumes.list_connected() == ()

    recovery(fleet, "boot-2").run()
    fleet.post.deliver_all()

    assert is_running(fleet)
    assert len(volumes.list_connected()) == 1


def test_once_a_boot_is_once(fleet: Fleet) -> None:
    """A guest that its owner shuts down later is not started by the next start of the worker."""
    fleet.build()
    recovery(fleet).run()
    power_off(fleet, "web")

    assert recovery(fleet).run().resumed == 0
    assert not is_running(fleet)


def test_the_first_boot_that_is_seen_is_only_noted(fleet: Fleet) -> None:
    fleet.build()
    power_off(fleet, "web")

    assert recovery(fleet).run().resumed == 0
    assert fleet.store.identities.read_recovered_boot(H1) == "boot-1"


def test_where_it_is_not_wished_guests_are_stopped_and_stay_so(fleet: Fleet) -> None:
    fleet.build()
    recovery(fleet).run()
    power_off(fleet, "web")

    assert recovery(fleet, "boot-2", replace(WISHED, wished=False)).run().resumed == 0
    fleet.hosts[H1].report.sync_power_states()
    assert recovery(fleet, "boot-2").run().resumed == 0  # switched on since: that boot is over

    assert fleet.instance().vm_state is VmState.STOPPED


def test_who_is_in_somebody_elses_hands_is_left_there(fleet: Fleet) -> None:
    fleet.build()
    recovery(fleet).run()
    fleet.begin("instance.stop", "stopping", instance="web")
    power_off(fleet, "web")

    assert recovery(fleet, "boot-2").run().resumed == 0
    fleet.post.deliver_all()

    assert fleet.instance().vm_state is VmState.STOPPED


def test_a_guest_that_is_deleted_while_it_is_asked_for_is_passed_over(fleet: Fleet) -> None:
    class Shut:
        def change(self, *_: object) -> None:
            raise Conflicting("held")

    fleet.build()
    recovery(fleet).run()
    power_off(fleet, "web")

    assert replace(recovery(fleet, "boot-2"), door=Shut()).run().resumed == 0  # type: ignore[arg-type]


def test_guests_are_started_one_after_the_other(fleet: Fleet) -> None:
    names = [f"vm{number}" for number in range(5)]
    for name in names:
        fleet.build(name)
    recovery(fleet).run()
    power_off(fleet, *names)
    began_at = fleet.clock.now()

    recovery(fleet, "boot-2").run()

    turns = [fleet.read(resumption_id_for("boot-2", fleet.instance(name).id)).not_before for name in names]
    waits = sorted(0.0 if turn is None else round(turn - began_at, 3) for turn in turns)
    assert waits == [0.0, 0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6, 8, 9, 13, 14])
def test_a_death_in_the_midst_of_it_costs_no_guest_and_starts_none_twice(fleet: Fleet, at: int) -> None:
    names = ["vm0", "vm1", "vm2"]
    for name in names:
        fleet.build(name)
    recovery(fleet).run()
    power_off(fleet, *names)
    calls = [0]

    class Dying:
        """Dies at its n-th call, before it or after it."""

        def __init__(self, port: object) -> None:
            self._port = port

        def __getattr__(self, verb: str) -> object:
            call = getattr(self._port, verb)

            def called(*args: object, **named: object) -> object:
                calls[0] += 1
                if calls[0] == at:
                    raise WorkerDied
                answer = call(*args, **named)
                calls[0] += 1
                if calls[0] == at:
                    raise WorkerDied
                return answer

            return called

    mortal = replace(
        recovery(fleet, "boot-2"),
        door=Dying(fleet.door),  # type: ignore[arg-type]
        launch=Dying(fleet.post).launch,  # type: ignore[arg-type]
        hypervisor=Dying(fleet.hosts[H1].ports.hypervisor),  # type: ignore[arg-type]
    )
    try:
        mortal.ensure_resumed()
    except WorkerDied:
        fleet.post.chains.clear()  # its messages died with it
    recovery(fleet, "boot-2").ensure_resumed()
    fleet.hosts[H1].report.sync_power_states()
    fleet.clock.sleep(60)
    fleet.sweep.run()
    fleet.post.deliver_all()

    assert [is_running(fleet, name) for name in names] == [True] * 3
    assert fleet.store.identities.read_recovered_boot(H1) == "boot-2"
    everything = read_everything(fleet.client)
    assert recovery(fleet, "boot-2").ensure_resumed() == 0
    assert read_everything(fleet.client) == everything
