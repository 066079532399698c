"""The table of what may be asked when, and what is said when it may not."""

from dataclasses import replace
from itertools import product

import pytest

from tasks.flows import FLOWS
from taskvisor.model.allowed import ALLOWED, operations_towards, refusal_for
from taskvisor.model.records import Instance
from taskvisor.model.states import InstanceAction, TaskState, VmState
from tests.support import records

A, S, E, P, U = VmState.ACTIVE, VmState.STOPPED, VmState.ERROR, VmState.PAUSED, VmState.SUSPENDED
NOVAS = {
    "instance.start": {S},
    "instance.stop": {A, E},
    "instance.reboot": {A, S, P, U, E},
    "instance.snapshot": {A, S, P, U},
    "instance.delete": set(VmState),
}
"""Of nova/compute/api.py, for what there is here."""


def guest(vm_state: VmState, task_state: TaskState | None = None) -> Instance:
    return records.instance(vm_state=vm_state, task_state=task_state, launched_at=1.0)


def test_every_operation_but_a_build_has_its_row() -> None:
    assert set(ALLOWED) == {name for name, flow in FLOWS.items() if flow.action is not InstanceAction.CREATE}


@pytest.mark.parametrize("operation", NOVAS)
def test_what_nova_allows_is_allowed_here(operation: str) -> None:
    assert NOVAS[operation] <= ALLOWED[operation].vm_states


@pytest.mark.parametrize("operation", ALLOWED)
def test_a_state_is_allowed_or_refused_with_what_it_is(operation: str) -> None:
    rule = ALLOWED[operation]
    for vm_state, task_state in product(VmState, (None, *TaskState)):
        said = refusal_for(operation, guest(vm_state, task_state))
        if vm_state in rule.vm_states and task_state in rule.task_states:
            assert said is None
        elif task_state is TaskState.DELETING:
            assert said is not None
            assert "half deleted" in said
        else:
            state = vm_state.value + (f"/{task_state.value}" if task_state else "")
            assert said is not None
            assert said.startswith(f"instance web is {state}"), said
            assert "`taskvisor " in said or said.endswith("it is so already"), said


@pytest.mark.parametrize("operation", ALLOWED)
def test_following_the_advice_leads_to_where_the_operation_is_allowed(operation: str) -> None:
    wanted = ALLOWED[operation].vm_states
    for vm_state in VmState:
        path = operations_towards(wanted, vm_state)
        if path is None:
            continue
        state = vm_state
        for step in path:
            assert state in ALLOWED[step].vm_states
            leads_to = ALLOWED[step].leads_to
            assert leads_to is not None
            state = leads_to
        assert state in wanted


@pytest.mark.parametrize(
    ("operation", "vm_state", "advice"),
    [
        ("instance.snapshot", E, "`taskvisor start web` makes it active"),
        ("instance.attach_volume", U, "`taskvisor reboot web` makes it active"),
        ("instance.start", P, "`taskvisor reboot web` makes it active"),
        ("instance.stop", P, "`taskvisor reboot web` makes it active"),
        ("instance.start", A, "it is so already"),
        ("instance.restore", S, "`taskvisor start web` makes it active"),
        ("instance.restore", A, "it is so already"),
        ("instance.reclaim", A, "`taskvisor delete --soft web` makes it soft-delete"),
        ("instance.reboot", VmState.SOFT_DELETED, "`taskvisor restore web` makes it active"),
        ("instance.reboot", VmState.RESIZED, "only `taskvisor delete web` may be asked of it"),
    ],
)
def test_the_advice_is_the_shortest_way(operation: str, vm_state: VmState, advice: str) -> None:
    said = refusal_for(operation, guest(vm_state))

    assert said is not None
    assert said.endswith(f"; {advice}")


@pytest.mark.parametrize("operation", sorted(set(ALLOWED) - {"instance.delete"}))
def test_what_has_never_run_can_only_be_deleted(operation: str) -> None:
    kept = replace(guest(VmState.ERROR), launched_at=None)

    said = refusal_for(operation, kept)

    assert said is not None
    assert said.startswith("instance web has never run and is error: its build failed and was kept as it was")
    assert refusal_for("instance.delete", kept) is None


def test_a_task_that_nobody_does_is_no_reason_to_destroy_the_guest() -> None:
    said = refusal_for("instance.stop", guest(VmState.ACTIVE, TaskState.PAUSING))

    assert said is not None
    assert "delete" not in said
    assert "taskvisor verify" in said
