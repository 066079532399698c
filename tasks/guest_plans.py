"""What several steps need to know of a guest before they touch anything: its disks, its NICs, its XML. All of it pure."""

from dataclasses import replace

import msgspec

from net.plan import vif_plan_for
from taskvisor.flow.ports import GuestOnHost
from taskvisor.flow.step import StepContext
from taskvisor.model.disk_backend import QCOW2_FILES, DiskBackend
from taskvisor.model.errors import Refused
from taskvisor.model.network import Port
from taskvisor.model.numa import GuestPlace
from taskvisor.model.operation import Operation
from taskvisor.model.plan import AttachedDisk, AttachedNic, ConfigDrive, DiskLayout, DiskPlan, DiskRole, Seed, VifPlan
from taskvisor.model.states import SeedKind
from taskvisor.model.volume import VolumeAttachment, volumes_with_device, volumes_without
from virt.domain import render
from virt.domain.disk import DiskCache
from virt.layout import disk_layout_for, next_device
from virt.policy import choices_for, domain_config_for, machine_for, options_of
from virt.policy.nics import nics_for
from virt.policy.queues import queues_for
from virt.policy.storage import disks_for
from virt.seeds.config_drive import config_drive_for
from virt.seeds.nocloud import host_name_for, seed_for

NO_PLACE = GuestPlace()
PREPARE_DISK = "prepare_disk"
"""The step whose facts say where the disks of a guest under way are made."""


def layout_of(ctx: GuestOnHost) -> DiskLayout:
    """The guest's disks on this host."""
    return _layout_with(ctx, ctx.instance.volumes)


def device_of(ctx: StepContext, volume: VolumeAttachment) -> str:
    """The device name of a volume, beside the disks that the guest has: none of them is renamed. Refused when it is taken."""
    others = _layout_with(ctx, volumes_without(ctx.instance.volumes, volume.source))
    taken = {disk.device: disk.role for disk in others.disks}
    if volume.device in taken:
        raise Refused(
            f"device: {volume.device} is that of the guest's {taken[volume.device]} disk; ask for another, or none"
        )
    return volume.device or next_device(_disk_in(layout_of(ctx), volume).bus, taken)


def attached_disk_of(ctx: StepContext, volume: VolumeAttachment) -> AttachedDisk:
    """The volume as a disk that is added to the guest as it is. Refused when its device is taken."""
    device = device_of(ctx, volume)
    placed = volumes_with_device(ctx.instance.volumes, volume.source, device)
    layout, facts = _layout_with(ctx, placed), ctx.ports.hypervisor.read_facts()
    disk = _disk_in(layout, volume)
    only = replace(layout, disks=(disk,))
    choices = choices_for(ctx.ports.choices, ctx.instance.metadata)
    (config,) = disks_for(only, options_of(ctx.instance), facts, choices, DiskCache.NONE)
    return AttachedDisk(device=device, serial=volume.serial, xml=config.to_xml())


def placed_volumes(volumes: tuple[VolumeAttachment, ...], layout: DiskLayout) -> tuple[VolumeAttachment, ...]:
    """The guest's volumes with the names that they have in the layout. They keep them, whatever is added later."""
    return tuple(replace(volume, device=_disk_in(layout, volume).device) for volume in volumes)


def _layout_with(ctx: GuestOnHost, volumes: tuple[VolumeAttachment, ...]) -> DiskLayout:
    machine = machine_for(ctx.instance, ctx.ports.hypervisor.read_facts())
    plans = tuple(ctx.ports.volumes.plan_for(volume) for volume in volumes)
    return disk_layout_for(
        ctx.instance,
        instances_dir=ctx.ports.limits.instances_dir,
        machine=machine,
        volumes=plans,
        backend=disk_backend_of(ctx),
    )


def _disk_in(layout: DiskLayout, volume: VolumeAttachment) -> DiskPlan:
    return next(disk for disk in layout.disks if disk.role is DiskRole.VOLUME and disk.serial == volume.serial)


def disk_backend_of(ctx: GuestOnHost) -> DiskBackend:
    """Where the guest's own disks lie: where they were made when it was built, whatever the host is told to use by now."""
    if ctx.instance.disk_backend is not None:
        return ctx.instance.disk_backend
    if isinstance(ctx, StepContext) and (decided := decided_backend(ctx.operation)) is not None:
        return decided
    # A guest that once ran, and has no word of it, was built before there was a choice.
    return ctx.ports.choices.disk_backend if ctx.instance.virt_type is None else QCOW2_FILES


def decided_backend(operation: Operation) -> DiskBackend | None:
    """What the build's first step decided; None when it has not, or the operation is none that makes disks."""
    prepared = operation.facts.get(PREPARE_DISK)
    if prepared is None:
        return None
    return msgspec.convert(prepared.get("disk_backend") or {}, DiskBackend)


def vifs_of(ctx: GuestOnHost) -> tuple[VifPlan, ...]:
    """The guest's NICs on this host, in NIC order."""
    return tuple(vif_of(ctx, port) for port in ctx.instance.ports)


def vif_of(ctx: GuestOnHost, port: Port) -> VifPlan:
    """One of the guest's NICs on this host."""
    return vif_plan_for(
        port,
        ctx.ports.networks.read_network(port.network_id),
        hostname=host_name_for(ctx.instance),
        links=ctx.ports.host_links,
        queues=queues_for(port, ctx.instance),
    )


def attached_nic_of(ctx: GuestOnHost, port: Port) -> AttachedNic:
    """The NIC as one that is added to the guest as it is."""
    (config,) = nics_for((vif_of(ctx, port),), options_of(ctx.instance), ctx.instance.flavor.vcpus)
    return AttachedNic(mac=port.mac, xml=config.to_xml())


def seed_of(ctx: StepContext, vendor_data: str | None) -> Seed | ConfigDrive:
    """What the guest's cloud-init reads, made anew from the records and what the operator tells every guest."""
    vifs = vifs_of(ctx)
    if ctx.instance.config_drive is SeedKind.NOCLOUD:
        return seed_for(ctx.instance, vifs, vendor_data=vendor_data)
    return config_drive_for(ctx.instance, vifs, vendor_data=vendor_data)


def xml_of(ctx: GuestOnHost) -> str:
    """The guest's whole definition, made anew from the records."""
    facts = ctx.ports.hypervisor.read_facts()
    choices = choices_for(ctx.ports.choices, ctx.instance.metadata)
    layout = layout_of(ctx)
    volumes = placed_volumes(ctx.instance.volumes, layout)
    instance = replace(ctx.instance, disk_backend=disk_backend_of(ctx), volumes=volumes)
    place = instance.place or NO_PLACE
    config = domain_config_for(
        instance, layout, vifs_of(ctx), facts, choices=choices, placement=place.numa, pci_devices=place.pci_devices
    )
    return render(config)
