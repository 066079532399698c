"""instance.delete: from any state, also in mid-build; what is not there is success. The order is Nova's: domain, links, disks."""

from dataclasses import replace

from tasks.guest_plans import vifs_of
from tasks.volumes import disconnect_volumes_of
from taskvisor.flow.step import Flow, NoFacts, Settlement, Step, StepContext, fault_of
from taskvisor.model.operation import Operation
from taskvisor.model.records import Instance
from taskvisor.model.states import InstanceAction, TaskState, VmState


class DestroyDomain(Step[NoFacts]):
    """No domain of the instance exists, running or not."""

    name = "destroy_domain"
    task_state = TaskState.DELETING
    time_limit_s = 120
    tries = 5

    def do(self, ctx: StepContext) -> NoFacts:
        ctx.ports.hypervisor.ensure_undefined(ctx.instance.id)
        return NoFacts()


class UnplugVif(Step[NoFacts]):
    """Its links, filters and DHCP entries are gone."""

    name = "unplug_vif"
    tries = 5

    def do(self, ctx: StepContext) -> NoFacts:
        for vif in reversed(vifs_of(ctx)):
            ctx.ports.fabric.ensure_unplugged(vif)
        return NoFacts()


class RemoveDisks(Step[NoFacts]):
    """Its volumes are disconnected, whole, and nothing of it is left on disk. Last, for that can't be made again."""

    name = "remove_disks"
    time_limit_s = 300
    tries = 5

    def do(self, ctx: StepContext) -> NoFacts:
        disconnect_volumes_of(ctx)
        ctx.ports.disks.ensure_removed(ctx.instance.id)
        return NoFacts()


class DeleteFlow(Flow):
    """A guest and all that was held for it are gone. What a delete that failed has left is good for nothing but another."""

    name = "instance.delete"
    prefix = "delete"
    action = InstanceAction.DELETE
    steps = (DestroyDomain(), UnplugVif(), RemoveDisks())
    preempts = True

    def succeeded(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        del operation, now
        result = {"id": instance.id, "name": instance.name, "vm_state": VmState.DELETED.value, "already": False}
        return Settlement(forget_instance=True, result=result)

    def failed(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        failed = replace(
            instance, vm_state=VmState.ERROR, task_state=TaskState.DELETING, fault=fault_of(operation, now)
        )
        return Settlement(instance=failed)
