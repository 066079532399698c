"""What a start makes of a guest, given its record and its domain: Nova's `_init_instance`, as functions.

An operation that was under way is sent on from its journal, and none of this is about it. It is about records at rest, and
about those that say something is being done while nothing is: no write of ours leaves such a one, so the store was damaged.

Invariant: nothing is stopped or destroyed because of it.
"""

from dataclasses import replace

from taskvisor.compute.power_sync import synced
from taskvisor.model.ids import OperationId
from taskvisor.model.observed import DomainFacts
from taskvisor.model.records import Fault, Instance
from taskvisor.model.states import PowerState, TaskState, VmState

NOBODY = OperationId("")
"""The operation of a fault whose operation is lost."""
FOLLOWS_POWER = frozenset({VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.SUSPENDED})
"""What an instance at rest is by its power alone. Other states mean more: rescued, resized, shelved, in error."""


def was_left(instance: Instance) -> bool:
    """The record says that something is being done. Of an instance that no operation holds, that is not so.

    A delete that failed leaves its word on purpose: what it took away is gone, and only another delete is let in.
    """
    if instance.task_state is TaskState.DELETING:
        return False
    return instance.task_state is not None or instance.vm_state is VmState.BUILDING


def at_rest(instance: Instance, domain: DomainFacts | None, now: float) -> Instance:
    """The record of an instance whose operation is lost, as it is to be: at rest, and what its hypervisor says that it is.

    A build can't have come to its end, so its instance is in ERROR, to be deleted or looked at.
    """
    if instance.vm_state is VmState.BUILDING:
        return replace(instance, vm_state=VmState.ERROR, task_state=None, fault=_lost_build(instance, now))
    resting = replace(instance, task_state=None)
    if instance.vm_state in FOLLOWS_POWER and domain is not None and domain.power_state is PowerState.PAUSED:
        resting = replace(resting, vm_state=VmState.PAUSED)
    elif instance.vm_state in FOLLOWS_POWER and domain is not None and domain.power_state is PowerState.RUNNING:
        resting = replace(resting, vm_state=VmState.ACTIVE)
    following = synced(resting, domain)
    return resting if following is None else following.record


def wants_resuming(instance: Instance, domain: DomainFacts | None) -> bool:
    """The guest ran, by its record, and is off: Nova's condition for `resume_guests_state_on_host_boot`.

    A domain that is not there, or not ours, is never started for it: that is for `taskvisor verify` to tell.
    """
    return (
        instance.task_state is None
        and instance.vm_state is VmState.ACTIVE
        and instance.power_state is PowerState.RUNNING
        and domain is not None
        and domain.owned
        and domain.power_state.is_down
    )


def _lost_build(instance: Instance, now: float) -> Fault:
    return Fault(
        code="OperationLost",
        message=f"instance {instance.name} was being built, and the store has lost the operation; delete it, and build it anew",
        step=instance.task_state.value if instance.task_state else "",
        operation_id=NOBODY,
        at=now,
    )
