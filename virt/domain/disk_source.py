"""Where the bytes of a disk are: a file, a block device, or a server on the network."""

from abc import abstractmethod
from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from virt.domain.config import Config, element, element_of, unless_empty


class DiskType(StrEnum):
    """libvirt's `type` of a disk."""

    FILE = "file"
    BLOCK = "block"
    NETWORK = "network"


class SecretType(StrEnum):
    """What a secret of libvirt's is for; it must have been defined for that use."""

    CEPH = "ceph"
    ISCSI = "iscsi"


@dataclass(frozen=True, kw_only=True)
class LuksConfig(Config):
    """The disk is encrypted; QEMU decrypts it with a secret that libvirt holds.

        <encryption format="luks">
          <secret type="passphrase" uuid="…"/>
        </encryption>

    https://libvirt.org/formatstorageencryption.html
    """

    secret_uuid: str

    def to_element(self) -> etree._Element:
        return element("encryption", [element("secret", type="passphrase", uuid=self.secret_uuid)], format="luks")


@dataclass(frozen=True, kw_only=True)
class DiskAuthConfig(Config):
    """Who we are to the storage. The secret's value is libvirt's and never in the domain.

        <auth username="nova">
          <secret type="ceph" uuid="…"/>
        </auth>

    https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms
    """

    username: str
    secret_type: SecretType
    secret_uuid: str

    def to_element(self) -> etree._Element:
        return element(
            "auth", [element("secret", type=self.secret_type, uuid=self.secret_uuid)], username=self.username
        )


@dataclass(frozen=True, kw_only=True)
class StorageHostConfig(Config):
    """A server of the storage.

    <host name="10.0.0.9" port="6789"/>
    """

    name: str
    port: int | None = None

    def to_element(self) -> etree._Element:
        return element("host", name=self.name, port=self.port)


@dataclass(frozen=True, kw_only=True)
class StorageSocketConfig(Config):
    """A server of the storage on this host.

    <host transport="unix" socket="/run/nbd.sock"/>
    """

    path: str

    def to_element(self) -> etree._Element:
        return element("host", transport="unix", socket=self.path)


class DiskSourceConfig(Config):
    """The `<source>` of a disk, and the disk's `type` that goes with it."""

    @property
    @abstractmethod
    def disk_type(self) -> DiskType: ...


@dataclass(frozen=True, kw_only=True)
class FileSourceConfig(DiskSourceConfig):
    """A file. Without a path: a drive with nothing in it.

    <source file="/var/lib/taskvisor/instances/6ba7…/disk"/>
    """

    path: str | None
    encryption: LuksConfig | None = None

    @property
    def disk_type(self) -> DiskType:
        return DiskType.FILE

    def to_element(self) -> etree._Element:
        return element("source", [element_of(self.encryption)], file=self.path)


@dataclass(frozen=True, kw_only=True)
class BlockSourceConfig(DiskSourceConfig):
    """A block device of the host.

    <source dev="/dev/disk/by-path/ip-…-lun-0"/>
    """

    device: str
    encryption: LuksConfig | None = None

    @property
    def disk_type(self) -> DiskType:
        return DiskType.BLOCK

    def to_element(self) -> etree._Element:
        return element("source", [element_of(self.encryption)], dev=self.device)


@dataclass(frozen=True, kw_only=True)
class RbdSourceConfig(DiskSourceConfig):
    """An image of a Ceph pool; `name` is pool/image.

        <source protocol="rbd" name="vms/6ba7…_disk">
          <host …/>
          <snapshot name="…"/>
          <config file="/etc/ceph/ceph.conf"/>
          <auth …/>
        </source>

    https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms
    """

    name: str
    hosts: tuple[StorageHostConfig, ...] = ()
    snapshot: str | None = None
    config_file: str | None = None
    auth: DiskAuthConfig | None = None
    encryption: LuksConfig | None = None

    @property
    def disk_type(self) -> DiskType:
        return DiskType.NETWORK

    def to_element(self) -> etree._Element:
        return element(
            "source",
            [
                *(host.to_element() for host in self.hosts),
                unless_empty(element("snapshot", name=self.snapshot)),
                unless_empty(element("config", file=self.config_file)),
                element_of(self.auth),
                element_of(self.encryption),
            ],
            protocol="rbd",
            name=self.name,
        )


@dataclass(frozen=True, kw_only=True)
class IscsiSourceConfig(DiskSourceConfig):
    """A LUN that QEMU itself logs in to; `name` is target/LUN.

        <source protocol="iscsi" name="iqn.2010-10.org.openstack:volume-13db…/1">
          <host …/>
          <initiator>
            <iqn name="iqn.1993-08.org.debian:01:node1"/>
          </initiator>
          <auth …/>
        </source>

    https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms
    """

    name: str
    host: StorageHostConfig
    auth: DiskAuthConfig | None = None
    initiator: str | None = None
    encryption: LuksConfig | None = None

    @property
    def disk_type(self) -> DiskType:
        return DiskType.NETWORK

    def to_element(self) -> etree._Element:
        initiator = element("initiator", [unless_empty(element("iqn", name=self.initiator))])
        return element(
            "source",
            [
                self.host.to_element(),
                unless_empty(initiator),
                element_of(self.auth),
                element_of(self.encryption),
            ],
            protocol="iscsi",
            name=self.name,
        )


@dataclass(frozen=True, kw_only=True)
class NbdSourceConfig(DiskSourceConfig):
    """An export of an NBD server.

        <source protocol="nbd" name="export">
          <host …/>
        </source>

    https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms
    """

    host: StorageHostConfig | StorageSocketConfig
    name: str | None = None
    encryption: LuksConfig | None = None

    @property
    def disk_type(self) -> DiskType:
        return DiskType.NETWORK

    def to_element(self) -> etree._Element:
        return element(
            "source",
            [self.host.to_element(), element_of(self.encryption)],
            protocol="nbd",
            name=self.name,
        )
