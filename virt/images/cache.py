"""Images on this host, each fetched once, named by the SHA-256 of what is in them. Adapter of the port ImageCache.

Knows nothing of instances. Invariants: a file under its final name is complete, inspected, synced and never written to
again; it got its name by link(2), which replaces nothing. A warm look-up starts no subprocess and reads no image.

A foreign image (VMDK, VDI, VHD, VHDX) is converted once, and kept as the qcow2 image that it became; its own SHA-256
leads there. An ISO is kept as it is.

When an image does not fit, what nobody used for `evict_after_s` makes room for it, and then it is tried again. What any
disk of a guest stands on is never evicted (`eviction`).

Between processes: one lock a URL (flock: the kernel gives it back when its holder dies), then one a content, then one of
what that was converted to; never the other way round.

When the server cannot be reached and the URL's image is here: it is used if the server confirmed it within the last
`stale_use_limit_s` (a day), with a warning. An image server that is down at three in the morning should not stop every
build of the fleet; what may be missed is a day's newer content under the same URL. A source that *answers* that the
image is gone (404, 410, 403) is believed at once. Who must have certain bytes declares their sha256, and then
no server is asked at all once they are here.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog
from filelock import FileLock, Timeout

from taskvisor.model.errors import Busy, CannotAsk, DoesNotFit, Refused, Retryable
from taskvisor.model.measured import EvictedImages
from taskvisor.model.plan import CachedImage
from taskvisor.model.records import ImageSource
from taskvisor.model.states import ImageFormat
from virt.durable import ensure_no_file, sync_directory, sync_file
from virt.images.cache_records import SHA256, CacheRecords, Conversion, Entry, Held, Link
from virt.images.conversion import convert
from virt.images.eviction import Evictor
from virt.images.foreign_headers import FOREIGN
from virt.images.inspection import VIRTUAL_LIMIT_BYTES, Inspected, check_declared, inspect_image
from virt.images.part_file import Fetched, PartFile, digest_of
from virt.images.source import SourceLimits, shown_url
from virt.images.sources import read_is_unchanged
from virt.progress import Progress
from virt.space import NoSpace, host_errors

log = structlog.get_logger(__name__)

LOCK_WAIT_S: Final = 2.0
"""How long a look-up waits in place for another process's fetch before it gives its worker back (Busy)."""
BUSY_DELAY_S: Final = 3.0
STALE_USE_LIMIT_S: Final = 24 * 3600.0
EVICT_AFTER_S: Final = 24 * 3600.0


class LocalImageCache:
    """The cache in the directory `root`. Holds no state of its own: every process of the host may have one."""

    def __init__(
        self,
        root: Path,
        *,
        max_image_bytes: int | None = None,
        limits: SourceLimits = SourceLimits(),  # noqa: B008 - frozen
        stale_use_limit_s: float = STALE_USE_LIMIT_S,
        virtual_limit_bytes: int = VIRTUAL_LIMIT_BYTES,
        disk_roots: tuple[Path, ...] = (),
        evict_after_s: float = EVICT_AFTER_S,
    ) -> None:
        """`max_image_bytes`, when given, stands in for that of `limits`. `virtual_limit_bytes`: of the disk that an image is.

        `disk_roots`: where disks of guests lie, which stand on images. Without any, nothing is ever evicted.
        """
        self._records = CacheRecords(root)
        self._evictor = (
            Evictor(self._records, disk_roots=disk_roots, evict_after_s=evict_after_s) if disk_roots else None
        )
        if self._evictor is not None:
            self._evictor.ensure_restored()
        self._virtual_limit_bytes = virtual_limit_bytes
        self._limits = limits if max_image_bytes is None else replace(limits, image_bytes=max_image_bytes)
        self._stale_use_limit_s = stale_use_limit_s

    def ensure_cached(self, source: ImageSource, progress: Progress) -> CachedImage:
        """The image is in the cache, complete and inspected. See the port for what is Refused.

        Busy while another process fetches the same URL; Retryable for a broken transfer, which the next call goes on
        with; DoesNotFit when the disk is full. `progress` is called with each chunk: the caller throttles.
        """
        _check_checksum(source)
        with host_errors(self._records.root, f"cache {shown_url(source.url)}"):
            held = self._read_hit(source) or self._fetched(source, progress)
        declared = source.format or self._declared_by_source(source)
        check_declared(declared, held.original, held.entry.evidence, shown_url(source.url))
        self._records.note_use(held.entry.sha256)
        if self._records.read_present(held.entry.sha256) is None:  # after the note, so that no evictor overlooks it
            raise Busy(f"image {held.entry.sha256} is being evicted, and will be fetched again", delay_s=BUSY_DELAY_S)
        return self._records.cached_image(held.entry)

    def list_cached(self) -> tuple[str, ...]:
        """The SHA-256 of each image that is here under its final name. CannotAsk when the cache can't be read."""
        try:
            return self._records.list_images()
        except OSError as error:
            raise CannotAsk(f"cannot list the images in {self._records.root}: {error.strerror}") from error

    def ensure_old_evicted(self) -> EvictedImages:
        """What nobody asked for in `evict_after_s`, and no disk stands on, is gone. CannotAsk when the disks can't be asked."""
        nothing = EvictedImages(images=0, freed_bytes=0)
        if self._evictor is None or not self._records.root.exists():
            return nothing
        return self._evictor.ensure_old_evicted()

    def _declared_by_source(self, source: ImageSource) -> ImageFormat | None:
        link = self._records.read_link(source.url)
        return link.declared if link is not None else None

    def _read_hit(self, source: ImageSource) -> Held | None:
        """The image, if it is here and the right one. A declared checksum settles that without a look at the source."""
        if source.sha256 is not None:
            return self._records.read_held(source.sha256)
        link = self._records.read_link(source.url)
        held = self._records.read_held(link.sha256) if link is not None else None
        if link is None or held is None or link.identity.validator is None:  # the last cannot be confirmed by any look
            return None
        try:
            unchanged = read_is_unchanged(source.url, link.identity, self._limits)
        except Retryable as error:
            self._check_usable_unconfirmed(source, error)
            return held
        if unchanged:
            self._records.note_confirmed(source.url)
        return held if unchanged else None

    def _check_usable_unconfirmed(self, source: ImageSource, error: Retryable) -> None:
        """Returns when the copy here may serve although the source does not answer; raises `error` when not."""
        age_s = time.time() - self._records.read_confirmed_at(source.url)
        if not 0 <= age_s <= self._stale_use_limit_s:
            raise error
        log.warning(
            "unconfirmed_image_used", url=shown_url(source.url), confirmed_s_ago=round(age_s), reason=str(error)
        )

    def _fetched(self, source: ImageSource, progress: Progress) -> Held:
        """The image, fetched now, or by the process that held the lock before us."""
        self._records.ensure_layout()
        with _locked(self._records.source_lock_path(source.url), f"{shown_url(source.url)} is being fetched"):
            held = self._read_hit(source)
            if held is not None:
                return held
            part = PartFile(self._records.part_path(source.url))
            try:
                return self._fetched_with_room(source, part, progress)
            except (Refused, DoesNotFit):
                part.discard()  # of no use to the next look-up, and in the way of whatever fills the disk
                raise

    def _fetched_with_room(self, source: ImageSource, part: PartFile, progress: Progress) -> Held:
        """Once more, when what nobody uses could make room."""
        try:
            return self._fetch_and_name(source, part, progress)
        except NoSpace as error:
            if self._evictor is None or not self._evictor.evict():
                raise
            log.info("image_fetched_again_after_eviction", url=shown_url(source.url), reason=str(error))
            return self._fetch_and_name(source, part, progress)

    def _fetch_and_name(self, source: ImageSource, part: PartFile, progress: Progress) -> Held:
        with host_errors(part.path, f"fetch {shown_url(source.url)}"):
            fetched = part.fetch(source.url, self._limits, progress)
        _check_content(source, fetched, part)
        if fetched.identity.validator is None:
            log.warning(
                "image_source_has_no_validator", url=shown_url(source.url), meaning="it is fetched for each build"
            )
        source = replace(source, format=source.format or fetched.declared)
        with _locked(self._records.content_lock_path(fetched.sha256), f"image {fetched.sha256} is being named"):
            held = self._intact(fetched.sha256, source) or self._named(source, fetched, part, progress)
        link = Link(
            sha256=fetched.sha256, identity=fetched.identity, url=shown_url(source.url), declared=fetched.declared
        )
        self._records.write_link(source.url, link)
        part.discard()
        entry = held.entry
        log.info("image_cached", url=shown_url(source.url), sha256=entry.sha256, size_bytes=entry.size_bytes)
        return held

    def _intact(self, sha256: str, source: ImageSource) -> Held | None:
        """The image of a content that is here already, from another URL; a damaged one is set aside and is not here.

        An image that is not as recorded (its mtime changed, its record is lost) is read whole before it is believed.
        Set aside, not removed: guests may stand on it.
        """
        path = self._records.image_path(sha256)
        held = self._records.read_held(sha256)
        if held is not None or not path.exists():
            return held
        if digest_of(path) == sha256:
            entry = self._recorded(path, sha256, source, self._inspected(path, source))
            return Held(entry=entry, original=entry.format)
        aside = path.with_name(f"{sha256}.damaged")
        path.rename(aside)
        log.error("damaged_image_set_aside", path=str(path), aside=str(aside))
        return None

    def _named(self, source: ImageSource, fetched: Fetched, part: PartFile, progress: Progress) -> Held:
        """The part is inspected and bears its final name, or what was made of it does."""
        inspected = self._inspected(part.path, source)
        if inspected.format in FOREIGN:
            return self._converted(source, fetched, part, inspected, progress)
        entry = self._put(part.path, fetched.sha256, source, inspected)
        return Held(entry=entry, original=entry.format)

    def _converted(
        self, source: ImageSource, fetched: Fetched, part: PartFile, original: Inspected, progress: Progress
    ) -> Held:
        """What was made of a foreign part has its own name, and the part's content leads to it."""
        work, name = self._records.converted_path(source.url), shown_url(source.url)
        convert(part.path, work, original, limit_bytes=self._limits.image_bytes, name=name, progress=progress)
        try:
            sha256 = digest_of(work)
            made = replace(source, sha256=sha256, format=ImageFormat.QCOW2)
            with _locked(self._records.content_lock_path(sha256), f"image {sha256} is being named"):
                held = self._intact(sha256, made)
                entry = held.entry if held is not None else self._put(work, sha256, made, self._inspected(work, made))
        finally:
            ensure_no_file(work)
        self._records.write_conversion(fetched.sha256, Conversion(sha256=sha256, original=original.format))
        return Held(entry=entry, original=original.format)

    def _put(self, path: Path, sha256: str, source: ImageSource, inspected: Inspected) -> Entry:
        """The file is recorded, and bears its final name too. In that order: no image is without a record."""
        path.chmod(0o444)  # QEMU may run as a user of its own; nobody writes
        entry = self._recorded(path, sha256, source, inspected)
        sync_file(path)
        self._records.image_path(sha256).hardlink_to(path)
        sync_directory(self._records.root)
        return entry

    def _inspected(self, path: Path, source: ImageSource) -> Inspected:
        return inspect_image(
            path,
            declared=source.format,
            name=shown_url(source.url),
            virtual_limit_bytes=self._virtual_limit_bytes,
        )

    def _recorded(self, path: Path, sha256: str, source: ImageSource, inspected: Inspected) -> Entry:
        """What inspection found, written down."""
        facts = path.stat()
        entry = Entry(
            sha256=sha256,
            format=inspected.format,
            evidence=inspected.evidence,
            size_bytes=facts.st_size,
            virtual_bytes=inspected.virtual_bytes,
            mtime_ns=facts.st_mtime_ns,
            url=shown_url(source.url),
            fetched_at=time.time(),
        )
        self._records.write_entry(entry)
        return entry


def _check_checksum(source: ImageSource) -> None:
    if source.sha256 is not None and not SHA256.fullmatch(source.sha256):
        raise Refused(f"{source.sha256!r} is no SHA-256; write its 64 hexadecimal digits in lower case")


def _check_content(source: ImageSource, fetched: Fetched, part: PartFile) -> None:
    """The content has the declared checksum. Pieces of several transfers that don't are fetched anew before it is said."""
    if source.sha256 in (None, fetched.sha256):
        return
    part.discard()
    message = f"{shown_url(source.url)} has SHA-256 {fetched.sha256}, and {source.sha256} was declared"
    if fetched.spliced:
        raise Retryable(f"{message}; it came in several pieces, so it is fetched anew")
    raise Refused(f"{message}; check the URL, or declare what it has now")


@contextlib.contextmanager
def _locked(path: Path, doing: str) -> Iterator[None]:
    """Held by one process at a time, and given back by the kernel when that dies. Busy when it takes longer than LOCK_WAIT_S."""
    lock = FileLock(path, timeout=LOCK_WAIT_S)
    try:
        lock.acquire()
    except Timeout as error:
        raise Busy(f"{doing} by another process of this host", delay_s=BUSY_DELAY_S) from error
    try:
        yield
    finally:
        lock.release()
