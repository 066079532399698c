"""Disks and CD-ROMs that are files."""

from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from taskvisor.model.plan import DiskBus
from taskvisor.model.states import ImageFormat
from virt.domain.config import Config, DeviceConfig, element


class DiskCache(StrEnum):
    """How the host's page cache takes part (https://libvirt.org/formatdomain.html, `driver cache`)."""

    NONE = "none"  # O_DIRECT: not at all
    WRITEBACK = "writeback"  # the guest's flushes reach the disk, other writes may wait in the host's memory


class DiskKind(StrEnum):
    DISK = "disk"
    CDROM = "cdrom"


@dataclass(frozen=True, kw_only=True)
class DiskConfig(DeviceConfig):
    """A disk of the guest.

        <disk type="file" device="disk">
          <driver name="qemu" type="qcow2" cache="none" discard="unmap"/>
          <source file="/var/lib/taskvisor/instances/6ba7…/disk"/>
          <target dev="vda" bus="virtio"/>
          <readonly/>
          <serial>root</serial>
          <boot order="1"/>
        </disk>

    https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms
    """

    kind: DiskKind
    path: str
    format: ImageFormat
    device: str
    bus: DiskBus
    cache: DiskCache | None = None
    discard: str | None = None
    readonly: bool = False
    serial: str | None = None
    boot_order: int | None = None

    def to_element(self) -> etree._Element:
        return element(
            "disk",
            [
                element("driver", name="qemu", type=self.format, cache=self.cache, discard=self.discard),
                element("source", file=self.path),
                element("target", dev=self.device, bus=self.bus),
                element("readonly") if self.readonly else None,
                element("serial", text=self.serial) if self.serial is not None else None,
                element("boot", order=self.boot_order) if self.boot_order is not None else None,
            ],
            type="file",
            device=self.kind,
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
