"""instance.start, instance.stop and instance.reboot: what changes a guest's power, and nothing else of it."""

from dataclasses import dataclass, replace

from tasks.build import RenderXml, ReplugVif, StartGuest, running
from tasks.seeding import RenewSeed
from taskvisor.flow.step import Flow, Settlement, Step, StepContext, fault_of
from taskvisor.model.errors import Busy
from taskvisor.model.operation import Operation
from taskvisor.model.records import Instance
from taskvisor.model.states import InstanceAction, PowerState, RebootType, TaskState, VmState
from taskvisor.model.view import instance_view

LOOK_S = 2.0
"""A step watches a guest shut down for so long before it lets its process go and comes back."""
LOOK_EVERY_S = 0.1
PRESS_EVERY_S = 10.0
"""The power button is pressed again after so long; Nova's interval. Guests that boot miss the first press."""


@dataclass(frozen=True, kw_only=True)
class ShutDownGuest:
    """`clean`: the guest shut down by itself, in time."""

    clean: bool


def shut_down(ctx: StepContext, *, time_limit_s: float) -> ShutDownGuest:
    """The domain is off: asked to shut down, and switched off when it has not after so long under a worker's eyes.

    Waits in slices, so that a process is never held for long: Busy between them. What counts is the time of the slices: a
    guest is not switched off unasked because nobody was there to ask it.
    """
    hypervisor, clock, guest = ctx.ports.hypervisor, ctx.ports.clock, ctx.instance.id
    deadline = ctx.now + time_limit_s - ctx.waited_s
    until = min(clock.now() + LOOK_S, deadline)
    if _press_is_due(ctx.waited_s) and clock.now() < deadline:
        hypervisor.request_shutdown(guest)
    while clock.now() < until:
        if _is_off(ctx):
            return ShutDownGuest(clean=True)
        clock.sleep(LOOK_EVERY_S)
    if clock.now() < deadline:
        raise Busy(f"guest {ctx.instance.name} is shutting down", delay_s=0.2)
    hypervisor.ensure_off(guest)
    return ShutDownGuest(clean=False)


def _press_is_due(waited_s: float) -> bool:
    """In the first slice, and in the first that begins after each further interval."""
    return waited_s % PRESS_EVERY_S < LOOK_S + 1.0


def _is_off(ctx: StepContext) -> bool:
    domain = ctx.ports.hypervisor.read_domain(ctx.instance.id)
    return domain is None or domain.power_state.is_down


@dataclass(frozen=True, kw_only=True)
class StopRequest:
    timeout_s: int | None = None


class ShutDown(Step[ShutDownGuest]):
    """The guest is off, clean if it would."""

    name = "shut_down"
    facts_type = ShutDownGuest
    task_state = TaskState.POWERING_OFF
    wait_limit_s = 2 * 3600

    def do(self, ctx: StepContext) -> ShutDownGuest:
        asked_s = ctx.request_as(StopRequest).timeout_s
        limit_s = ctx.ports.limits.shutdown_timeout_s if asked_s is None else asked_s
        return shut_down(ctx, time_limit_s=limit_s)


@dataclass(frozen=True, kw_only=True)
class RebootRequest:
    type: RebootType = RebootType.SOFT


class ShutDownForReboot(Step[ShutDownGuest]):
    """The guest is off: asked first when the reboot is soft, at once when it is hard."""

    name = "shut_down"
    facts_type = ShutDownGuest
    wait_limit_s = 2 * 3600

    def task_state_for(self, operation: Operation) -> TaskState:
        return TaskState.REBOOT_PENDING_HARD if _is_hard(operation) else TaskState.REBOOT_PENDING

    def do(self, ctx: StepContext) -> ShutDownGuest:
        hard = ctx.request_as(RebootRequest).type is RebootType.HARD
        return shut_down(ctx, time_limit_s=0 if hard else ctx.ports.limits.soft_reboot_timeout_s)


class StartAfterReboot(StartGuest):
    """The guest is started anew, with its definition made from the records."""

    def task_state_for(self, operation: Operation) -> TaskState:
        return TaskState.REBOOT_STARTED_HARD if _is_hard(operation) else TaskState.REBOOT_STARTED


class PowerOn(StartGuest):
    """The domain is defined as rendered and libvirt says that it runs."""

    task_state = TaskState.POWERING_ON


def _is_hard(operation: Operation) -> bool:
    return operation.request.get("type") == RebootType.HARD


class _PowerFlow(Flow):
    """What the flows of this module share: a guest that could not be brought where it was asked to be is in ERROR."""

    def failed(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        if operation.failure is not None and operation.failure.code == "Cancelled":
            return Settlement(instance=replace(instance, task_state=None))
        failed = replace(instance, vm_state=VmState.ERROR, task_state=None, fault=fault_of(operation, now))
        return Settlement(instance=failed)


class StartFlow(_PowerFlow):
    """A guest that is off runs, with its definition and its links made from the records. Nova's power_on is a hard reboot too."""

    name = "instance.start"
    prefix = "start"
    action = InstanceAction.START
    steps = (RenderXml(), RenewSeed(), ReplugVif(), PowerOn())

    def succeeded(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        started = running(operation, instance, now)
        return Settlement(instance=started, result=dict(instance_view(started)))


class StopFlow(_PowerFlow):
    """A guest is off."""

    name = "instance.stop"
    prefix = "stop"
    action = InstanceAction.STOP
    steps = (ShutDown(),)

    def succeeded(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        del operation, now
        stopped = replace(
            instance, vm_state=VmState.STOPPED, task_state=None, power_state=PowerState.SHUTDOWN, fault=None
        )
        return Settlement(instance=stopped, result=dict(instance_view(stopped)))


class RebootFlow(_PowerFlow):
    """A guest was off and runs again. Soft asks it to shut down; a guest that does not is switched off. Hard does not ask."""

    name = "instance.reboot"
    prefix = "reboot"
    action = InstanceAction.REBOOT
    steps = (ShutDownForReboot(), RenderXml(), RenewSeed(), ReplugVif(), StartAfterReboot())

    def succeeded(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        started = running(operation, instance, now)
        return Settlement(instance=started, result=dict(instance_view(started)))
