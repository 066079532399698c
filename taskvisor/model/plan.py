"""What we decided for one guest on one host, before anything is touched: disks and VIFs, by name."""

from dataclasses import dataclass
from enum import StrEnum

from taskvisor.model.ids import InstanceId, NetworkId, PortId, SecurityGroupId
from taskvisor.model.network import AddressPair, Ipv6Mode, NetworkKind, Qos, Route
from taskvisor.model.states import ImageFormat
from taskvisor.model.tuning import VolumeTuning


class DiskRole(StrEnum):
    ROOT = "root"  # made from the image; a cdrom when that is an ISO
    SEED = "seed"  # what cloud-init reads, a cdrom
    CONFIG = "config"  # what cloud-init reads, a disk with FAT
    TARGET = "target"  # the empty disk that a guest which boots from an ISO installs on
    EPHEMERAL = "ephemeral"
    SWAP = "swap"
    VOLUME = "volume"  # lives on without the guest


class DiskBus(StrEnum):
    VIRTIO = "virtio"
    SCSI = "scsi"
    SATA = "sata"
    IDE = "ide"
    USB = "usb"


class DiskMedium(StrEnum):
    """What the guest takes it for."""

    DISK = "disk"
    CDROM = "cdrom"


class DiskStorage(StrEnum):
    """What `path` is on the host."""

    FILE = "file"
    BLOCK = "block"  # a device
    RBD = "rbd"  # an image of a Ceph pool, and the path is pool/image: QEMU itself opens it


class DiskContent(StrEnum):
    """What is on a disk that stands on no image, when its guest sees it first."""

    BLANK = "blank"
    SWAP = "swap"
    EXT4 = "ext4"
    VFAT = "vfat"


@dataclass(frozen=True, kw_only=True)
class VolumePlan:
    """A volume of a guest: connected, at `path`, before the guest starts. `serial` is what the guest sees.

    `device` is the name asked for; None: the next free one. `bus` None: that of the guest's other disks. `boot_index` counts
    from 0, as callers count; None or less than 0 is never booted from.
    """

    serial: str
    path: str
    storage: DiskStorage
    format: ImageFormat = ImageFormat.RAW
    device: str | None = None
    boot_index: int | None = None
    bus: DiskBus | None = None
    tuning: VolumeTuning | None = None


@dataclass(frozen=True, kw_only=True)
class DiskPlan:
    """One disk of a guest: the file, and how the guest sees it. `boot_index` counts from 1; None is never booted from.

    `size_bytes` is the size the guest sees; 0 means as large as what it is made from. `serial` None: its role. `content`
    None: it is made from something else (an image, a seed), or lies here without us (a volume).
    """

    role: DiskRole
    path: str
    format: ImageFormat
    bus: DiskBus
    device: str  # vda, sda, hda: the name libvirt gives as <target dev>
    size_bytes: int
    boot_index: int | None = None
    medium: DiskMedium = DiskMedium.DISK
    storage: DiskStorage = DiskStorage.FILE
    serial: str | None = None
    content: DiskContent | None = None
    tuning: VolumeTuning | None = None  # of a volume

    @property
    def is_cdrom(self) -> bool:
        """Whether the guest sees a CD-ROM. A seed always was one, also in records that do not say so."""
        return self.role is DiskRole.SEED or self.medium is DiskMedium.CDROM


@dataclass(frozen=True, kw_only=True)
class AttachedDisk:
    """A disk that is to be added to a guest that is there: its place, its serial, and its definition as XML."""

    device: str
    serial: str
    xml: str


@dataclass(frozen=True, kw_only=True)
class AttachedNic:
    """A NIC that is to be added to a guest that is there: its MAC, by which it is known, and its definition as XML."""

    mac: str
    xml: str


@dataclass(frozen=True, kw_only=True)
class DiskLayout:
    """All disks of a guest, in the order of the XML, and the directory that holds them."""

    directory: str
    console_log: str
    disks: tuple[DiskPlan, ...]

    def disk(self, role: DiskRole) -> DiskPlan:
        """The first disk of that role; KeyError when the guest has none."""
        for disk in self.disks:
            if disk.role is role:
                return disk
        raise KeyError(role)

    @property
    def seed(self) -> DiskPlan:
        """The disk that cloud-init reads; KeyError when the guest has none."""
        for disk in self.disks:
            if disk.role in (DiskRole.SEED, DiskRole.CONFIG):
                return disk
        raise KeyError(DiskRole.SEED)


@dataclass(frozen=True, kw_only=True)
class VifPlan:
    """One NIC on one host: the links to make, who may send what by them, and what to tell DHCP.

    Names are at most 15 bytes (IFNAMSIZ - 1). `tap` is what the guest's NIC is attached to (of `macvtap` that device); it
    carries `owner` in its alias (ifalias), so that a link can be told from a stranger's of the same name. `bridge` is what it
    is put on: ours, or for `existing` and `ovs` the operator's. `uplink` is this host's interface on the network's physical
    network, `tunnel_address` its own end of tunnels: None on a host that was told of none, and a kind that needs it refuses.
    """

    port_id: PortId
    instance_id: InstanceId
    network_id: NetworkId
    tap: str
    bridge: str
    mac: str
    address: str
    prefix_length: int
    gateway: str
    mtu: int
    owner: str
    cidr: str
    nat: bool
    dhcp: bool
    dns: tuple[str, ...]
    hostname: str
    queues: int = 1
    kind: NetworkKind = NetworkKind.NAT
    segment: int | None = None
    uplink: str | None = None
    tunnel_address: str | None = None
    address6: str | None = None
    cidr6: str | None = None
    gateway6: str | None = None
    ipv6_mode: Ipv6Mode = Ipv6Mode.SLAAC
    routes: tuple[Route, ...] = ()
    ntp: tuple[str, ...] = ()
    anti_spoofing: bool = True
    allowed_pairs: tuple[AddressPair, ...] = ()
    security_groups: tuple[SecurityGroupId, ...] = ()
    qos: Qos | None = None


@dataclass(frozen=True, kw_only=True)
class Seed:
    """What the guest's cloud-init reads (NoCloud): the files, as text. `vendor_data` None: there are none."""

    meta_data: str
    user_data: str
    network_config: str
    vendor_data: str | None = None


@dataclass(frozen=True, kw_only=True)
class ConfigDrive:
    """What the guest's cloud-init reads of an OpenStack config drive: the files, as text. `user_data` None: there are none."""

    meta_data: str
    network_data: str
    vendor_data: str
    vendor_data2: str
    user_data: str | None = None


@dataclass(frozen=True, kw_only=True)
class CachedImage:
    """An image in this host's cache: inspected, complete, named by the SHA-256 of its content."""

    path: str
    sha256: str
    format: ImageFormat
    size_bytes: int
    virtual_bytes: int
