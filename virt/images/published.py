"""Snapshots on their way to be images, and the images they became. Knows nothing of the guests they were taken of.

<root>/<image id>.partial       the copy, as a guest's disk gave it: big, not yet an image
<root>/<image id>.compressing   being written
<root>/<image id>.json          what is known of the published image, written before it gets its name
<root>/<image id>.qcow2 or .raw published: encoded as asked, inspected, synced, never written to again
"""

import contextlib
import os
from pathlib import Path

import msgspec
import structlog

from taskvisor.model.errors import Contradiction, Refused
from taskvisor.model.ids import ImageId
from taskvisor.model.observed import ImageFileFacts
from taskvisor.model.plan import CachedImage
from taskvisor.model.snapshot import SNAPSHOT_FORMATS, Compression, SnapshotEncoding
from taskvisor.model.states import ImageFormat
from virt import qemu_img
from virt.durable import ensure_directory, ensure_no_file, rename_durably, sync_directory, sync_file, write_durably
from virt.images.inspection import inspect_image
from virt.images.names import image_files_for
from virt.images.part_file import digest_of
from virt.owned_directories import UUID
from virt.progress import Progress
from virt.qcow2_header import NotQcow2, read_header

log = structlog.get_logger(__name__)

AS_COPIED = SnapshotEncoding(format=ImageFormat.QCOW2, compression=Compression.NONE)


class PublishedImages:
    """The images below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def snapshot_path(self, image_id: ImageId) -> Path:
        """Where the copy goes; its directory is there."""
        ensure_directory(self._root, mode=0o711)
        return self._named(image_id, "partial")

    def publish(self, image_id: ImageId, progress: Progress, encoding: SnapshotEncoding) -> CachedImage:
        """The image, made of the copy; of an image that is published already, what was found then."""
        image = self._read_published(image_id)
        if image is None:
            image = self._made(image_id, progress, encoding)
            log.info("snapshot_published", image_id=image_id, sha256=image.sha256, size_bytes=image.size_bytes)
        ensure_no_file(self._named(image_id, "partial"))
        return image

    def ensure_unpublished(self, image_id: ImageId) -> None:
        """Nothing of the image is left. The image goes before its record: an image without one would be no one's."""
        for suffix in ("qcow2", "raw", "json", "json.new", "compressing", "partial", "partial.new"):
            ensure_no_file(self._named(image_id, suffix))
        with contextlib.suppress(FileNotFoundError):
            sync_directory(self._root)

    def list_all(self) -> tuple[ImageFileFacts, ...]:
        """The images of which any file lies here; none while nothing was ever taken."""
        if not self._root.exists():
            return ()
        return image_files_for(path.name for path in self._root.iterdir())

    def _made(self, image_id: ImageId, progress: Progress, encoding: SnapshotEncoding) -> CachedImage:
        target, work = self._named(image_id, encoding.format), self._encoded(image_id, progress, encoding)
        inspected = inspect_image(work, declared=encoding.format, name=f"snapshot {image_id}")
        os.chown(work, os.geteuid(), os.getegid())  # a live copy is QEMU's
        work.chmod(0o444)
        sync_file(work)
        image = CachedImage(
            path=str(target),
            sha256=digest_of(work),
            format=encoding.format,  # a raw disk that holds an ISO is a disk all the same
            size_bytes=work.stat().st_size,
            virtual_bytes=inspected.virtual_bytes,
        )
        write_durably(self._named(image_id, "json"), msgspec.json.encode(image))
        rename_durably(work, target)
        return image

    def _encoded(self, image_id: ImageId, progress: Progress, encoding: SnapshotEncoding) -> Path:
        """The file that is to be published: the copy itself where that is as asked."""
        copy, work = self._named(image_id, "partial"), self._named(image_id, "compressing")
        try:
            virtual_bytes = read_header(copy).virtual_bytes
        except FileNotFoundError as error:
            raise Refused(
                f"{copy} is not there, so image {image_id} cannot be made; take the snapshot again"
            ) from error
        except NotQcow2 as error:
            raise Refused(f"{copy} is no qcow2 image ({error}); take the snapshot again") from error
        if encoding == AS_COPIED:
            progress(virtual_bytes, virtual_bytes)
            return copy
        ensure_no_file(work)
        qemu_img.encode(copy, work, encoding, virtual_bytes=virtual_bytes, progress=progress)
        return work

    def _read_published(self, image_id: ImageId) -> CachedImage | None:
        """What the record says of an image that bears its final name; None when there is none yet."""
        paths = (self._named(image_id, kind) for kind in SNAPSHOT_FORMATS)
        path = next((path for path in paths if path.exists()), None)
        if path is None:
            return None
        try:
            image = msgspec.json.decode(self._named(image_id, "json").read_bytes(), type=CachedImage)
        except (FileNotFoundError, msgspec.DecodeError) as error:
            raise Contradiction(
                f"{path} is there without a readable record beside it; left alone: move it away"
            ) from error
        if path.stat().st_size != image.size_bytes:
            raise Contradiction(
                f"{path} is not the {image.size_bytes} bytes that were published; left alone: move it away"
            )
        return image

    def _named(self, image_id: ImageId, suffix: str) -> Path:
        if not UUID.fullmatch(image_id):
            raise Refused(f"{image_id!r} is no image id, so it names no file")
        return self._root / f"{image_id}.{suffix}"
