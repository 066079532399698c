"""What the operator of a host chose for all guests on it. Plain values: what they come to as hardware is the policy's."""

from dataclasses import dataclass
from enum import StrEnum

from taskvisor.model.disk_backend import QCOW2_FILES, DiskBackend


class Dialect(StrEnum):
    """How definitions are written where it is the same to most guests."""

    OURS = "ours"
    NOVA = "nova"  # as nova-compute 13 wrote them, for tools that read those


class MetadataDialect(StrEnum):
    """Which metadata a domain bears beside our own, for tools that read Nova's."""

    OURS = "ours"  # none
    NOVA = "nova"
    NOVA_1_0 = "nova-1.0"  # as up to Nova 25: without extra specs


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """Who the guest reads in its SMBIOS tables that it is of. A `serial` of None is the instance's id."""

    manufacturer: str = "Taskvisor"
    product: str = "Taskvisor instance"
    version: str | None = None
    serial: str | None = None


@dataclass(frozen=True, kw_only=True)
class CephAccess:
    """How this host's QEMU reaches Ceph. `monitors`: their names or addresses, with a port where it is not the usual one;
    none: those of `config_file`. The key of `user` is in libvirt's secret `secret_uuid`, and nowhere of ours.
    """

    user: str
    secret_uuid: str | None = None
    monitors: tuple[str, ...] = ()
    config_file: str = "/etc/ceph/ceph.conf"


@dataclass(frozen=True, kw_only=True)
class OperatorChoices:
    """`kernel_roots`: below which directories of the host a guest may ask for its kernel; without any it may not.
    `shared_cpus`: where what is not pinned runs, beside pinned guests; `dedicated_cpus`: what only those have. `video_model` is
    libvirt's word for a card. `ceph` None: this host has none. `disk_backend` is for guests to come: those that are there keep
    theirs.
    """

    dialect: Dialect = Dialect.OURS
    metadata_dialect: MetadataDialect = MetadataDialect.OURS
    vendor: Vendor = Vendor()
    vnc_address: str = "127.0.0.1"
    vnc_keymap: str | None = None
    video_model: str = "vga"
    kernel_roots: tuple[str, ...] = ()
    dedicated_cpus: frozenset[int] = frozenset()
    shared_cpus: frozenset[int] = frozenset()
    ceph: CephAccess | None = None
    disk_backend: DiskBackend = QCOW2_FILES
