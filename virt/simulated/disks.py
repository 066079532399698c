"""Instance directories with marker files for disks, laid out as the real ones are. Must never know of domains.

instances/<id>/owner.json   whose directory it is; it is renamed into place, and out of it, with this file in it
pools/…                     what would be LVM volumes and RBD images
images/<id>.partial         a copy of a guest's disk, not yet an image
images/<id>.qcow2 or .raw   a published image
published/<id>.json         what is known of it
Beside directories and images lie copies of their records, as on a real host.
"""

import contextlib
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from taskvisor.model.errors import CannotAsk, Contradiction, Refused
from taskvisor.model.holdings import ImageCopy, InstanceCopy
from taskvisor.model.ids import ImageId, InstanceId
from taskvisor.model.observed import DiskFileFacts, ImageFileFacts
from taskvisor.model.plan import CachedImage, ConfigDrive, DiskLayout, DiskPlan, Seed
from taskvisor.model.records import Image, Instance
from taskvisor.model.snapshot import DEFAULT_ENCODING, SNAPSHOT_FORMATS, SnapshotEncoding
from taskvisor.model.states import ImageFormat
from virt.images.names import image_files_for
from virt.kept_records import KeptRecords
from virt.owned_directories import UUID
from virt.progress import Progress, ignore_progress
from virt.seeds.volume import volume_for
from virt.set_aside import ensure_set_aside_removed, list_set_aside, set_aside_path
from virt.simulated.disk_file import read_simulated_disk
from virt.simulated.image_file import ImageFile, copy_image, put_image_file, read_disk_file, read_image_file
from virt.simulated.pool_files import file_of, read_pool_files
from virt.simulated.world import Lock, Shelf, read_file

SIDECAR = "owner.json"
DELETED = ".deleted"
EMPTY_OVERLAY_BYTES = 196_624  # what qemu-img makes of an overlay that nobody has written to
EMPTY_DISK_BYTES = 0  # a sparse file: what a file system takes up at first is too little to count
SEED_BYTES = 374_784  # of a NoCloud ISO with small files


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Whose directory it is."""

    instance_id: InstanceId


class SimulatedDisks:
    """The port Disks, on small files below `root`, which stands for a file system of `total_gib` that is never filled."""

    def __init__(self, root: Path, *, total_gib: int = 16 * 1024) -> None:
        self._root = root
        self._total_gib = total_gib
        self._instances = root / "instances"
        self._images = root / "images"
        self._lock = Lock(root / "disks.lock")
        self._kept = KeptRecords(root)
        self._published = Shelf(root / "published", CachedImage, self._lock)
        for directory in (self._instances, self._images):
            directory.mkdir(parents=True, exist_ok=True)

    def ensure_directory(self, layout: DiskLayout, instance_id: InstanceId) -> None:
        """The instance's directory exists with its sidecar and a console log (an older log stays).

        Contradiction when a directory of that name belongs to something else; Refused when the layout puts the disks
        elsewhere than below this root, where `ensure_removed` would not find them.
        """
        directory = self._directory(instance_id)
        if Path(layout.directory) != directory:
            raise Refused(f"the disks of {instance_id} belong in {directory}, not in {layout.directory}")
        with self._lock.held():
            if not self._is_ours(instance_id):
                self._make(directory, Owner(instance_id=instance_id))
            _touch(Path(layout.console_log))

    def ensure_root(self, disk: DiskPlan, base: CachedImage, progress: Progress = ignore_progress) -> None:
        """The root disk is there, made from `base`, and at least as large as asked.

        One that is there is grown, never shrunk; one of another base is made anew, since no simulated guest writes.
        Contradiction for what is there and no disk; Refused when `base` is larger than the size asked, or is not there.
        """
        if disk.size_bytes and base.virtual_bytes > disk.size_bytes:
            asked, needed = disk.size_bytes, base.virtual_bytes
            raise Refused(
                f"cannot make {disk.path}: its image needs {needed} bytes and the disk has {asked}; ask for more"
            )
        path = self._disk_path(disk.path)
        with self._lock.held():
            there = _read_disk(path)
            grown_bytes = there.virtual_bytes if there is not None and there.made_from == base.path else 0
            overlay = ImageFile(
                made_from=base.path,
                virtual_bytes=max(disk.size_bytes, base.virtual_bytes, grown_bytes),
                size_bytes=EMPTY_OVERLAY_BYTES,
                format=disk.format,
            )
            if there != overlay:
                read_image_file(Path(base.path))  # Refused when it is not there
                put_image_file(self._lock, path, overlay)
        if disk.format is not ImageFormat.QCOW2:  # an overlay is made at once, of which there is nothing to tell
            progress(overlay.virtual_bytes, overlay.virtual_bytes)

    def ensure_seed(self, disk: DiskPlan, seed: Seed | ConfigDrive) -> None:
        """The seed's files are kept as one JSON file in place of the image, so that a test can read them."""
        volume_for(seed)  # Refused when they are too large
        with self._lock.held():
            self._lock.put_file(self._checked(disk.path), msgspec.json.encode(seed))

    def ensure_data_disk(self, disk: DiskPlan) -> None:
        """A simulated disk that says what it held when it was made. Contradiction for what is there and another's."""
        path = self._disk_path(disk.path)
        if disk.content is None:
            raise Refused(f"{path} is planned to be made from something else, so it is not made empty")
        fresh = ImageFile(
            made_from=f"nothing: {disk.content}",
            virtual_bytes=disk.size_bytes,
            size_bytes=EMPTY_DISK_BYTES,
            format=disk.format,
        )
        with self._lock.held():
            there = _read_disk(path)
            if there is None:
                put_image_file(self._lock, path, fresh)
            elif there.virtual_bytes != disk.size_bytes:
                raise Contradiction(f"{path} is there, but not {disk.size_bytes} bytes large; left alone: move it away")

    def ensure_removed(self, instance_id: InstanceId) -> None:
        """Nothing of the instance is left on disk. Contradiction when the directory is not ours; it is left alone."""
        directory = self._directory(instance_id)
        with self._lock.held():
            for path, owner in read_pool_files(self._root).items():
                if owner == instance_id:
                    path.unlink()
            doomed = directory.with_name(f"{instance_id}{DELETED}")
            _remove_tree(doomed)  # of an earlier call that was interrupted
            if self._is_ours(instance_id):
                directory.rename(doomed)
                _remove_tree(doomed)
            _remove_tree(_beside(directory))

    def flatten(
        self, source_path: str, target_path: str, progress: Progress, *, source_format: ImageFormat = ImageFormat.QCOW2
    ) -> None:
        """`target_path` is a simulated image made from `source_path`, which says itself of what format it is.

        Refused when there is no such source.
        """
        del source_format
        with self._lock.held():
            copy = copy_image(self._lock, self._disk_path(source_path), self._checked(target_path))
        progress(copy.size_bytes, copy.size_bytes)

    def snapshot_path(self, image_id: ImageId) -> str:
        """Where the copy of a disk is written to before it is an image."""
        return str(self._images / f"{_uuid(image_id)}.partial")

    def publish(
        self, image_id: ImageId, progress: Progress, encoding: SnapshotEncoding = DEFAULT_ENCODING
    ) -> CachedImage:
        """The image made of the copy at `snapshot_path`; again, the same. Refused when there is neither."""
        with self._lock.held():
            published = self._published.read(image_id)
            if published is None:
                published = self._publish(image_id, encoding.format)
            Path(self.snapshot_path(image_id)).unlink(missing_ok=True)
        progress(published.size_bytes, published.size_bytes)
        return published

    def ensure_unpublished(self, image_id: ImageId) -> None:
        """Neither the copy nor the image nor what is known of it is left."""
        with self._lock.held():
            self._published.remove(image_id)
            for kind in SNAPSHOT_FORMATS:
                self._image_path(image_id, kind).unlink(missing_ok=True)
            Path(self.snapshot_path(image_id)).unlink(missing_ok=True)
            self._kept.ensure_image_forgotten(image_id)

    def ensure_kept_beside(self, instance_id: InstanceId, file_name: str, text: str) -> None:
        """The instance's directory has the file. Refused when there is no such directory, Contradiction when it is not ours."""
        with self._lock.held():
            if not self._is_ours(instance_id):
                raise Refused(f"instance {instance_id} has no directory on this host to keep {file_name} in")
            self._lock.put_file(self._directory(instance_id) / file_name, text.encode())

    def ensure_set_aside(self, instance_id: InstanceId, name: str) -> None:
        """See the port: by one rename, as the real thing."""
        target = set_aside_path(self._root, name)
        with self._lock.held():
            if not self._is_ours(instance_id):
                return
            if target.exists():
                raise Refused(
                    f"{target} is there already; {self._directory(instance_id)} was made since, and is left alone"
                )
            target.parent.mkdir(exist_ok=True)
            self._directory(instance_id).rename(target)

    def list_set_aside(self) -> tuple[str, ...]:
        """See the port."""
        return list_set_aside(self._root)

    def ensure_set_aside_removed(self, name: str) -> None:
        """See the port."""
        with self._lock.held():
            ensure_set_aside_removed(self._root, name)

    def read_disk_file(self, path: str) -> DiskFileFacts | None:
        """What the simulated disk says of itself; a seed, which is none, is raw. None when no file is there."""
        return read_simulated_disk(self._checked(path))

    def list_directories(self) -> tuple[InstanceId, ...]:
        """The instances that have a directory of ours here, also one half removed, in the order of their ids."""
        try:
            names = {path.name for path in self._instances.iterdir()}
        except OSError as error:
            raise CannotAsk(f"cannot list {self._instances}: {error.strerror}") from error
        doomed = {name.removesuffix(DELETED) for name in names if name.endswith(DELETED)}
        owned = {name for name in names if UUID.fullmatch(name) and self._owner(InstanceId(name)) is not None}
        return tuple(InstanceId(name) for name in sorted(owned | doomed))

    def list_pool_disks(self) -> tuple[InstanceId, ...]:
        """The instances that have a file in place of a volume or an RBD image."""
        return tuple(sorted(set(read_pool_files(self._root).values())))

    def list_images(self) -> tuple[ImageFileFacts, ...]:
        """The images of which a copy or a published file lies here, in the order of their ids."""
        try:
            names = {path.name for path in self._images.iterdir()}
        except OSError as error:
            raise CannotAsk(f"cannot list {self._images}: {error.strerror}") from error
        return image_files_for({*names, *(f"{key}.json" for key in self._published.list_keys())})

    def ensure_instance_kept(self, instance: Instance) -> None:
        """As on a real host."""
        self._kept.ensure_instance_kept(instance)

    def ensure_image_kept(self, image: Image) -> None:
        """As on a real host."""
        self._kept.ensure_image_kept(image)

    def list_kept_instances(self) -> tuple[InstanceCopy, ...]:
        """As on a real host."""
        return self._kept.list_instances()

    def list_kept_images(self) -> tuple[ImageCopy, ...]:
        """As on a real host."""
        return self._kept.list_images()

    def read_free_gib(self) -> tuple[int, int]:
        """Total and free GiB: as much as was said at first, since simulated disks take no room."""
        return self._total_gib, self._total_gib

    def read_growth_gib(self) -> int:
        """Simulated disks take no room, and never will."""
        return 0

    def _directory(self, instance_id: InstanceId) -> Path:
        return self._instances / _uuid(instance_id)

    def _image_path(self, image_id: ImageId, kind: ImageFormat) -> Path:
        return self._images / f"{_uuid(image_id)}.{kind}"

    def _owner(self, instance_id: InstanceId) -> Owner | None:
        directory = self._directory(instance_id)
        if not directory.is_dir():
            return None
        content = read_file(directory / SIDECAR)
        return None if content is None else msgspec.json.decode(content, type=Owner)

    def _is_ours(self, instance_id: InstanceId) -> bool:
        """True when the directory is there and ours; False when it is not there; else Contradiction."""
        directory = self._directory(instance_id)
        owner = self._owner(instance_id)
        if owner == Owner(instance_id=instance_id):
            return True
        if owner is not None:
            raise Contradiction(f"{directory} belongs to instance {owner.instance_id}; left alone")
        if directory.exists():
            raise Contradiction(f"{directory} has no {SIDECAR}, so it is not known to be ours; left alone")
        return False

    def _checked(self, path: str) -> Path:
        if not Path(os.path.normpath(path)).is_relative_to(self._root):
            raise Refused(f"{path} is not below {self._root}, where the disks of this host lie")
        return Path(path)

    def _disk_path(self, path: str) -> Path:
        """The file of a guest's disk; with the directories above it, when it stands for a volume or an RBD image."""
        file = self._checked(str(file_of(self._root, path) or path))
        if str(file) != path:
            file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def _make(self, directory: Path, owner: Owner) -> None:
        """With its sidecar from the first moment."""
        aside = _beside(directory)
        aside.mkdir(exist_ok=True)
        self._lock.put_file(aside / SIDECAR, msgspec.json.encode(owner))
        aside.rename(directory)

    def _publish(self, image_id: ImageId, kind: ImageFormat) -> CachedImage:
        path = self._image_path(image_id, kind)
        copy = replace(read_image_file(Path(self.snapshot_path(image_id))), format=kind)
        image = CachedImage(
            path=str(path),
            sha256=put_image_file(self._lock, path, copy),
            format=copy.format,
            size_bytes=copy.size_bytes,
            virtual_bytes=copy.virtual_bytes,
        )
        self._published.put(image_id, image)
        return image


def _uuid(name: str) -> str:
    """The name, if it is an id of ours: it becomes a path."""
    if not UUID.fullmatch(name):
        raise Refused(f"{name!r} is no id of an instance or image, so it names no file")
    return name


def _read_disk(path: Path) -> ImageFile | None:
    """The simulated disk at `path`; None when there is none."""
    if not path.exists():
        return None
    try:
        return read_disk_file(path)
    except Refused as error:
        raise Contradiction(f"{path} is there but is no disk ({error}); left alone: move it away") from error


def _beside(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.new")


def _remove_tree(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def _touch(path: Path) -> None:
    try:
        path.touch()
    except OSError as error:
        raise CannotAsk(f"cannot make {path}: {error.strerror}") from error
