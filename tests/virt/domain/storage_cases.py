"""Every option of disks, of the controllers that they sit on, and of shared directories."""

from collections.abc import Mapping
from dataclasses import replace

from taskvisor.model.plan import DiskBus
from taskvisor.model.states import ImageFormat
from tests.virt.domain.bases import OTHER_SECRET_UUID, PC, Q35, SECRET_UUID, with_devices
from virt.domain.address import DriveAddressConfig, PciAddressConfig
from virt.domain.controller import SataControllerConfig, ScsiControllerConfig, ScsiDriverConfig, ScsiModel
from virt.domain.disk import (
    DetectZeroes,
    Discard,
    DiskCache,
    DiskConfig,
    DiskDriverConfig,
    DiskIo,
    DiskKind,
    ErrorPolicy,
    IoLimitsConfig,
)
from virt.domain.disk_source import (
    BlockSourceConfig,
    DiskAuthConfig,
    DiskSourceConfig,
    FileSourceConfig,
    IscsiSourceConfig,
    LuksConfig,
    NbdSourceConfig,
    RbdSourceConfig,
    SecretType,
    StorageHostConfig,
    StorageSocketConfig,
)
from virt.domain.domain import DomainConfig
from virt.domain.filesystem import VirtiofsBinaryConfig, VirtiofsCache, VirtiofsConfig
from virt.domain.memory import MemoryAccess, MemoryBackingConfig, MemorySource

ROOT = "/var/lib/taskvisor/instances/8d812f63-573c-4f2c-a991-dfa68b844d20/disk"
VOLUME = "13db53ea-475b-471d-bbb1-a0daffbf25ef"
RAW = DiskDriverConfig(format=ImageFormat.RAW)
LUKS = LuksConfig(secret_uuid=SECRET_UUID)


def storage_cases() -> Mapping[str, DomainConfig]:
    """Each by the name of its golden file."""
    return {
        **_virtio_cases(),
        **_scsi_cases(),
        **_other_bus_cases(),
        **_network_cases(),
        **_limit_cases(),
        **_directory_cases(),
    }


def _disk(device: str, source: DiskSourceConfig | None = None, driver: DiskDriverConfig = RAW) -> DiskConfig:
    return DiskConfig(
        kind=DiskKind.DISK,
        source=source or FileSourceConfig(path=f"/srv/{device}"),
        driver=driver,
        device=device,
        bus=DiskBus.VIRTIO,
    )


def _virtio_cases() -> dict[str, DomainConfig]:
    root = DiskDriverConfig(
        format=ImageFormat.QCOW2,
        cache=DiskCache.NONE,
        error_policy=ErrorPolicy.STOP,
        io=DiskIo.NATIVE,
        discard=Discard.UNMAP,
        iothread=1,
        detect_zeroes=DetectZeroes.UNMAP,
        queues=4,
        iommu=True,
        packed=True,
    )
    plain = DiskDriverConfig(
        format=ImageFormat.RAW,
        cache=DiskCache.DIRECTSYNC,
        error_policy=ErrorPolicy.ENOSPACE,
        io=DiskIo.IO_URING,
        discard=Discard.IGNORE,
        detect_zeroes=DetectZeroes.OFF,
        iommu=False,
        packed=False,
    )
    through = DiskDriverConfig(
        format=ImageFormat.RAW,
        cache=DiskCache.WRITETHROUGH,
        error_policy=ErrorPolicy.REPORT,
        io=DiskIo.THREADS,
        detect_zeroes=DetectZeroes.ON,
    )
    return {
        "disk_tuned": replace(
            Q35,
            iothreads=1,
            devices=(
                replace(_disk("vda", FileSourceConfig(path=ROOT), root), boot_order=1, serial="root"),
                replace(
                    _disk("vdb", BlockSourceConfig(device="/dev/disk/by-id/one"), plain),
                    logical_block_bytes=512,
                    physical_block_bytes=4096,
                    shareable=True,
                    alias=f"ua-{VOLUME}",
                    serial=VOLUME,
                    address=PciAddressConfig(bus=0, slot=9),
                ),
                replace(_disk("vdc", driver=through), readonly=True),
                _disk("vdd", driver=replace(RAW, cache=DiskCache.UNSAFE, error_policy=ErrorPolicy.IGNORE)),
                _disk("vde", driver=replace(RAW, cache=DiskCache.WRITEBACK)),
            ),
        ),
        "disk_encrypted": with_devices(
            PC,
            _disk("vda", FileSourceConfig(path=ROOT, encryption=LUKS), DiskDriverConfig(format=ImageFormat.QCOW2)),
            _disk(
                "vdb", BlockSourceConfig(device="/dev/vg/volume", encryption=LuksConfig(secret_uuid=OTHER_SECRET_UUID))
            ),
        ),
    }


def _scsi_cases() -> dict[str, DomainConfig]:
    driver = ScsiDriverConfig(queues=4, commands_per_lun=128, max_sectors=512, iothread=1, iommu=True)
    slot = PciAddressConfig(bus=0, slot=7, function=1)
    return {
        "disk_on_virtio_scsi": replace(
            Q35,
            iothreads=1,
            devices=(
                ScsiControllerConfig(index=0, model=ScsiModel.VIRTIO, driver=driver),
                ScsiControllerConfig(
                    index=1, model=ScsiModel.VIRTIO, driver=ScsiDriverConfig(iommu=False), address=slot
                ),
                replace(
                    _disk("sda"),
                    bus=DiskBus.SCSI,
                    wwn="5000c50015ea71ad",
                    address=DriveAddressConfig(unit=3),
                ),
                replace(
                    _disk("sdb", BlockSourceConfig(device="/dev/disk/by-id/two")),
                    bus=DiskBus.SCSI,
                    kind=DiskKind.LUN,
                    address=DriveAddressConfig(controller=1, target=2, unit=5),
                ),
            ),
        ),
        "scsi_of_real_boards": with_devices(
            PC,
            *(
                ScsiControllerConfig(index=index, model=model)
                for index, model in enumerate((ScsiModel.LSI_LOGIC, ScsiModel.LSI_SAS_1068, ScsiModel.LSI_SAS_1078))
            ),
        ),
        "scsi_of_vmware": with_devices(PC, ScsiControllerConfig(index=0, model=ScsiModel.VMPVSCSI)),
    }


def _other_bus_cases() -> dict[str, DomainConfig]:
    empty = FileSourceConfig(path=None)
    return {
        "disk_on_sata": with_devices(
            Q35,
            SataControllerConfig(index=0),
            SataControllerConfig(index=1, address=PciAddressConfig(bus=0, slot=10)),
            replace(_disk("sda"), bus=DiskBus.SATA, address=DriveAddressConfig(controller=1, unit=2)),
            replace(_disk("sdb", empty), bus=DiskBus.SATA, kind=DiskKind.CDROM, readonly=True),
        ),
        "disk_on_ide": with_devices(
            PC,
            replace(_disk("hda"), bus=DiskBus.IDE),
            replace(
                _disk("hdc", empty),
                bus=DiskBus.IDE,
                kind=DiskKind.CDROM,
                readonly=True,
                boot_order=2,
                address=DriveAddressConfig(bus=1, unit=0),
            ),
        ),
        "disk_on_usb": with_devices(PC, replace(_disk("sda"), bus=DiskBus.USB)),
    }


def _network_cases() -> dict[str, DomainConfig]:
    monitors = tuple(StorageHostConfig(name=f"10.0.0.{number}", port=6789) for number in (7, 8))
    target = "iqn.2010-10.org.openstack:volume-13db53ea/1"
    login = DiskAuthConfig(username="nova", secret_type=SecretType.ISCSI, secret_uuid=OTHER_SECRET_UUID)
    return {
        "disk_on_rbd": with_devices(
            PC,
            _disk(
                "vda",
                RbdSourceConfig(
                    name="vms/8d812f63_disk",
                    hosts=monitors,
                    snapshot="snap",
                    config_file="/etc/ceph/ceph.conf",
                    auth=DiskAuthConfig(username="cinder", secret_type=SecretType.CEPH, secret_uuid=SECRET_UUID),
                ),
            ),
            _disk("vdb", RbdSourceConfig(name="volumes/13db53ea", encryption=LUKS)),
        ),
        "disk_on_iscsi": with_devices(
            PC,
            _disk(
                "vda",
                IscsiSourceConfig(
                    name=target,
                    host=StorageHostConfig(name="192.168.8.8", port=3260),
                    auth=login,
                    initiator="iqn.1993-08.org.debian:01:node1",
                ),
            ),
            _disk("vdb", IscsiSourceConfig(name=f"{target}2", host=StorageHostConfig(name="storage"), encryption=LUKS)),
        ),
        "disk_on_nbd": with_devices(
            PC,
            _disk(
                "vda",
                NbdSourceConfig(name="export", host=StorageHostConfig(name="localhost", port=10809)),
            ),
            _disk("vdc", NbdSourceConfig(host=StorageSocketConfig(path="/run/other.sock"))),
            _disk(
                "vdb",
                NbdSourceConfig(host=StorageSocketConfig(path="/run/nbd.sock"), encryption=LUKS),
            ),
        ),
    }


def _limit_cases() -> dict[str, DomainConfig]:
    totals = IoLimitsConfig(
        total_bytes_s=100 << 20,
        total_iops=1000,
        total_bytes_s_max=200 << 20,
        total_iops_max=2000,
        iops_size_bytes=4096,
        group_name="guest",
        total_bytes_max_length_s=60,
        total_iops_max_length_s=61,
    )
    parts = IoLimitsConfig(
        read_bytes_s=100 << 20,
        write_bytes_s=50 << 20,
        read_iops=1000,
        write_iops=500,
        read_bytes_s_max=200 << 20,
        write_bytes_s_max=100 << 20,
        read_iops_max=2000,
        write_iops_max=1000,
        read_bytes_max_length_s=60,
        write_bytes_max_length_s=61,
        read_iops_max_length_s=62,
        write_iops_max_length_s=63,
    )
    return {
        "disk_limits": with_devices(
            PC,
            replace(_disk("vda"), io_limits=totals),
            replace(_disk("vdb"), io_limits=parts),
        )
    }


def _directory_cases() -> dict[str, DomainConfig]:
    binary = VirtiofsBinaryConfig(
        path="/usr/libexec/virtiofsd", xattr=True, cache=VirtiofsCache.ALWAYS, lock_posix=True, lock_flock=True
    )
    careful = VirtiofsBinaryConfig(xattr=False, cache=VirtiofsCache.NONE, lock_posix=False, lock_flock=False)
    backing = MemoryBackingConfig(source=MemorySource.MEMFD, access=MemoryAccess.SHARED)
    return {
        "directories": replace(
            PC,
            memory_backing=backing,
            devices=(
                VirtiofsConfig(directory="/srv/share", tag="share", queue_size=1024, binary=binary, alias="ua-share"),
                VirtiofsConfig(directory="/srv/more", tag="more", binary=careful),
            ),
        ),
    }
