"""instance.snapshot: suspend_guest → copy_disk → resume_guest → publish_image. The result is one flattened image.

A guest that runs is copied live, and runs on; it is suspended only when a cold copy was asked for. One that is off is
copied as it lies. Of a guest with several disks, the root disk alone is taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tasks.guest_plans import layout_of
from tasks.snapshot_image import image_made_by
from taskvisor.flow.step import Flow, NoFacts, Settlement, Step, StepContext, fault_of
from taskvisor.model.errors import Refused, Retryable
from taskvisor.model.ids import image_id_for
from taskvisor.model.observed import DomainFacts
from taskvisor.model.operation import Operation
from taskvisor.model.plan import CachedImage, DiskPlan, DiskRole
from taskvisor.model.records import Instance
from taskvisor.model.snapshot import Compression, Quiesce, SnapshotMethod, encoding_for
from taskvisor.model.states import ImageFormat, InstanceAction, TaskState
from taskvisor.model.view import image_view, instance_view
from virt.options import guest_options_for


@dataclass(frozen=True, kw_only=True)
class SnapshotRequest:
    """As far as its steps need it. Requests of before these could be said have the defaults."""

    method: SnapshotMethod = SnapshotMethod.AUTO
    quiesce: Quiesce = Quiesce.AUTO
    format: ImageFormat | None = None
    compression: Compression | None = None


@dataclass(frozen=True, kw_only=True)
class SuspendedGuest:
    """`suspended`: it ran, and its memory is saved."""

    suspended: bool


class SuspendGuest(Step[SuspendedGuest]):
    """Where a cold copy is asked for, nothing of the guest runs, and its memory is saved if it did; else it is as it was."""

    name = "suspend_guest"
    facts_type = SuspendedGuest
    task_state = TaskState.IMAGE_SNAPSHOT_PENDING
    time_limit_s = 3600

    def do(self, ctx: StepContext) -> SuspendedGuest:
        request, hypervisor = ctx.request_as(SnapshotRequest), ctx.ports.hypervisor
        _root_of(ctx)
        _quiesce_for(ctx)
        if request.method is SnapshotMethod.LIVE and not _is_alive(hypervisor.read_domain(ctx.instance.id)):
            raise Refused(f"cannot copy {ctx.instance.name} live: it is off; start it, or leave out the method")
        if request.method is not SnapshotMethod.COLD:
            return SuspendedGuest(suspended=False)
        return SuspendedGuest(suspended=hypervisor.ensure_suspended_to_disk(ctx.instance.id))

    def undo(self, ctx: StepContext) -> None:
        ctx.ports.hypervisor.ensure_resumed(ctx.instance.id)


@dataclass(frozen=True, kw_only=True)
class CopiedDisk:
    """`live`: copied while the guest ran. `why_not` says why it was not quiesced, when it was not."""

    live: bool
    quiesced: bool = False
    why_not: str | None = None


class CopyDisk(Step[CopiedDisk]):
    """The root disk, as it is at one point in time, lies in a file of its own with nothing under it."""

    name = "copy_disk"
    facts_type = CopiedDisk
    task_state = TaskState.IMAGE_PENDING_UPLOAD
    time_limit_s = 3600

    def do(self, ctx: StepContext) -> CopiedDisk:
        root = _root_of(ctx)
        target = ctx.ports.disks.snapshot_path(image_id_for(ctx.operation.id))
        if _is_alive(self._domain(ctx)):
            copy = ctx.ports.hypervisor.copy_disk(
                ctx.instance.id, root.device, target, ctx.progress, quiesce=_quiesce_for(ctx)
            )
            return CopiedDisk(live=True, quiesced=copy.quiesced, why_not=copy.why_not)
        ctx.ports.disks.flatten(root.path, target, ctx.progress, source_format=root.format)
        if _is_alive(self._domain(ctx)):
            raise Retryable(
                f"guest {ctx.instance.name} was started while its disk was copied; it is copied again, live"
            )
        return CopiedDisk(live=False, why_not="the guest was not running")

    def undo(self, ctx: StepContext) -> None:
        ctx.ports.hypervisor.ensure_copy_ended(ctx.instance.id, _root_of(ctx).device)
        ctx.ports.disks.ensure_unpublished(image_id_for(ctx.operation.id))

    def _domain(self, ctx: StepContext) -> DomainFacts | None:
        """Somebody may have started the guest behind our back: a copy of its disk is worth nothing then."""
        domain = ctx.ports.hypervisor.read_domain(ctx.instance.id)
        if _is_alive(domain) and ctx.request_as(SnapshotRequest).method is SnapshotMethod.COLD:
            raise Refused(
                f"cannot copy {ctx.instance.name} cold: somebody started it meanwhile; ask again, or ask for a live copy"
            )
        return domain


class ResumeGuest(Step[NoFacts]):
    """A guest that was suspended for the copy goes on from where it was."""

    name = "resume_guest"
    time_limit_s = 600

    def do(self, ctx: StepContext) -> NoFacts:
        ctx.ports.hypervisor.ensure_resumed(ctx.instance.id)
        return NoFacts()


@dataclass(frozen=True, kw_only=True)
class PublishedImage:
    image: CachedImage


class PublishImage(Step[PublishedImage]):
    """The copy is encoded as asked, inspected and in its final place, named by the operation that made it."""

    name = "publish_image"
    facts_type = PublishedImage
    task_state = TaskState.IMAGE_UPLOADING
    time_limit_s = 3600

    def do(self, ctx: StepContext) -> PublishedImage:
        request = ctx.request_as(SnapshotRequest)
        encoding = encoding_for(request.format, request.compression, ctx.ports.limits.snapshot_encoding)
        image = ctx.ports.disks.publish(image_id_for(ctx.operation.id), ctx.progress, encoding)
        return PublishedImage(image=image)

    def undo(self, ctx: StepContext) -> None:
        ctx.ports.disks.ensure_unpublished(image_id_for(ctx.operation.id))


class SnapshotFlow(Flow):
    """An image is registered under the name asked; the guest is as it was."""

    name = "instance.snapshot"
    prefix = "snapshot"
    action = InstanceAction.SNAPSHOT
    steps = (SuspendGuest(), CopyDisk(), ResumeGuest(), PublishImage())
    yields = False  # the copy lies outside the instance's directory, and the image's name is reserved

    def succeeded(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        image = image_made_by(operation, instance, operation.facts[PublishImage.name]["image"], now)
        rested = replace(instance, task_state=None, fault=None)
        snapshot = {**image_view(image), **_way_of(operation)}
        return Settlement(instance=rested, images=(image,), result={**instance_view(rested), "snapshot": snapshot})

    def failed(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        rested = replace(instance, task_state=None, fault=fault_of(operation, now))
        return Settlement(instance=rested, released_image_name=str(operation.request["image"]))


def _way_of(operation: Operation) -> Mapping[str, object]:
    """How the copy was made, for the caller: what it did to the guest, and what it may count on."""
    copied = operation.facts[CopyDisk.name]
    return {
        "method": (SnapshotMethod.LIVE if copied["live"] else SnapshotMethod.COLD).value,
        "quiesced": copied.get("quiesced", False),
        "why_not_quiesced": copied.get("why_not"),
    }


def _root_of(ctx: StepContext) -> DiskPlan:
    root = layout_of(ctx).disk(DiskRole.ROOT)
    if root.is_cdrom:
        raise Refused(
            f"cannot take a snapshot of {ctx.instance.name}: it was built from an ISO, and the disk that it may have "
            "installed itself on is none that snapshots are made of; copy its files from inside the guest"
        )
    return root


def _quiesce_for(ctx: StepContext) -> Quiesce:
    """What is asked, unless the image says that a snapshot without quiescing is none."""
    request, instance = ctx.request_as(SnapshotRequest), ctx.instance
    if not guest_options_for(instance.flavor.extra_specs, instance.image_properties).device.quiesce:
        return request.quiesce
    if request.quiesce is Quiesce.NEVER or request.method is SnapshotMethod.COLD:
        raise Refused(
            f"cannot take a snapshot of {instance.name} that is not quiesced: its image says os_require_quiesce; leave out "
            "quiesce and method"
        )
    return Quiesce.REQUIRED


def _is_alive(domain: DomainFacts | None) -> bool:
    """QEMU has its disks open: it runs, is paused, or sleeps."""
    return domain is not None and domain.boot_id is not None
