"""Which store a disk lies in. The one place that knows all kinds: another kind of store is a module and a line here."""

from dataclasses import dataclass
from pathlib import Path

from taskvisor.model.disk_backend import QCOW2_FILES, BackendKind, DiskBackend, Preallocation
from taskvisor.model.errors import Refused
from taskvisor.model.operator import CephAccess
from virt.stores.lvm import LvmStore
from virt.stores.rbd import RbdStore
from virt.stores.store import PoolStore


@dataclass(frozen=True, kw_only=True)
class StoreOptions:
    """What the operator of a host chose. `backend` is for guests to come. `thin_pool`: of its volume group; empty: none."""

    backend: DiskBackend = QCOW2_FILES
    preallocation: Preallocation = Preallocation.NONE
    thin_pool: str = ""
    ceph: CephAccess | None = None


def open_pool(backend: DiskBackend, options: StoreOptions, scratch: Path) -> PoolStore:
    """The store of a volume group or a Ceph pool, also of one that guests were built in before the host was told otherwise.

    `scratch`: where files may be made on the way, in the directory of the instance that they are of. Refused for a Ceph pool
    on a host that has no access to Ceph.
    """
    if backend.kind is BackendKind.LVM:
        return LvmStore(backend.pool, thin_pool=options.thin_pool if backend == options.backend else "")
    if options.ceph is None:
        raise Refused(
            f"disks lie in Ceph pool {backend.pool}, and this host has no Ceph; set TASKVISOR_CEPH_USER on it"
        )
    return RbdStore(backend.pool, options.ceph, scratch=scratch)
