"""The record of an instance at rest follows its hypervisor; nothing else follows from it."""

from dataclasses import replace

import pytest

from taskvisor.compute.power_sync import synced
from taskvisor.model.observed import DomainFacts
from taskvisor.model.states import PowerState, TaskState, VmState
from tests.support.records import instance

RUNNING, PAUSED, SHUTDOWN, CRASHED, NOSTATE = (
    PowerState.RUNNING,
    PowerState.PAUSED,
    PowerState.SHUTDOWN,
    PowerState.CRASHED,
    PowerState.NOSTATE,
)
ACTIVE, STOPPED = VmState.ACTIVE, VmState.STOPPED


def domain(power: PowerState | None) -> DomainFacts | None:
    if power is None:
        return None
    return DomainFacts(instance_id=instance().id, name="web", power_state=power, boot_id=1, owned=True)


@pytest.mark.parametrize(
    ("recorded", "seen", "becomes"),
    [
        ((ACTIVE, RUNNING), RUNNING, None),
        ((ACTIVE, RUNNING), SHUTDOWN, (STOPPED, SHUTDOWN)),
        ((ACTIVE, RUNNING), CRASHED, (STOPPED, CRASHED)),
        ((ACTIVE, RUNNING), PAUSED, (ACTIVE, PAUSED)),
        ((ACTIVE, RUNNING), None, (ACTIVE, NOSTATE)),
        ((ACTIVE, NOSTATE), None, None),
        ((ACTIVE, NOSTATE), RUNNING, (ACTIVE, RUNNING)),
        ((STOPPED, SHUTDOWN), SHUTDOWN, None),
        ((STOPPED, SHUTDOWN), RUNNING, (ACTIVE, RUNNING)),
        ((STOPPED, SHUTDOWN), None, (STOPPED, NOSTATE)),
        ((STOPPED, SHUTDOWN), PAUSED, (STOPPED, PAUSED)),
        ((VmState.ERROR, RUNNING), SHUTDOWN, (VmState.ERROR, SHUTDOWN)),
        ((VmState.PAUSED, PAUSED), RUNNING, (VmState.PAUSED, RUNNING)),
    ],
)
def test_what_is_recorded_and_what_is_seen_make_what_is_recorded_next(
    recorded: tuple[VmState, PowerState],
    seen: PowerState | None,
    becomes: tuple[VmState, PowerState] | None,
) -> None:
    guest = instance(vm_state=recorded[0], power_state=recorded[1])

    wanted = synced(guest, domain(seen))

    assert wanted == (None if becomes is None else replace(guest, vm_state=becomes[0], power_state=becomes[1]))


@pytest.mark.parametrize("seen", [RUNNING, SHUTDOWN, None])
def test_a_guest_that_something_is_done_to_is_left_alone(seen: PowerState | None) -> None:
    assert synced(instance(task_state=TaskState.POWERING_OFF), domain(seen)) is None
