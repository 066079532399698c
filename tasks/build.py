"""instance.build: prepare_disk → fetch_image → render_xml → plug_vif → define_and_start."""

from dataclasses import dataclass, replace

import msgspec

from tasks.guest_metadata import ensure_guest_told
from tasks.guest_plans import (
    PREPARE_DISK,
    decided_backend,
    disk_backend_of,
    layout_of,
    placed_volumes,
    seed_of,
    vifs_of,
    xml_of,
)
from tasks.plugging import plug
from tasks.volumes import connect_volumes_of, disconnect_volumes_of
from taskvisor.flow.step import Flow, NoFacts, Settlement, Step, StepContext
from taskvisor.model.disk_backend import DiskBackend
from taskvisor.model.observed import DomainFacts
from taskvisor.model.operation import Operation
from taskvisor.model.plan import CachedImage, DiskLayout, DiskRole
from taskvisor.model.records import Instance
from taskvisor.model.states import InstanceAction, OnFailure, PowerState, TaskState, VirtType, VmState
from taskvisor.model.view import instance_view
from virt.policy import machine_for


@dataclass(frozen=True, kw_only=True)
class PreparedDisk:
    """`disk_backend` None: prepared by a version that knew qcow2 files only."""

    layout: DiskLayout
    disk_backend: DiskBackend | None = None


class PrepareDisk(Step[PreparedDisk]):
    """The disk layout is decided, the instance's directory bears its owner's name, and what needs no image is in it.

    Swap, ephemeral and target disks are made before the image is fetched: a host that can't make them says so early. So does one
    that can't be connected to the guest's volumes.
    """

    name = PREPARE_DISK
    facts_type = PreparedDisk
    time_limit_s = 600
    task_state = TaskState.BLOCK_DEVICE_MAPPING

    def do(self, ctx: StepContext) -> PreparedDisk:
        layout = layout_of(ctx)
        ctx.ports.disks.ensure_directory(layout, ctx.instance.id)
        for disk in layout.disks:
            if disk.content is not None:
                ctx.ports.disks.ensure_data_disk(disk)
        connect_volumes_of(ctx)
        return PreparedDisk(layout=layout, disk_backend=disk_backend_of(ctx))

    def undo(self, ctx: StepContext) -> None:
        disconnect_volumes_of(ctx)
        ctx.ports.disks.ensure_removed(ctx.instance.id)


@dataclass(frozen=True, kw_only=True)
class FetchedImage:
    image: CachedImage


class FetchImage(Step[FetchedImage]):
    """The image is in the host's cache, the root disk is made from it, and the seed is made too.

    There is no undo: the cache is the host's, and the disks go with what prepare_disk made.
    """

    name = "fetch_image"
    facts_type = FetchedImage
    time_limit_s = 3600
    tries = 5
    wait_limit_s = 3600

    def do(self, ctx: StepContext) -> FetchedImage:
        layout = ctx.facts_of(PrepareDisk).layout
        image = ctx.ports.images.ensure_cached(ctx.instance.image, ctx.progress)
        ctx.ports.disks.ensure_root(layout.disk(DiskRole.ROOT), image, ctx.progress)
        ctx.ports.disks.ensure_seed(layout.seed, seed_of(ctx, ctx.ports.vendor_data.read()))
        return FetchedImage(image=image)


@dataclass(frozen=True, kw_only=True)
class RenderedXml:
    """`machine` None: rendered by a version that did not keep it."""

    xml: str
    virt_type: VirtType
    machine: str | None = None


class RenderXml(Step[RenderedXml]):
    """The guest's definition is decided; nothing is touched."""

    name = "render_xml"
    facts_type = RenderedXml

    def do(self, ctx: StepContext) -> RenderedXml:
        host = ctx.ports.hypervisor.read_facts()
        return RenderedXml(xml=xml_of(ctx), virt_type=host.virt_type, machine=machine_for(ctx.instance, host))


class ReplugVif(Step[NoFacts]):
    """Every NIC's link, filter and DHCP entry are there, and what surrounds each. A guest that exists keeps them whatever
    happens next.

    A NIC lets nothing in until the host was told of its network's surroundings, which is last: interrupted, it fails closed.
    """

    name = "plug_vif"
    tries = 5

    def do(self, ctx: StepContext) -> NoFacts:
        vifs = vifs_of(ctx)
        plug(ctx.ports, vifs)
        ensure_guest_told(ctx, vifs)
        return NoFacts()


class PlugVif(ReplugVif):
    """Every NIC's link, filter and DHCP entry are there, and what surrounds each; for a guest that does not come to be, they go
    again.
    """

    task_state = TaskState.NETWORKING

    def undo(self, ctx: StepContext) -> None:
        for vif in reversed(vifs_of(ctx)):
            ctx.ports.fabric.ensure_unplugged(vif)


@dataclass(frozen=True, kw_only=True)
class StartedGuest:
    domain: DomainFacts


class StartGuest(Step[StartedGuest]):
    """Its volumes are connected, the domain is defined as rendered and libvirt says that it runs. A guest that exists stays."""

    name = "define_and_start"
    facts_type = StartedGuest
    time_limit_s = 120

    def do(self, ctx: StepContext) -> StartedGuest:
        hypervisor = ctx.ports.hypervisor
        connect_volumes_of(ctx)
        hypervisor.ensure_defined(ctx.instance.id, ctx.facts_of(RenderXml).xml)
        return StartedGuest(domain=hypervisor.ensure_running(ctx.instance.id))


class DefineAndStart(StartGuest):
    """The domain is defined as rendered and libvirt says that it runs; if the guest does not come to be, it goes again."""

    task_state = TaskState.SPAWNING

    def undo(self, ctx: StepContext) -> None:
        ctx.ports.hypervisor.ensure_undefined(ctx.instance.id)


def running(operation: Operation, instance: Instance, now: float) -> Instance:
    """The record of a guest that was just started. It keeps the board, and where its disks lie, from its build."""
    rendered = operation.facts[RenderXml.name]
    machine = rendered.get("machine")
    return replace(
        instance,
        vm_state=VmState.ACTIVE,
        task_state=None,
        power_state=PowerState.RUNNING,
        virt_type=VirtType(rendered["virt_type"]),
        machine=instance.machine or (None if machine is None else str(machine)),
        disk_backend=instance.disk_backend or decided_backend(operation),
        launched_at=instance.launched_at or now,
        fault=None,
    )


class BuildFlow(Flow):
    """A guest comes to be, or nothing of it is left, unless it was asked to keep what it had done."""

    name = "instance.build"
    prefix = "build"
    action = InstanceAction.CREATE
    steps = (PrepareDisk(), FetchImage(), RenderXml(), PlugVif(), DefineAndStart())
    reschedules = True

    def succeeded(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        layout = msgspec.convert(operation.facts[PrepareDisk.name], PreparedDisk).layout
        built = replace(running(operation, instance, now), volumes=placed_volumes(instance.volumes, layout))
        return Settlement(instance=built, result=dict(instance_view(built)))

    def keeps(self, operation: Operation) -> bool:
        return operation.request.get("on_failure") == OnFailure.KEEP

    def regained(self, instance: Instance) -> Instance:
        return replace(instance, vm_state=VmState.BUILDING, fault=None)

    def failed(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        del operation, instance, now
        return Settlement(forget_instance=True)
