"""Where the bytes of a disk are, as libvirt is told: by the plan, and for Ceph by what the operator said of it."""

from urllib.parse import urlsplit

from taskvisor.model.errors import DoesNotFit
from taskvisor.model.operator import CephAccess
from taskvisor.model.plan import DiskPlan, DiskStorage
from virt.domain.disk_source import (
    BlockSourceConfig,
    DiskAuthConfig,
    DiskSourceConfig,
    FileSourceConfig,
    RbdSourceConfig,
    SecretType,
    StorageHostConfig,
)


def source_for(disk: DiskPlan, ceph: CephAccess | None) -> DiskSourceConfig:
    """Where libvirt finds the disk. DoesNotFit for a disk in Ceph on a host that has no access to any."""
    match disk.storage:
        case DiskStorage.FILE:
            return FileSourceConfig(path=disk.path)
        case DiskStorage.BLOCK:
            return BlockSourceConfig(device=disk.path)
        case DiskStorage.RBD:
            return _rbd_source_for(disk, ceph)


def _rbd_source_for(disk: DiskPlan, ceph: CephAccess | None) -> RbdSourceConfig:
    if ceph is None:
        raise DoesNotFit(f"disk {disk.path} is in Ceph, and this host has none; set TASKVISOR_CEPH_USER on it")
    return RbdSourceConfig(
        name=disk.path,
        hosts=tuple(_storage_host_for(monitor) for monitor in ceph.monitors),
        config_file=None if ceph.monitors else ceph.config_file,
        auth=_auth_for(ceph),
    )


def _auth_for(ceph: CephAccess) -> DiskAuthConfig | None:
    if ceph.secret_uuid is None:
        return None
    return DiskAuthConfig(username=ceph.user, secret_type=SecretType.CEPH, secret_uuid=ceph.secret_uuid)


def _storage_host_for(monitor: str) -> StorageHostConfig:
    """Of `10.0.0.1`, `10.0.0.1:6789` or `[fd00::3]:6789`."""
    at = urlsplit(f"//{monitor}")
    return StorageHostConfig(name=at.hostname or monitor, port=at.port)
