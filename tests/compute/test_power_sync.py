"""The record of an instance at rest follows its hypervisor; nothing is done to a guest because of it but what the policy says."""

from dataclasses import replace

import pytest

from taskvisor.compute.power_sync import GONE, MATRIX, Look, Synced, row_for, synced
from taskvisor.model.observed import DomainFacts
from taskvisor.model.records import Instance
from taskvisor.model.states import PowerPolicy, PowerState, TaskState, VmState
from tests.support.records import instance

RUNNING, PAUSED, SHUTDOWN, CRASHED, NOSTATE, ASLEEP = (
    PowerState.RUNNING,
    PowerState.PAUSED,
    PowerState.SHUTDOWN,
    PowerState.CRASHED,
    PowerState.NOSTATE,
    PowerState.SUSPENDED,
)
ACTIVE, STOPPED, ERROR = VmState.ACTIVE, VmState.STOPPED, VmState.ERROR


def domain(power: PowerState | None) -> DomainFacts | None:
    if power is None:
        return None
    return DomainFacts(instance_id=instance().id, name="web", power_state=power, boot_id=1, owned=True)


@pytest.mark.parametrize("power", PowerState)
@pytest.mark.parametrize("vm_state", VmState)
def test_each_state_is_in_exactly_one_row(vm_state: VmState, power: PowerState) -> None:
    assert [vm_state in row.vm_states and power in row.powers for row in MATRIX].count(True) == 1


@pytest.mark.parametrize(
    ("recorded", "seen", "becomes"),
    [
        ((ACTIVE, RUNNING), RUNNING, None),
        ((ACTIVE, RUNNING), SHUTDOWN, (STOPPED, SHUTDOWN)),
        ((ACTIVE, RUNNING), CRASHED, (STOPPED, CRASHED)),
        ((ACTIVE, RUNNING), PAUSED, (ACTIVE, PAUSED)),
        ((ACTIVE, RUNNING), ASLEEP, (ACTIVE, ASLEEP)),
        ((ACTIVE, RUNNING), None, (ACTIVE, NOSTATE)),
        ((ACTIVE, NOSTATE), None, None),
        ((ACTIVE, NOSTATE), RUNNING, (ACTIVE, RUNNING)),
        ((STOPPED, SHUTDOWN), SHUTDOWN, None),
        ((STOPPED, SHUTDOWN), RUNNING, (ACTIVE, RUNNING)),
        ((STOPPED, SHUTDOWN), ASLEEP, (ACTIVE, ASLEEP)),
        ((STOPPED, SHUTDOWN), None, (STOPPED, NOSTATE)),
        ((STOPPED, SHUTDOWN), PAUSED, (STOPPED, PAUSED)),
        ((ERROR, RUNNING), SHUTDOWN, (ERROR, SHUTDOWN)),
        ((VmState.PAUSED, PAUSED), RUNNING, (ACTIVE, RUNNING)),
        ((VmState.PAUSED, PAUSED), SHUTDOWN, (STOPPED, SHUTDOWN)),
        ((VmState.SUSPENDED, SHUTDOWN), RUNNING, (ACTIVE, RUNNING)),
        ((VmState.SUSPENDED, SHUTDOWN), CRASHED, (VmState.SUSPENDED, CRASHED)),
        ((VmState.SOFT_DELETED, SHUTDOWN), None, (VmState.SOFT_DELETED, NOSTATE)),
        ((VmState.BUILDING, NOSTATE), RUNNING, (VmState.BUILDING, RUNNING)),
    ],
)
def test_what_is_recorded_and_what_is_seen_make_what_is_recorded_next(
    recorded: tuple[VmState, PowerState],
    seen: PowerState | None,
    becomes: tuple[VmState, PowerState] | None,
) -> None:
    guest = instance(vm_state=recorded[0], power_state=recorded[1])

    wanted = synced(guest, domain(seen))

    expected = None if becomes is None else replace(guest, vm_state=becomes[0], power_state=becomes[1])
    assert (wanted and wanted.record) == expected
    assert wanted is None or not wanted.stop


@pytest.mark.parametrize("seen", [RUNNING, SHUTDOWN, None])
def test_a_guest_that_something_is_done_to_is_left_alone(seen: PowerState | None) -> None:
    assert synced(instance(task_state=TaskState.POWERING_OFF), domain(seen)) is None


@pytest.mark.parametrize("seen", [RUNNING, ASLEEP])
def test_by_novas_policy_a_guest_that_somebody_started_is_stopped_and_shown_as_it_is_till_then(
    seen: PowerState,
) -> None:
    guest = instance(vm_state=STOPPED, power_state=SHUTDOWN)

    wanted = synced(guest, domain(seen), policy=PowerPolicy.STOP)

    assert wanted == Synced(record=replace(guest, vm_state=ACTIVE, power_state=seen), stop=True)


def test_by_novas_policy_a_guest_that_sleeps_is_stopped_until_it_is_off() -> None:
    asleep = instance(vm_state=ACTIVE, power_state=ASLEEP)

    assert synced(asleep, domain(ASLEEP)) is None
    assert synced(asleep, domain(ASLEEP), policy=PowerPolicy.STOP) == Synced(record=asleep, stop=True)


def test_a_guest_that_is_deleted_softly_and_runs_is_told_of_once() -> None:
    guest = instance(vm_state=VmState.SOFT_DELETED, power_state=SHUTDOWN)

    first = synced(guest, domain(RUNNING))

    assert first == Synced(record=replace(guest, power_state=RUNNING), warn=True)
    assert synced(first.record, domain(RUNNING)) is None


def gone() -> Instance:
    """An active instance whose domain was not there at two looks."""
    guest = instance(power_state=NOSTATE)
    second = synced(guest, None, look=Look.CONFIRMING, now=7.0)
    assert second is not None
    assert second.gone
    return second.record


def test_a_domain_that_is_gone_at_two_periodic_looks_puts_its_instance_into_error_with_advice() -> None:
    found = gone()

    assert (found.vm_state, found.power_state) == (ERROR, NOSTATE)
    assert found.fault is not None
    assert (found.fault.code, found.fault.at) == (GONE, 7.0)
    assert "taskvisor start web" in found.fault.message


def test_one_look_is_not_enough_nor_one_because_of_an_event() -> None:
    guest = instance()
    first = synced(guest, None, look=Look.CONFIRMING)

    assert first == Synced(record=replace(guest, power_state=NOSTATE))
    assert synced(first.record, None, look=Look.FIRST) is None


@pytest.mark.parametrize(
    ("seen", "becomes"), [(RUNNING, ACTIVE), (PAUSED, VmState.PAUSED), (SHUTDOWN, STOPPED), (CRASHED, STOPPED)]
)
def test_a_domain_that_is_back_brings_its_instances_state_back(seen: PowerState, becomes: VmState) -> None:
    found = gone()

    healed = synced(found, domain(seen))

    assert healed == Synced(record=replace(found, vm_state=becomes, power_state=seen, fault=None))
    assert synced(found, None, look=Look.CONFIRMING) is None


def test_an_instance_that_is_in_error_for_another_reason_stays_so() -> None:
    assert row_for(ERROR, RUNNING).becomes is None
    assert synced(instance(vm_state=ERROR, power_state=RUNNING), domain(RUNNING)) is None
