"""The directories and disks of guests on this host. Adapter of the port Disks.

    <root>/instances/<instance id>/   owner.json (owned_directories), console.log, and the disks that the plan names
    <root>/images/                    published snapshots (published_images)

Knows nothing of domains: that no guest has a disk open is for its caller to know, and for QEMU's own locks to notice.
Invariant: what bears its final name is complete; what is under way bears another.

Disks and seeds are made 0600: they hold secrets. libvirt gives them to QEMU's user when a guest starts
(`dynamic_ownership` in qemu.conf, on by default); who turns that off has to run QEMU as the worker's user.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from taskvisor.model.errors import CannotAsk, Refused, Retryable
from taskvisor.model.ids import ImageId, InstanceId
from taskvisor.model.observed import ImageFileFacts
from taskvisor.model.plan import CachedImage, DiskLayout, DiskPlan, Seed
from virt import qemu_img
from virt.data_disk import ensure_data_disk
from virt.durable import ensure_no_file, rename_durably, sync_file, write_durably
from virt.overlay import ensure_overlay
from virt.owned_directories import OwnedDirectories
from virt.progress import Progress
from virt.published_images import PublishedImages
from virt.qcow2_header import NotQcow2, read_header
from virt.seed_iso import iso_for
from virt.space import GIB, host_errors, read_space


class LocalDisks:
    """Disks as files below `root`. Holds no state of its own. Whatever fills the disk raises DoesNotFit."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._instances = OwnedDirectories(root / "instances")
        self._images = PublishedImages(root / "images")

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
            self._instances.ensure(instance_id)
            self._checked(layout.console_log).touch(mode=0o600)

    def ensure_root(self, disk: DiskPlan, base: CachedImage) -> None:
        """`disk.path` is an overlay of `base`; see `overlay.ensure_overlay`."""
        path = self._checked(disk.path)
        with host_errors(self._root, f"make {path}"):
            ensure_overlay(path, base=base, size_bytes=disk.size_bytes)

    def ensure_seed(self, disk: DiskPlan, seed: Seed) -> None:
        """`disk.path` is the seed's ISO; one that is the same already is not written again (a guest may have it open)."""
        path = self._checked(disk.path)
        content = iso_for(seed)
        with host_errors(self._root, f"make {path}"):
            if not _holds(path, content):
                write_durably(path, content, mode=0o600)

    def ensure_data_disk(self, disk: DiskPlan) -> None:
        """`disk.path` is a sparse raw file; see `data_disk.ensure_data_disk`."""
        path = self._checked(disk.path)
        if disk.content is None:
            raise Refused(f"{path} is planned to be made from something else, so it is not made empty")
        with host_errors(self._root, f"make {path}"):
            ensure_data_disk(path, content=disk.content, size_bytes=disk.size_bytes)

    def ensure_removed(self, instance_id: InstanceId) -> None:
        """Nothing of the instance is left on disk, and nothing of an earlier removal. Retryable when the disk refuses."""
        with _removal_errors(f"the directory of instance {instance_id}"):
            self._instances.ensure_removed(instance_id)

    def flatten(self, source_path: str, target_path: str, progress: Progress) -> None:
        """The qcow2 `target_path` holds the whole chain of `source_path`; it gets its name when it is complete.

        Busy while a guest, or another process, has the source open. Asked again, it is made again.
        """
        source, target = self._checked(source_path), self._checked(target_path)
        work = target.with_name(f"{target.name}.new")
        try:
            virtual_bytes = read_header(source).virtual_bytes
        except (FileNotFoundError, NotQcow2) as error:
            raise Refused(f"{source} is not a qcow2 disk that could be copied: {error}") from error
        with host_errors(self._root, f"copy {source} to {target}"):
            ensure_no_file(work)
            qemu_img.flatten(source, work, virtual_bytes=virtual_bytes, progress=progress)
            sync_file(work)
            rename_durably(work, target)

    def snapshot_path(self, image_id: ImageId) -> str:
        """Where a snapshot is copied to before it is an image; the directory is there."""
        with host_errors(self._root, f"make room for image {image_id}"):
            return str(self._images.snapshot_path(image_id))

    def publish(self, image_id: ImageId, progress: Progress) -> CachedImage:
        """The snapshot at `snapshot_path` compressed, inspected and named; again, what was published then.

        Refused when there is no snapshot, or none that passes inspection.
        """
        with host_errors(self._root, f"publish image {image_id}"):
            return self._images.publish(image_id, progress)

    def ensure_unpublished(self, image_id: ImageId) -> None:
        """Neither the copy nor the published image of that id is left. Retryable when the disk refuses."""
        with _removal_errors(f"image {image_id}"):
            self._images.ensure_unpublished(image_id)

    def list_directories(self) -> tuple[InstanceId, ...]:
        """The instances that have a directory of ours here, also one half removed."""
        return self._instances.list_all()

    def list_images(self) -> tuple[ImageFileFacts, ...]:
        """The images of which anything lies here, in the order of their ids. CannotAsk when the directory can't be read."""
        try:
            return self._images.list_all()
        except OSError as error:
            raise CannotAsk(f"cannot list the images below {self._root}: {error.strerror}") from error

    def read_free_gib(self) -> tuple[int, int]:
        """Total and free whole GiB of the file system that instances lie on."""
        space = read_space(self._instances.root)
        return space.total_bytes // GIB, space.free_bytes // GIB

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
