"""Disks and CD-ROMs: how QEMU drives them, and how the guest sees them. Where their bytes are: `virt.domain.disk_source`."""

from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from taskvisor.model.plan import DiskBus
from taskvisor.model.states import ImageFormat
from virt.domain.address import DriveAddressConfig, PciAddressConfig
from virt.domain.config import (
    Config,
    DeviceConfig,
    element,
    element_of,
    flag_element,
    on_off,
    text_element,
    unless_empty,
)
from virt.domain.disk_source import DiskSourceConfig


class DiskCache(StrEnum):
    """How the host's page cache takes part (https://libvirt.org/formatdomain.html, `driver cache`). Unsaid: as QEMU has it."""

    NONE = "none"  # O_DIRECT: not at all
    WRITEBACK = "writeback"  # the guest's flushes reach the disk, other writes may wait in the host's memory
    WRITETHROUGH = "writethrough"  # each write reaches the disk
    DIRECTSYNC = "directsync"  # both: past the host's cache, and each write reaches the disk
    UNSAFE = "unsafe"  # the guest's flushes are ignored


class DiskKind(StrEnum):
    DISK = "disk"
    CDROM = "cdrom"
    LUN = "lun"  # a block device with its SCSI commands let through


class DiskIo(StrEnum):
    """How QEMU asks the host's kernel."""

    THREADS = "threads"
    NATIVE = "native"  # Linux AIO; needs cache none or directsync
    IO_URING = "io_uring"


class Discard(StrEnum):
    """What becomes of the blocks that the guest trims."""

    UNMAP = "unmap"  # given back to the host
    IGNORE = "ignore"


class DetectZeroes(StrEnum):
    """Whether writes of zeroes are taken for what they are."""

    OFF = "off"
    ON = "on"
    UNMAP = "unmap"  # and the blocks given back, with discard unmap


class ErrorPolicy(StrEnum):
    """What an I/O error does to the guest."""

    STOP = "stop"  # pauses it
    REPORT = "report"  # the guest sees it
    IGNORE = "ignore"
    ENOSPACE = "enospace"  # pauses it when the host has no space left, else it sees it


@dataclass(frozen=True, kw_only=True)
class DiskDriverConfig(Config):
    """How QEMU drives a disk.

        <driver name="qemu" type="qcow2" cache="none" error_policy="stop" io="native" discard="unmap" iothread="1"
            detect_zeroes="unmap" queues="4"/>

    https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms
    """

    format: ImageFormat
    cache: DiskCache | None = None
    error_policy: ErrorPolicy | None = None
    io: DiskIo | None = None
    discard: Discard | None = None
    iothread: int | None = None
    detect_zeroes: DetectZeroes | None = None
    queues: int | None = None
    iommu: bool | None = None
    packed: bool | None = None

    def to_element(self) -> etree._Element:
        return element(
            "driver",
            name="qemu",
            type=self.format,
            cache=self.cache,
            error_policy=self.error_policy,
            io=self.io,
            discard=self.discard,
            iothread=self.iothread,
            detect_zeroes=self.detect_zeroes,
            queues=self.queues,
            iommu=on_off(self.iommu),
            packed=on_off(self.packed),
        )


@dataclass(frozen=True, kw_only=True)
class IoLimitsConfig(Config):
    """What a disk may do in a second; `_max` are bursts, and `_max_length` how long one lasts.

        <iotune>
          <total_bytes_sec>104857600</total_bytes_sec>
          <read_iops_sec>1000</read_iops_sec>
          <write_iops_sec>500</write_iops_sec>
        </iotune>

    A total goes with neither of its parts. Disks of one `group_name` share their limits.
    https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms
    """

    total_bytes_s: int | None = None
    read_bytes_s: int | None = None
    write_bytes_s: int | None = None
    total_iops: int | None = None
    read_iops: int | None = None
    write_iops: int | None = None
    total_bytes_s_max: int | None = None
    read_bytes_s_max: int | None = None
    write_bytes_s_max: int | None = None
    total_iops_max: int | None = None
    read_iops_max: int | None = None
    write_iops_max: int | None = None
    iops_size_bytes: int | None = None
    group_name: str | None = None
    total_bytes_max_length_s: int | None = None
    read_bytes_max_length_s: int | None = None
    write_bytes_max_length_s: int | None = None
    total_iops_max_length_s: int | None = None
    read_iops_max_length_s: int | None = None
    write_iops_max_length_s: int | None = None

    def to_element(self) -> etree._Element:
        limits = {
            "total_bytes_sec": self.total_bytes_s,
            "read_bytes_sec": self.read_bytes_s,
            "write_bytes_sec": self.write_bytes_s,
            "total_iops_sec": self.total_iops,
            "read_iops_sec": self.read_iops,
            "write_iops_sec": self.write_iops,
            "total_bytes_sec_max": self.total_bytes_s_max,
            "read_bytes_sec_max": self.read_bytes_s_max,
            "write_bytes_sec_max": self.write_bytes_s_max,
            "total_iops_sec_max": self.total_iops_max,
            "read_iops_sec_max": self.read_iops_max,
            "write_iops_sec_max": self.write_iops_max,
            "size_iops_sec": self.iops_size_bytes,
            "group_name": self.group_name,
            "total_bytes_sec_max_length": self.total_bytes_max_length_s,
            "read_bytes_sec_max_length": self.read_bytes_max_length_s,
            "write_bytes_sec_max_length": self.write_bytes_max_length_s,
            "total_iops_sec_max_length": self.total_iops_max_length_s,
            "read_iops_sec_max_length": self.read_iops_max_length_s,
            "write_iops_sec_max_length": self.write_iops_max_length_s,
        }
        return element("iotune", [text_element(tag, limit) for tag, limit in limits.items()])


@dataclass(frozen=True, kw_only=True)
class DiskConfig(DeviceConfig):
    """A disk of the guest.

        <disk type="file" device="disk">
          <driver …/>
          <source file="/var/lib/taskvisor/instances/6ba7…/disk"/>
          <blockio logical_block_size="512" physical_block_size="4096"/>
          <target dev="vda" bus="virtio"/>
          <iotune/>
          <readonly/>
          <shareable/>
          <serial>root</serial>
          <wwn>5000c50015ea71ad</wwn>
          <boot order="1"/>
          <alias name="ua-13db53ea-…"/>
          <address …/>
        </disk>

    https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms
    """

    kind: DiskKind
    source: DiskSourceConfig
    driver: DiskDriverConfig
    device: str
    bus: DiskBus
    logical_block_bytes: int | None = None
    physical_block_bytes: int | None = None
    io_limits: IoLimitsConfig | None = None
    readonly: bool = False
    shareable: bool = False
    serial: str | None = None
    wwn: str | None = None
    boot_order: int | None = None
    alias: str | None = None
    address: DriveAddressConfig | PciAddressConfig | None = None

    def to_element(self) -> etree._Element:
        return element(
            "disk",
            [
                self.driver.to_element(),
                unless_empty(self.source.to_element()),
                self._block_sizes(),
                element("target", dev=self.device, bus=self.bus),
                element_of(self.io_limits),
                flag_element("readonly", self.readonly),
                flag_element("shareable", self.shareable),
                text_element("serial", self.serial),
                text_element("wwn", self.wwn),
                unless_empty(element("boot", order=self.boot_order)),
                unless_empty(element("alias", name=self.alias)),
                element_of(self.address),
            ],
            type=self.source.disk_type,
            device=self.kind,
        )

    def _block_sizes(self) -> etree._Element | None:
        return unless_empty(
            element(
                "blockio",
                logical_block_size=self.logical_block_bytes,
                physical_block_size=self.physical_block_bytes,
            )
        )


@dataclass(frozen=True, kw_only=True)
class CopyTargetConfig(Config):
    """The file that a running disk is copied to (virDomainBlockCopy).

        <disk type="file">
          <driver name="qemu" type="qcow2"/>
          <source file="/var/lib/taskvisor/snapshots/6ba7….part"/>
        </disk>

    https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainBlockCopy
    """

    path: str
    format: ImageFormat

    def to_element(self) -> etree._Element:
        return element(
            "disk",
            [element("driver", name="qemu", type=self.format), element("source", file=self.path)],
            type="file",
        )
