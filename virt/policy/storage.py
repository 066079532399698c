"""The guest's disks and CD-ROMs, and the controllers that they need."""

from collections.abc import Iterator
from dataclasses import asdict

from taskvisor.model.observed import HypervisorFacts
from taskvisor.model.operator import Dialect
from taskvisor.model.plan import DiskBus, DiskLayout, DiskPlan, DiskRole, DiskStorage
from taskvisor.model.tuning import VolumeTuning
from virt.domain.config import DeviceConfig
from virt.domain.controller import ScsiControllerConfig, ScsiDriverConfig, ScsiModel
from virt.domain.disk import Discard, DiskCache, DiskConfig, DiskDriverConfig, DiskIo, DiskKind, IoLimitsConfig
from virt.domain.disk_source import FileSourceConfig
from virt.options import GuestOptions
from virt.options.disk import DiskOptions
from virt.options.memory import Encryption
from virt.policy.boot import boots_by_kind
from virt.policy.choices import HostChoices
from virt.policy.disk_source import source_for
from virt.policy.support import require_offered


def disks_for(
    layout: DiskLayout, options: GuestOptions, host: HypervisorFacts, choices: HostChoices, disk_cache: DiskCache
) -> Iterator[DiskConfig]:
    """Each disk of the layout, in its order. DoesNotFit for a bus that the host lacks."""
    for disk in layout.disks:
        require_offered(host.support.disk_buses, disk.bus, "disk bus")
        boot_order = None if boots_by_kind(choices) or options.boot.kernel else disk.boot_index
        if disk.is_cdrom:
            yield _cdrom_for(disk, boot_order)
        else:
            yield _disk_for(disk, options, choices, disk_cache, boot_order)


def scsi_controllers_for(layout: DiskLayout, options: GuestOptions, vcpus: int) -> Iterator[DeviceConfig]:
    """One, where a disk is on SCSI: without it libvirt would add one of a model that few systems know."""
    if any(disk.bus is DiskBus.SCSI for disk in layout.disks):
        model = options.disk.scsi_model or ScsiModel.VIRTIO
        is_virtio = model is ScsiModel.VIRTIO
        driver = ScsiDriverConfig(queues=vcpus if vcpus > 1 else None, iommu=iommu_for(options))
        yield ScsiControllerConfig(
            index=0, model=model, driver=driver if is_virtio and driver != ScsiDriverConfig() else None
        )


def iommu_for(options: GuestOptions) -> bool | None:
    """Whether virtio devices keep to the memory that the guest shares with them: they must where it is encrypted."""
    return None if options.memory.encryption is Encryption.OFF else True


def _cdrom_for(disk: DiskPlan, boot_order: int | None) -> DiskConfig:
    return DiskConfig(
        kind=DiskKind.CDROM,
        source=FileSourceConfig(path=disk.path),
        driver=DiskDriverConfig(format=disk.format),
        device=disk.device,
        bus=disk.bus,
        readonly=True,
        boot_order=boot_order,
    )


def _disk_for(
    disk: DiskPlan, options: GuestOptions, choices: HostChoices, disk_cache: DiskCache, boot_order: int | None
) -> DiskConfig:
    is_virtio = disk.bus is DiskBus.VIRTIO
    is_ours = choices.dialect is Dialect.OURS
    # A volume may be attached elsewhere next: nothing of it stays in this host's memory. And io=native needs it so.
    is_uncached = disk.role is DiskRole.VOLUME or disk.storage is DiskStorage.BLOCK
    driver = DiskDriverConfig(
        format=disk.format,
        cache=_cache_for(disk) if is_uncached else disk_cache,
        io=_io_for(disk),
        # What the guest trims is given back to the host.
        discard=_discard_for(disk) or (Discard.UNMAP if is_ours else None),
        iommu=iommu_for(options) if is_virtio else None,
        packed=True if options.nic.packed_ring and is_virtio else None,
    )
    return DiskConfig(
        kind=DiskKind.DISK,
        source=source_for(disk, choices.ceph),
        driver=driver,
        device=disk.device,
        bus=disk.bus,
        # /dev/disk/by-id/virtio-root, whatever the order of discovery
        serial=disk.serial or (disk.role if is_ours else None),
        boot_order=boot_order,
        io_limits=_io_limits_for(options.disk) if disk.tuning is None else _volume_limits_for(disk.tuning),
        readonly=disk.tuning is not None and disk.tuning.readonly,
        shareable=disk.tuning is not None and disk.tuning.shareable,
    )


def _cache_for(disk: DiskPlan) -> DiskCache:
    asked = None if disk.tuning is None else disk.tuning.cache
    return DiskCache.NONE if asked is None else DiskCache(asked.value)


def _io_for(disk: DiskPlan) -> DiskIo | None:
    if disk.tuning is not None and disk.tuning.io is not None:
        return DiskIo(disk.tuning.io.value)
    # QEMU takes native for what goes past the host's cache only.
    direct = _cache_for(disk) in (DiskCache.NONE, DiskCache.DIRECTSYNC)
    return DiskIo.NATIVE if disk.storage is DiskStorage.BLOCK and direct else None


def _discard_for(disk: DiskPlan) -> Discard | None:
    asked = None if disk.tuning is None else disk.tuning.discard
    return None if asked is None else Discard(asked.value)


def _volume_limits_for(tuning: VolumeTuning) -> IoLimitsConfig | None:
    limits = IoLimitsConfig(**asdict(tuning.limits))
    return None if limits == IoLimitsConfig() else limits


def _io_limits_for(wants: DiskOptions) -> IoLimitsConfig | None:
    limits = IoLimitsConfig(
        total_bytes_s=wants.total_bytes_s,
        read_bytes_s=wants.read_bytes_s,
        write_bytes_s=wants.write_bytes_s,
        total_iops=wants.total_iops,
        read_iops=wants.read_iops,
        write_iops=wants.write_iops,
        total_bytes_s_max=wants.total_bytes_s_max,
        read_bytes_s_max=wants.read_bytes_s_max,
        write_bytes_s_max=wants.write_bytes_s_max,
        total_iops_max=wants.total_iops_max,
        read_iops_max=wants.read_iops_max,
        write_iops_max=wants.write_iops_max,
        iops_size_bytes=wants.iops_size_bytes,
    )
    return None if limits == IoLimitsConfig() else limits
