"""instance.attach_interface: plug_vif → attach_nic. instance.detach_interface: detach_nic → unplug_vif.

A NIC's port is in the instance's record, with its addresses, from when its attachment is let in until it is detached, or the
instance is gone: whatever takes over in between finds it there.
"""

from dataclasses import replace

from tasks.guest_plans import attached_nic_of, vif_of, xml_of
from tasks.interface_requests import interface_asked, interface_named
from tasks.plugging import plug
from taskvisor.flow.step import Flow, NoFacts, Settlement, Step, StepContext, fault_of
from taskvisor.model.errors import Busy, Refused
from taskvisor.model.ids import PortId, attached_port_id_for
from taskvisor.model.network import Port
from taskvisor.model.operation import Operation
from taskvisor.model.records import Instance
from taskvisor.model.states import InstanceAction
from taskvisor.model.view import instance_view


class PlugNic(Step[NoFacts]):
    """The NIC's link, filter and DHCP entry are there, and what surrounds it."""

    name = "plug_vif"
    tries = 5

    def do(self, ctx: StepContext) -> NoFacts:
        plug(ctx.ports, (vif_of(ctx, _asked(ctx)),))
        return NoFacts()

    def undo(self, ctx: StepContext) -> None:
        ctx.ports.fabric.ensure_unplugged(vif_of(ctx, _asked(ctx)))


class AttachNic(Step[NoFacts]):
    """The guest has the NIC: in its definition, and plugged in when it runs."""

    name = "attach_nic"
    wait_limit_s = 600

    def do(self, ctx: StepContext) -> NoFacts:
        ctx.ports.hypervisor.ensure_nic_attached(ctx.instance.id, attached_nic_of(ctx, _asked(ctx)))
        _define(ctx, ctx.instance)
        return NoFacts()

    def undo(self, ctx: StepContext) -> None:
        port = _asked(ctx)
        ctx.ports.hypervisor.ensure_nic_detached(ctx.instance.id, port.mac)
        _define(ctx, _without(ctx.instance, port.id))


class DetachNic(Step[NoFacts]):
    """The guest has let go of the NIC, which is in its definition no more.

    Waits in slices, so that a process is never held for long: Busy between them, and the guest is asked again in each.
    """

    name = "detach_nic"
    wait_limit_s = 2 * 3600

    def do(self, ctx: StepContext) -> NoFacts:
        port, limit_s = _named(ctx), ctx.ports.limits.detach_timeout_s
        try:
            ctx.ports.hypervisor.ensure_nic_detached(ctx.instance.id, port.mac)
        except Busy as busy:
            if ctx.waited_s < limit_s:
                raise
            raise Refused(
                f"guest {ctx.instance.name} has not let go of NIC {port.index} ({port.mac}) in {limit_s} s, so it stays attached:"
                " the guest must be running and handle hot unplug; or stop the guest, then detach"
            ) from busy
        _define(ctx, _without(ctx.instance, port.id))
        return NoFacts()

    def undo(self, ctx: StepContext) -> None:
        if ctx.ports.hypervisor.read_domain(ctx.instance.id) is not None:
            ctx.ports.hypervisor.ensure_nic_attached(ctx.instance.id, attached_nic_of(ctx, _named(ctx)))
            _define(ctx, ctx.instance)


class UnplugNic(Step[NoFacts]):
    """The NIC's link, filter and DHCP entry are gone."""

    name = "unplug_vif"
    tries = 5

    def do(self, ctx: StepContext) -> NoFacts:
        ctx.ports.fabric.ensure_unplugged(vif_of(ctx, _named(ctx)))
        return NoFacts()

    def undo(self, ctx: StepContext) -> None:
        plug(ctx.ports, (vif_of(ctx, _named(ctx)),))


class AttachInterfaceFlow(Flow):
    """A NIC is an instance's. Whoever takes over from it finds its port in the record."""

    name = "instance.attach_interface"
    prefix = "attach_interface"
    action = InstanceAction.ATTACH_INTERFACE
    steps = (PlugNic(), AttachNic())

    def succeeded(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        del operation, now
        rested = replace(instance, task_state=None, fault=None)
        return Settlement(instance=rested, result=dict(instance_view(rested)))

    def failed(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        rested = replace(instance, task_state=None, fault=fault_of(operation, now))
        return _without_port(rested, attached_port_id_for(operation.id))


class DetachInterfaceFlow(Flow):
    """A NIC is an instance's no more, and its addresses are free. A guest that does not let go of it keeps it."""

    name = "instance.detach_interface"
    prefix = "detach_interface"
    action = InstanceAction.DETACH_INTERFACE
    steps = (DetachNic(), UnplugNic())

    def succeeded(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        del now
        port = interface_named(instance, str(operation.request["interface"]))
        settled = _without_port(replace(instance, task_state=None, fault=None), port.id)
        assert settled.instance is not None  # noqa: S101 - for the type checker
        return replace(settled, result=dict(instance_view(settled.instance)))

    def failed(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        return Settlement(instance=replace(instance, task_state=None, fault=fault_of(operation, now)))


def _define(ctx: StepContext, instance: Instance) -> None:
    """The domain's definition, and our copy of the record in it, are as of `instance`; a guest that runs is not touched."""
    if ctx.ports.hypervisor.read_domain(instance.id) is not None:
        ctx.ports.hypervisor.ensure_defined(instance.id, xml_of(replace(ctx, instance=instance)))


def _without_port(instance: Instance, port_id: PortId) -> Settlement:
    """The instance has that port no more, and its addresses are given back."""
    gone = tuple(port for port in instance.ports if port.id == port_id)
    return Settlement(instance=_without(instance, port_id), released_ports=gone)


def _without(instance: Instance, port_id: PortId) -> Instance:
    return replace(instance, ports=tuple(port for port in instance.ports if port.id != port_id))


def _asked(ctx: StepContext) -> Port:
    return interface_asked(ctx.instance, ctx.operation)


def _named(ctx: StepContext) -> Port:
    return interface_named(ctx.instance, str(ctx.operation.request["interface"]))
