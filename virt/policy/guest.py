"""The whole guest: what a record, its options and a host come to."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from uuid import UUID

import msgspec

from taskvisor.model.numa import GuestPlacement, PciDevicePlan
from taskvisor.model.observed import HypervisorFacts
from taskvisor.model.operator import Dialect
from taskvisor.model.plan import DiskLayout, DiskRole, VifPlan
from taskvisor.model.records import Instance
from virt.domain.config import DeviceConfig
from virt.domain.disk import DiskCache
from virt.domain.domain import CrashAction, DomainConfig, LifecycleAction
from virt.domain.nova_owner import NovaDialect, NovaFlavorConfig, NovaOwnerConfig, NovaRootConfig
from virt.domain.owner import OwnerConfig
from virt.domain.placement import VcpusConfig
from virt.domain.text import one_line
from virt.options import GuestOptions, guest_options_for
from virt.policy.boot import clock_for, features_for, os_for, sysinfo_for
from virt.policy.choices import HostChoices, NovaOwnership
from virt.policy.cpu import cpu_for, cpu_tune_for, numa_tune_for, shared_cpus_for, virt_type_for
from virt.policy.devices import (
    balloon_for,
    board_devices_for,
    channels_for,
    consoles_for,
    inputs_for,
    pci_devices_for,
    rng_for,
    screen_for,
    usb_for,
)
from virt.policy.memory import launch_security_for, memory_backing_for
from virt.policy.nics import nics_for
from virt.policy.platform import require_platform
from virt.policy.storage import disks_for, scsi_controllers_for
from virt.policy.support import canonical_machine

DEFAULT_CHOICES = HostChoices()


def domain_config_for(
    instance: Instance,
    layout: DiskLayout,
    vifs: Sequence[VifPlan],
    host: HypervisorFacts,
    *,
    disk_cache: DiskCache = DiskCache.WRITEBACK,
    choices: HostChoices = DEFAULT_CHOICES,
    placement: GuestPlacement | None = None,
    pci_devices: Sequence[PciDevicePlan] = (),
) -> DomainConfig:
    """The domain of an instance on a host. `disk_cache` is for disks that are written to; writeback works everywhere.

    `placement` and `pci_devices` are what is held on the host for this guest alone.

    Refused when the instance was made for KVM and the host has none now: emulating it would be a silent slow-down; and when
    what its flavor and image ask for can be had nowhere, or is not held. DoesNotFit when another host may have it.
    """
    options, virt_type = options_of(instance), virt_type_for(instance, host)
    require_platform(options, host, virt_type)
    flavor, machine = instance.flavor, machine_for(instance, host)
    # Where some CPUs are set aside, what is not pinned stays off them: else they would be nobody's alone.
    choices = replace(choices, shared_cpus=shared_cpus_for(host, choices))
    return DomainConfig(
        virt_type=virt_type,
        name=domain_name_for(instance),
        uuid=instance.id,
        title=one_line(instance.name) if choices.dialect is Dialect.OURS else None,
        owners=tuple(_owners_for(_with_placed_volumes(instance, layout), choices)),
        memory_mib=flavor.memory_mib,
        memory_backing=memory_backing_for(flavor, options, host, placement),
        vcpus=VcpusConfig(count=flavor.vcpus, cpus=(choices.dedicated_cpus and choices.shared_cpus) or None),
        cpu_tune=cpu_tune_for(flavor, options, placement, choices),
        numa_tune=numa_tune_for(placement),
        sysinfo=sysinfo_for(instance, choices),
        os=os_for(options, layout, host, machine, choices),
        features=features_for(options, host),
        cpu=cpu_for(flavor, options, host),
        clock=clock_for(options, host, choices),
        on_poweroff=LifecycleAction.DESTROY,
        on_reboot=LifecycleAction.RESTART,
        on_crash=CrashAction.DESTROY,
        emulator=host.emulator,
        devices=(
            *disks_for(layout, options, host, choices, disk_cache),
            *scsi_controllers_for(layout, options, flavor.vcpus),
            *nics_for(vifs, options, flavor.vcpus),
            *_devices_for(layout, options, host, machine, choices),
            *pci_devices_for(options, pci_devices),
            balloon_for(options, choices),
        ),
        launch_security=launch_security_for(options, host, machine),
    )


def options_of(instance: Instance) -> GuestOptions:
    """What the instance's flavor and image ask for; Refused as in `guest_options_for`."""
    return guest_options_for(instance.flavor.extra_specs, instance.image_properties)


def machine_for(instance: Instance, host: HypervisorFacts) -> str:
    """The board: the one that the guest was first built with, else the one asked for, else the host's.

    DoesNotFit when the host was asked for its machines and has no such one (any more).
    """
    return canonical_machine(host.support, instance.machine or options_of(instance).boot.machine or host.machine)


def domain_name_for(instance: Instance) -> str:
    """libvirt's name of the domain: 48 bits of the id, so it is unique on a host and safe in file names and sockets.

    Not the instance's name: that is the caller's, and libvirt makes paths of it (/var/log/libvirt/qemu/<name>.log). It
    is the title (`virsh list --title`).
    """
    return f"instance-{instance.id[:13]}"


def owner_for(instance: Instance) -> OwnerConfig:
    """The copy of the record that the domain carries."""
    return OwnerConfig(
        instance_id=instance.id,
        name=instance.name,
        host=instance.host,
        created_at=instance.created_at,
        flavor=instance.flavor,
        image=instance.image,
        image_name=instance.image_name,
        ports=instance.ports,
        metadata=instance.metadata,
        image_properties=instance.image_properties,
        disk_backend=instance.disk_backend,
        config_drive=instance.config_drive,
        project=instance.project,
        place=None if instance.place is None else msgspec.json.encode(instance.place).decode(),
        volumes={volume.source: msgspec.json.encode(volume).decode() for volume in instance.volumes},
    )


def _with_placed_volumes(instance: Instance, layout: DiskLayout) -> Instance:
    """The record with the names that the layout gives its volumes: of a build they are not in it yet."""
    devices = {disk.serial: disk.device for disk in layout.disks if disk.role is DiskRole.VOLUME}
    placed = (replace(volume, device=devices.get(volume.serial, volume.device)) for volume in instance.volumes)
    return replace(instance, volumes=tuple(placed))


def _owners_for(instance: Instance, choices: HostChoices) -> Iterator[OwnerConfig | NovaOwnerConfig]:
    yield owner_for(instance)
    if choices.nova_owner is not None:
        yield _nova_owner_for(instance, choices.nova_owner)


def _nova_owner_for(instance: Instance, ownership: NovaOwnership) -> NovaOwnerConfig:
    flavor, knows_specs = instance.flavor, ownership.dialect is not NovaDialect.V1_0
    image_id = _uuid_in(instance.image_name)
    return NovaOwnerConfig(
        dialect=ownership.dialect,
        package_version=ownership.package_version,
        name=instance.name,
        created_at=instance.created_at,
        flavor=NovaFlavorConfig(
            name=flavor.name,
            memory_mib=flavor.memory_mib,
            disk_gib=flavor.disk_gib,
            swap_mib=flavor.swap_mib,
            ephemeral_gib=flavor.ephemeral_gib,
            vcpus=flavor.vcpus,
            extra_specs=flavor.extra_specs if knows_specs else None,
        ),
        user=ownership.user,
        user_uuid=ownership.user_uuid,
        project=ownership.project,
        project_uuid=ownership.project_uuid,
        root=None if image_id is None else NovaRootConfig(type="image", uuid=image_id),
    )


def _uuid_in(image_name: str) -> str | None:
    # Nova knows images by their UUIDs only; ours may have other names.
    try:
        return str(UUID(image_name))
    except ValueError:
        return None


def _devices_for(
    layout: DiskLayout, options: GuestOptions, host: HypervisorFacts, machine: str, choices: HostChoices
) -> Iterator[DeviceConfig]:
    yield from consoles_for(layout, options, choices)
    yield from channels_for(options)
    yield from inputs_for(options)
    yield from screen_for(options, host, choices)
    yield from rng_for(options)
    yield from usb_for(layout, options, choices)
    yield from board_devices_for(options, host, machine)
