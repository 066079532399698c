"""instance.attach_volume: connect_volume → attach_disk. instance.detach_volume: detach_disk → disconnect_volume.

A volume is in the instance's record, and held for it, from when its attachment is let in until it is detached, or the
instance is gone: whatever takes over in between finds it there.
"""

from dataclasses import dataclass, replace

from tasks.guest_plans import attached_disk_of, device_of, xml_of
from tasks.volume_requests import volume_asked, volume_named
from taskvisor.flow.step import Flow, NoFacts, Settlement, Step, StepContext, fault_of
from taskvisor.model.errors import Busy, Refused
from taskvisor.model.operation import Operation
from taskvisor.model.records import Instance
from taskvisor.model.states import InstanceAction
from taskvisor.model.view import instance_view
from taskvisor.model.volume import VolumeAttachment, volume_identity_for, volumes_with_device, volumes_without


@dataclass(frozen=True, kw_only=True)
class ChosenDevice:
    """The name that the guest's definition gives the volume. It keeps it."""

    device: str


class ConnectVolume(Step[NoFacts]):
    """The host is connected to the volume for this instance."""

    name = "connect_volume"
    time_limit_s = 600
    tries = 5

    def do(self, ctx: StepContext) -> NoFacts:
        ctx.ports.volumes.ensure_connected(_asked(ctx), ctx.instance.id)
        return NoFacts()

    def undo(self, ctx: StepContext) -> None:
        ctx.ports.volumes.ensure_disconnected(_asked(ctx).source, ctx.instance.id)


class AttachDisk(Step[ChosenDevice]):
    """The guest has the volume: in its definition, and plugged in when it runs."""

    name = "attach_disk"
    facts_type = ChosenDevice
    wait_limit_s = 600

    def do(self, ctx: StepContext) -> ChosenDevice:
        volume = _asked(ctx)
        disk = attached_disk_of(ctx, volume)
        ctx.ports.hypervisor.ensure_disk_attached(ctx.instance.id, disk)
        _define(ctx, volumes_with_device(ctx.instance.volumes, volume.source, disk.device))
        return ChosenDevice(device=disk.device)

    def undo(self, ctx: StepContext) -> None:
        volume = _asked(ctx)
        try:
            device = device_of(ctx, volume)
        except Refused:
            return  # there is no place for it, so it never had one
        ctx.ports.hypervisor.ensure_disk_detached(ctx.instance.id, device, volume.serial)
        _define(ctx, volumes_without(ctx.instance.volumes, volume.source))


class DetachDisk(Step[NoFacts]):
    """The guest has let go of the volume, which is in its definition no more.

    Waits in slices, so that a process is never held for long: Busy between them, and the guest is asked again in each.
    """

    name = "detach_disk"
    wait_limit_s = 2 * 3600

    def do(self, ctx: StepContext) -> NoFacts:
        volume = _named(ctx)
        device, limit_s = device_of(ctx, volume), ctx.ports.limits.detach_timeout_s
        try:
            ctx.ports.hypervisor.ensure_disk_detached(ctx.instance.id, device, volume.serial)
        except Busy as busy:
            if ctx.waited_s < limit_s:
                raise
            raise Refused(
                f"guest {ctx.instance.name} has not let go of {device} ({volume.source}) in {limit_s} s, so it stays attached:"
                " unmount it in the guest, which must be running and handle hot unplug; or stop the guest, then detach"
            ) from busy
        _define(ctx, volumes_without(ctx.instance.volumes, volume.source))
        return NoFacts()

    def undo(self, ctx: StepContext) -> None:
        if ctx.ports.hypervisor.read_domain(ctx.instance.id) is not None:
            ctx.ports.hypervisor.ensure_disk_attached(ctx.instance.id, attached_disk_of(ctx, _named(ctx)))
            _define(ctx, ctx.instance.volumes)


class DisconnectVolume(Step[NoFacts]):
    """The host is not connected to the volume for this instance any more."""

    name = "disconnect_volume"
    time_limit_s = 600
    tries = 5

    def do(self, ctx: StepContext) -> NoFacts:
        ctx.ports.volumes.ensure_disconnected(_named(ctx).source, ctx.instance.id)
        return NoFacts()

    def undo(self, ctx: StepContext) -> None:
        ctx.ports.volumes.ensure_connected(_named(ctx), ctx.instance.id)


class AttachVolumeFlow(Flow):
    """A volume is an instance's. Whoever takes over from it finds the volume in the record."""

    name = "instance.attach_volume"
    prefix = "attach_volume"
    action = InstanceAction.ATTACH_VOLUME
    steps = (ConnectVolume(), AttachDisk())

    def succeeded(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        del now
        asked, device = volume_asked(operation.request), str(operation.facts[AttachDisk.name]["device"])
        volumes = volumes_with_device(instance.volumes, asked.source, device)
        rested = replace(instance, task_state=None, fault=None, volumes=volumes)
        return Settlement(instance=rested, result=dict(instance_view(rested)))

    def failed(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        return _without(volume_asked(operation.request), replace(instance, fault=fault_of(operation, now)))


class DetachVolumeFlow(Flow):
    """A volume is an instance's no more, and whole. A guest that does not let go of it keeps it."""

    name = "instance.detach_volume"
    prefix = "detach_volume"
    action = InstanceAction.DETACH_VOLUME
    steps = (DetachDisk(), DisconnectVolume())

    def succeeded(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        del now
        volume = volume_named(instance, str(operation.request["volume"]))
        settled = _without(volume, replace(instance, fault=None))
        assert settled.instance is not None  # noqa: S101 - for the type checker
        return replace(settled, result=dict(instance_view(settled.instance)))

    def failed(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        return Settlement(instance=replace(instance, task_state=None, fault=fault_of(operation, now)))


def connect_volumes_of(ctx: StepContext) -> None:
    """The host is connected to all that the instance has. It may have been restarted since the guest last ran."""
    for volume in ctx.instance.volumes:
        ctx.ports.volumes.ensure_connected(volume, ctx.instance.id)


def disconnect_volumes_of(ctx: StepContext) -> None:
    """The host is connected to nothing for the instance any more, whether or not the record knows of it."""
    volumes, guest = ctx.ports.volumes, ctx.instance.id
    found = (one.source for one in volumes.list_connected() if one.instance_id == guest)
    for source in dict.fromkeys([*found, *(volume.source for volume in ctx.instance.volumes)]):
        volumes.ensure_disconnected(source, guest)


def _define(ctx: StepContext, volumes: tuple[VolumeAttachment, ...]) -> None:
    """The domain's definition, and our copy of the record in it, have these volumes; a guest that runs is not touched."""
    guest = replace(ctx, instance=replace(ctx.instance, volumes=volumes))
    if ctx.ports.hypervisor.read_domain(ctx.instance.id) is not None:
        ctx.ports.hypervisor.ensure_defined(ctx.instance.id, xml_of(guest))


def _without(volume: VolumeAttachment, instance: Instance) -> Settlement:
    """The instance has that volume no more, and holds it no more."""
    left = volumes_without(instance.volumes, volume.source)
    identity = volume_identity_for(volume.source, instance.host)
    return Settlement(instance=replace(instance, task_state=None, volumes=left), released_volumes=(identity,))


def _asked(ctx: StepContext) -> VolumeAttachment:
    return volume_asked(ctx.operation.request)


def _named(ctx: StepContext) -> VolumeAttachment:
    return volume_named(ctx.instance, str(ctx.operation.request["volume"]))
