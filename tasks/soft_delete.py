"""instance.soft_delete, instance.restore and instance.reclaim: a delete that can be taken back for a while.

What is deleted softly is off, and keeps all that it has: name, addresses, claim, disks and domain. It runs again when it is
restored. A reclaim is the delete for good of what is deleted softly when it is let in, and of nothing else: unlike a delete it
stops no other operation, so that a restore that came first goes on.
"""

from dataclasses import replace

from tasks.build import RenderXml, ReplugVif, StartGuest, running
from tasks.delete import DestroyDomain, RemoveDisks, UnplugVif
from tasks.power import ShutDownGuest, shut_down
from tasks.seeding import RenewSeed
from taskvisor.flow.step import Flow, Settlement, Step, StepContext, fault_of
from taskvisor.model.errors import Cancelled
from taskvisor.model.operation import Operation
from taskvisor.model.records import Instance
from taskvisor.model.states import InstanceAction, Mark, PowerState, TaskState, VmState
from taskvisor.model.view import instance_view

SOFT_DELETE, RESTORE, RECLAIM = "instance.soft_delete", "instance.restore", "instance.reclaim"


class ShutDownForDelete(Step[ShutDownGuest]):
    """The guest is off: asked to shut down, and switched off after the host's time for that."""

    name = "shut_down"
    facts_type = ShutDownGuest
    task_state = TaskState.SOFT_DELETING
    wait_limit_s = 2 * 3600

    def do(self, ctx: StepContext) -> ShutDownGuest:
        return shut_down(ctx, time_limit_s=ctx.ports.limits.shutdown_timeout_s)


class SoftDeleteFlow(Flow):
    """A guest is off, and its instance is deleted softly: it can be restored until it is reclaimed."""

    name = SOFT_DELETE
    prefix = "soft_delete"
    action = InstanceAction.DELETE
    steps = (ShutDownForDelete(),)

    def succeeded(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        del operation, now
        deleted = replace(
            instance, vm_state=VmState.SOFT_DELETED, task_state=None, power_state=PowerState.SHUTDOWN, fault=None
        )
        return Settlement(instance=deleted, result=dict(instance_view(deleted)))


class PowerOnRestored(StartGuest):
    """The domain is defined as rendered and libvirt says that it runs."""

    task_state = TaskState.RESTORING


class RenderRestored(RenderXml):
    """The guest's definition is decided; nothing is touched."""

    task_state = TaskState.RESTORING


class RestoreFlow(Flow):
    """A guest that was deleted softly runs again, with its definition and its links made from the records."""

    name = RESTORE
    prefix = "restore"
    action = InstanceAction.RESTORE
    steps = (RenderRestored(), RenewSeed(), ReplugVif(), PowerOnRestored())

    def succeeded(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        started = running(operation, instance, now)
        return Settlement(instance=started, result=dict(instance_view(started)))


class DestroyReclaimed(DestroyDomain):
    """No domain of the instance exists, running or not."""

    def task_state_for(self, operation: Operation) -> TaskState | None:
        """DELETING from when it is STARTED: a record that does not say so is of an instance that is whole, and one that says so
        already is of one that a former reclaim has left half deleted.
        """
        return None if _untouched(operation) else self.task_state


class ReclaimFlow(Flow):
    """A guest that is deleted softly, and all that was held for it, are gone. What it has left when it fails is good for nothing
    but a delete.
    """

    name = RECLAIM
    prefix = "reclaim"
    action = InstanceAction.DELETE
    steps = (DestroyReclaimed(), UnplugVif(), RemoveDisks())

    def succeeded(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        del operation, now
        result = {"id": instance.id, "name": instance.name, "vm_state": VmState.DELETED.value, "already": False}
        return Settlement(forget_instance=True, result=result)

    def failed(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        """Cancelled before anything was touched it can still be restored; else it is half deleted, and only that."""
        if _untouched(operation) and operation.failure is not None and operation.failure.code == Cancelled.__name__:
            return Settlement(instance=instance)
        half = replace(instance, task_state=TaskState.DELETING, fault=fault_of(operation, now))
        return Settlement(instance=half)


def _untouched(operation: Operation) -> bool:
    return all(step.do is Mark.PENDING for step in operation.steps)
