"""instance.snapshot: copy_disk → publish_image. Live when the guest runs, cold otherwise; the result is one flattened image."""

from dataclasses import dataclass, replace
from urllib.parse import quote

from tasks.guest_plans import layout_of
from taskvisor.flow.step import Flow, Settlement, Step, StepContext, fault_of
from taskvisor.model.errors import Refused, Retryable
from taskvisor.model.ids import image_id_for
from taskvisor.model.operation import Operation
from taskvisor.model.plan import CachedImage, DiskRole
from taskvisor.model.records import Image, ImageSource, Instance
from taskvisor.model.states import InstanceAction, PowerState, TaskState, VmState
from taskvisor.model.view import image_view, instance_view


@dataclass(frozen=True, kw_only=True)
class CopiedDisk:
    """`live`: copied while the guest ran."""

    live: bool


class CopyDisk(Step[CopiedDisk]):
    """The root disk, as it is at one point in time, lies in a file of its own with nothing under it."""

    name = "copy_disk"
    facts_type = CopiedDisk
    task_state = TaskState.IMAGE_PENDING_UPLOAD
    time_limit_s = 3600

    def do(self, ctx: StepContext) -> CopiedDisk:
        root = layout_of(ctx).disk(DiskRole.ROOT)
        if root.is_cdrom:
            raise Refused(
                f"cannot take a snapshot of {ctx.instance.name}: it was built from an ISO, and the disk that it may have "
                "installed itself on is none that snapshots are made of; copy its files from inside the guest"
            )
        target = ctx.ports.disks.snapshot_path(image_id_for(ctx.operation.id))
        domain = ctx.ports.hypervisor.read_domain(ctx.instance.id)
        live = domain is not None and domain.power_state in (PowerState.RUNNING, PowerState.PAUSED)
        if live:
            ctx.ports.hypervisor.copy_disk(ctx.instance.id, root.device, target, ctx.progress)
        else:
            ctx.ports.disks.flatten(root.path, target, ctx.progress, source_format=root.format)
            self._require_still_off(ctx)
        return CopiedDisk(live=live)

    def undo(self, ctx: StepContext) -> None:
        ctx.ports.hypervisor.ensure_copy_ended(ctx.instance.id, layout_of(ctx).disk(DiskRole.ROOT).device)
        ctx.ports.disks.ensure_unpublished(image_id_for(ctx.operation.id))

    def _require_still_off(self, ctx: StepContext) -> None:
        """Somebody may have started the guest behind our back while its disk was read: such a copy is worth nothing."""
        domain = ctx.ports.hypervisor.read_domain(ctx.instance.id)
        if domain is not None and domain.power_state is PowerState.RUNNING:
            raise Retryable(
                f"guest {ctx.instance.name} was started while its disk was copied; it is copied again, live"
            )


@dataclass(frozen=True, kw_only=True)
class PublishedImage:
    image: CachedImage


class PublishImage(Step[PublishedImage]):
    """The copy is compressed, inspected and in its final place, named by the operation that made it."""

    name = "publish_image"
    facts_type = PublishedImage
    task_state = TaskState.IMAGE_UPLOADING
    time_limit_s = 3600

    def do(self, ctx: StepContext) -> PublishedImage:
        return PublishedImage(image=ctx.ports.disks.publish(image_id_for(ctx.operation.id), ctx.progress))

    def undo(self, ctx: StepContext) -> None:
        ctx.ports.disks.ensure_unpublished(image_id_for(ctx.operation.id))


class SnapshotFlow(Flow):
    """An image is registered under the name asked; the guest is as it was."""

    name = "instance.snapshot"
    prefix = "snapshot"
    action = InstanceAction.SNAPSHOT
    steps = (CopyDisk(), PublishImage())
    vm_states = frozenset({VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.SUSPENDED})
    yields = False  # the copy lies outside the instance's directory, and the image's name is reserved

    def succeeded(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        image = image_made_by(operation, instance, now)
        rested = replace(instance, task_state=None, fault=None)
        result = {**instance_view(rested), "snapshot": dict(image_view(image))}
        return Settlement(instance=rested, images=(image,), result=result)

    def failed(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        rested = replace(instance, task_state=None, fault=fault_of(operation, now))
        return Settlement(instance=rested, released_image_name=str(operation.request["image"]))


def image_made_by(operation: Operation, instance: Instance, now: float) -> Image:
    """The record of the image that the operation published."""
    made = operation.facts[PublishImage.name]["image"]
    source = ImageSource(url="file://" + quote(made["path"]), sha256=made["sha256"], format=made["format"])
    return Image(
        id=image_id_for(operation.id),
        name=str(operation.request["image"]),
        source=source,
        size_bytes=made["size_bytes"],
        virtual_bytes=made["virtual_bytes"],
        created_at=now,
        host=instance.host,
        instance_id=instance.id,
    )
