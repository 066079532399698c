"""What a start makes of a record and a domain, for every state that there is."""

from dataclasses import replace
from itertools import product

import pytest

from taskvisor.compute.recovery import at_rest, wants_resuming, was_left
from taskvisor.model.observed import DomainFacts
from taskvisor.model.states import PowerState, TaskState, VmState
from tests.support.records import instance

WEB = instance()


def domain(power: PowerState, *, owned: bool = True) -> DomainFacts:
    return DomainFacts(instance_id=WEB.id, name="web", power_state=power, boot_id=None, owned=owned)


SEEN = [None, *(domain(power) for power in PowerState)]


@pytest.mark.parametrize("task_state", TaskState)
def test_every_state_comes_to_rest_once_and_for_all(task_state: TaskState) -> None:
    for vm_state, seen in product(VmState, SEEN):
        left = replace(WEB, vm_state=vm_state, task_state=task_state)
        rested = at_rest(left, seen, now=9.0)
        assert not was_left(rested), (vm_state, seen)
        assert was_left(left) == (task_state is not TaskState.DELETING)
        assert (rested.host, rested.ports, rested.volumes) == (left.host, left.ports, left.volumes)
        if vm_state in (VmState.ERROR, VmState.RESCUED, VmState.RESIZED, VmState.SHELVED, VmState.SOFT_DELETED):
            assert rested.vm_state is vm_state, seen


def test_who_is_at_rest_was_not_left() -> None:
    assert [state for state in VmState if was_left(replace(WEB, vm_state=state))] == [VmState.BUILDING]


def test_a_lost_build_says_what_to_do() -> None:
    rested = at_rest(replace(WEB, vm_state=VmState.BUILDING, task_state=TaskState.SPAWNING), SEEN[1], now=9.0)
    assert (rested.vm_state, rested.task_state) == (VmState.ERROR, None)
    assert rested.fault is not None
    assert (rested.fault.code, rested.fault.step, rested.fault.at) == ("OperationLost", "spawning", 9.0)
    assert "delete it, and build it anew" in rested.fault.message


def test_a_domain_that_is_not_there_makes_no_guest_stopped() -> None:
    rested = at_rest(replace(WEB, task_state=TaskState.REBOOT_STARTED), None, now=9.0)
    assert (rested.vm_state, rested.power_state) == (VmState.ACTIVE, PowerState.NOSTATE)


@pytest.mark.parametrize(
    ("changed", "seen", "wanted"),
    [
        ({}, domain(PowerState.SHUTDOWN), True),
        ({}, domain(PowerState.CRASHED), True),
        ({}, domain(PowerState.RUNNING), False),
        ({}, domain(PowerState.PAUSED), False),
        ({}, None, False),
        ({}, domain(PowerState.SHUTDOWN, owned=False), False),
        ({"vm_state": VmState.STOPPED}, domain(PowerState.SHUTDOWN), False),
        ({"power_state": PowerState.SHUTDOWN}, domain(PowerState.SHUTDOWN), False),
        ({"power_state": PowerState.PAUSED}, domain(PowerState.SHUTDOWN), False),
        ({"task_state": TaskState.POWERING_OFF}, domain(PowerState.SHUTDOWN), False),
        ({"vm_state": VmState.ERROR}, domain(PowerState.SHUTDOWN), False),
    ],
)
def test_who_is_started_after_a_boot_of_the_host(
    changed: dict[str, object], seen: DomainFacts | None, wanted: bool
) -> None:
    assert wants_resuming(replace(WEB, **changed), seen) is wanted  # type: ignore[arg-type]
