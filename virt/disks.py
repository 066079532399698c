"""The directories and disks of guests on this host. Adapter of the port Disks.

    <root>/instances/<instance id>/   owner.json (owned_directories), console.log, and the disks that the plan names;
                                      pools.json (pool_notes), when disks lie in an LVM volume group or a Ceph pool
    <root>/images/                    published snapshots (published_images)
                                      beside both, copies of their records (kept_records)

Knows nothing of domains: that no guest has a disk open is for its caller to know, and for QEMU's own locks to notice.
Invariant: what bears its final name is complete; what is under way bears another.

Disks and seeds are made 0600: they hold secrets. libvirt gives them to QEMU's user when a guest starts
(`dynamic_ownership` in qemu.conf, on by default); who turns that off has to run QEMU as the worker's user.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from taskvisor.model.disk_backend import DiskBackend
from taskvisor.model.errors import CannotAsk, Refused, Retryable
from taskvisor.model.holdings import ImageCopy, InstanceCopy
from taskvisor.model.ids import ImageId, InstanceId
from taskvisor.model.observed import DiskFileFacts, ImageFileFacts
from taskvisor.model.plan import CachedImage, ConfigDrive, DiskLayout, DiskPlan, DiskStorage, Seed
from taskvisor.model.records import Image, Instance
from taskvisor.model.snapshot import DEFAULT_ENCODING, SnapshotEncoding
from taskvisor.model.states import ImageFormat
from virt import qemu_img
from virt.disk_file import read_disk_file
from virt.durable import ensure_no_file, rename_durably, sync_file, write_durably
from virt.growth import read_growth_bytes
from virt.images.published import PublishedImages
from virt.kept_records import KeptRecords
from virt.owned_directories import OwnedDirectories
from virt.progress import Progress, ignore_progress
from virt.seeds.fat import fat_for
from virt.seeds.iso import iso_for
from virt.set_aside import ensure_set_aside_removed, list_set_aside, set_aside_path
from virt.space import GIB, host_errors, read_space, whole_gib
from virt.stores.files import FileStore
from virt.stores.opening import StoreOptions, open_pool
from virt.stores.place import pool_disk_at, pools_of
from virt.stores.pool_notes import note_pools, read_pools
from virt.stores.store import DiskStore, PoolStore, SourceDisk

DEFAULT_STORES = StoreOptions()


class LocalDisks:
    """Files below `root`, and disks where the plan puts them. Holds no state of its own. What fills up raises DoesNotFit.

    The plan of a disk says where it lies, so guests keep what they were built with; `stores` is of this host as it is now.
    """

    def __init__(self, root: Path, stores: StoreOptions = DEFAULT_STORES) -> None:
        self._root = root
        self._instances = OwnedDirectories(root / "instances")
        self._images = PublishedImages(root / "images")
        self._kept = KeptRecords(root)
        self._stores = stores
        self._files = FileStore(preallocation=stores.preallocation)

    def ensure_directory(self, layout: DiskLayout, instance_id: InstanceId) -> None:
        """The instance directory exists, with owner.json, and a console log: empty when new, kept when it is there.

        Contradiction when what bears that name is not ours; Refused when the plan puts the directory elsewhere.
        """
        directory = self._instances.path(instance_id)
        if Path(layout.directory) != directory:
            raise Refused(
                f"instance {instance_id} is planned in {layout.directory}, but on this host belongs in {directory}"
            )
        with host_errors(self._root, f"make {directory}"):
            note_pools(self._instances.ensure(instance_id), pools_of(layout))
            self._checked(layout.console_log).touch(mode=0o600)

    def ensure_root(self, disk: DiskPlan, base: CachedImage, progress: Progress = ignore_progress) -> None:
        """`disk` is made from `base` where the plan puts it; see `DiskStore.ensure_root`."""
        store = self._store_of(disk)
        with host_errors(self._root, f"make {disk.path}"):
            store.ensure_root(disk, base, progress)

    def ensure_seed(self, disk: DiskPlan, seed: Seed | ConfigDrive) -> None:
        """`disk.path` is the seed's image; one that is the same already is not written again (a guest may have it open)."""
        path = self._checked(disk.path)
        with host_errors(self._root, f"make {path}"):
            content = iso_for(seed) if disk.is_cdrom else fat_for(seed, scratch=path.with_name(f"{path.name}.tree"))
            if not _holds(path, content):
                write_durably(path, content, mode=0o600)

    def ensure_data_disk(self, disk: DiskPlan) -> None:
        """`disk` is raw, where the plan puts it; see `DiskStore.ensure_data`."""
        store = self._store_of(disk)
        with host_errors(self._root, f"make {disk.path}"):
            store.ensure_data(disk)

    def ensure_removed(self, instance_id: InstanceId) -> None:
        """Nothing of the instance is left on disk, and nothing of an earlier removal. Retryable when the disk refuses.

        The directory goes last: it notes in which volume groups and Ceph pools there may be more.
        """
        with _removal_errors(f"the directory of instance {instance_id}"):
            noted = read_pools(self._instances.path(instance_id)) if self._instances.read_exists(instance_id) else ()
        for backend in dict.fromkeys((*noted, *self._own_pools())):
            self._pool(backend).ensure_removed(instance_id)
        with _removal_errors(f"the directory of instance {instance_id}"):
            self._instances.ensure_removed(instance_id)

    def flatten(
        self, source_path: str, target_path: str, progress: Progress, *, source_format: ImageFormat = ImageFormat.QCOW2
    ) -> None:
        """The qcow2 `target_path` holds the whole chain of `source_path`; it gets its name when it is complete.

        Busy while a guest, or another process, has the source open. Asked again, it is made again.
        """
        source, target = self._source_at(source_path, source_format), self._checked(target_path)
        work = target.with_name(f"{target.name}.new")
        with host_errors(self._root, f"copy {source_path} to {target}"):
            ensure_no_file(work)
            qemu_img.flatten(
                source.name, work, virtual_bytes=source.virtual_bytes, progress=progress, source_format=source.format
            )
            sync_file(work)
            rename_durably(work, target)

    def snapshot_path(self, image_id: ImageId) -> str:
        """Where a snapshot is copied to before it is an image; the directory is there."""
        with host_errors(self._root, f"make room for image {image_id}"):
            return str(self._images.snapshot_path(image_id))

    def publish(
        self, image_id: ImageId, progress: Progress, encoding: SnapshotEncoding = DEFAULT_ENCODING
    ) -> CachedImage:
        """The snapshot at `snapshot_path` encoded, inspected and named; again, what was published then.

        Refused when there is no snapshot, or none that passes inspection.
        """
        with host_errors(self._root, f"publish image {image_id}"):
            return self._images.publish(image_id, progress, encoding)

    def ensure_unpublished(self, image_id: ImageId) -> None:
        """Neither the copy nor the published image of that id is left. Retryable when the disk refuses."""
        with _removal_errors(f"image {image_id}"):
            self._images.ensure_unpublished(image_id)
            self._kept.ensure_image_forgotten(image_id)

    def ensure_kept_beside(self, instance_id: InstanceId, file_name: str, text: str) -> None:
        """The instance's directory has the file, whole. Refused when there is no such directory, Contradiction when not ours."""
        if not self._instances.read_exists(instance_id):
            raise Refused(f"instance {instance_id} has no directory on this host to keep {file_name} in")
        path = self._instances.path(instance_id) / file_name
        with host_errors(self._root, f"write {path}"):
            write_durably(path, text.encode(), mode=0o600)

    def ensure_set_aside(self, instance_id: InstanceId, name: str) -> None:
        """The directory lies at `quarantine/<name>`, by one rename: nothing is copied, and nothing lost."""
        with _removal_errors(f"the directory of instance {instance_id} from its place"):
            self._instances.ensure_moved(instance_id, set_aside_path(self._root, name))

    def list_set_aside(self) -> tuple[str, ...]:
        """What lies in `quarantine`, in the order of names. CannotAsk when that can't be read."""
        return list_set_aside(self._root)

    def ensure_set_aside_removed(self, name: str) -> None:
        """Nothing lies at `quarantine/<name>`. Retryable when the disk refuses."""
        with _removal_errors(f"what was set aside as {name}"):
            ensure_set_aside_removed(self._root, name)

    def read_disk_file(self, path: str) -> DiskFileFacts | None:
        """What the header of a guest's disk says; see `disk_file.read_disk_file`."""
        return read_disk_file(self._checked(path))

    def list_directories(self) -> tuple[InstanceId, ...]:
        """The instances that have a directory of ours here, also one half removed."""
        return self._instances.list_all()

    def list_pool_disks(self) -> tuple[InstanceId, ...]:
        """The instances that have disks in the volume group or Ceph pool that this host was told of."""
        owners = (self._pool(backend).list_owners() for backend in self._own_pools())
        return tuple(sorted(frozenset().union(*owners)))

    def list_images(self) -> tuple[ImageFileFacts, ...]:
        """The images of which anything lies here, in the order of their ids. CannotAsk when the directory can't be read."""
        try:
            return self._images.list_all()
        except OSError as error:
            raise CannotAsk(f"cannot list the images below {self._root}: {error.strerror}") from error

    def read_free_gib(self) -> tuple[int, int]:
        """Total and free whole GiB of where the disks of guests to come are made: a file system, volume group or Ceph pool."""
        pools = [self._pool(backend) for backend in self._own_pools()]
        space = pools[0].read_space() if pools else read_space(self._instances.root)
        return space.total_bytes // GIB, space.free_bytes // GIB

    def read_growth_gib(self) -> int:
        """What the files of guests' disks may still grow by, in whole GiB, rounded up."""
        return whole_gib(read_growth_bytes(self._instances.root))

    def ensure_instance_kept(self, instance: Instance) -> None:
        """See `KeptRecords.ensure_instance_kept`."""
        self._kept.ensure_instance_kept(instance)

    def ensure_image_kept(self, image: Image) -> None:
        """See `KeptRecords.ensure_image_kept`."""
        self._kept.ensure_image_kept(image)

    def list_kept_instances(self) -> tuple[InstanceCopy, ...]:
        """See `KeptRecords.list_instances`."""
        return self._kept.list_instances()

    def list_kept_images(self) -> tuple[ImageCopy, ...]:
        """See `KeptRecords.list_images`."""
        return self._kept.list_images()

    def _store_of(self, disk: DiskPlan) -> DiskStore:
        if disk.storage is not DiskStorage.FILE:
            return self._pool(pool_disk_at(disk.path).backend)
        self._checked(disk.path)
        return self._files

    def _source_at(self, path: str, disk_format: ImageFormat) -> SourceDisk:
        if path.startswith("/") and not path.startswith("/dev/"):
            return self._files.read_source(str(self._checked(path)), disk_format)
        return self._pool(pool_disk_at(path).backend).read_source(path, disk_format)

    def _pool(self, backend: DiskBackend) -> PoolStore:
        return open_pool(backend, self._stores, self._instances.root)

    def _own_pools(self) -> tuple[DiskBackend, ...]:
        return (self._stores.backend,) if self._stores.backend.pool else ()

    def _checked(self, path: str) -> Path:
        """The path, if it lies below our root; a plan that leads elsewhere is Refused."""
        if not Path(os.path.normpath(path)).is_relative_to(self._root):
            raise Refused(f"{path} is not below {self._root}, where the disks of this host lie")
        return Path(path)


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _removal_errors(what: str) -> Iterator[None]:
    """A removal has nowhere else to go: it is tried again here."""
    try:
        yield
    except OSError as error:
        problem = f"{error.strerror} ({error.filename})"
        raise Retryable(
            f"cannot remove {what}: {problem}; see whether its file system is sound", delay_s=5.0
        ) from error
