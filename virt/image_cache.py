"""Images on this host, each fetched once, named by the SHA-256 of what is in them. Adapter of the port ImageCache.

Knows nothing of instances. Invariants: a file under its final name is complete, inspected, synced and never written to
again; it got its name by link(2), which replaces nothing. A warm look-up starts no subprocess and reads no image.

Between processes: one lock a URL (flock: the kernel gives it back when its holder dies), then one a content; never the
other way round.

When the server cannot be reached and the URL's image is here: it is used if the server confirmed it within the last
`stale_use_limit_s` (a day), with a warning. An image server that is down at three in the morning should not stop every
build of the fleet; what may be missed is a day's newer content under the same URL. A source that *answers* that the
image is gone (404, 410, 403) is believed at once. Who must have certain bytes declares their sha256, and then
no server is asked at all once they are here.
"""

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog
from filelock import FileLock, Timeout

from taskvisor.model.errors import Busy, DoesNotFit, Refused, Retryable
from taskvisor.model.plan import CachedImage
from taskvisor.model.records import ImageSource
from virt.cache_records import CacheRecords, Entry, Link
from virt.durable import sync_directory, sync_file
from virt.image_source import SourceLimits, read_is_unchanged, shown_url
from virt.inspection import check_declared, inspect_image
from virt.part_file import Fetched, PartFile, digest_of
from virt.progress import Progress
from virt.space import host_errors

log = structlog.get_logger(__name__)

LOCK_WAIT_S: Final = 2.0
"""How long a look-up waits in place for another process's fetch before it gives its worker back (Busy)."""
BUSY_DELAY_S: Final = 3.0
STALE_USE_LIMIT_S: Final = 24 * 3600.0
_SHA256 = re.compile(r"[0-9a-f]{64}")


class LocalImageCache:
    """The cache in the directory `root`. Holds no state of its own: every process of the host may have one."""

    def __init__(
        self,
        root: Path,
        *,
        max_image_bytes: int | None = None,
        limits: SourceLimits = SourceLimits(),  # noqa: B008 - frozen
        stale_use_limit_s: float = STALE_USE_LIMIT_S,
    ) -> None:
        """`max_image_bytes`, when given, stands in for that of `limits`."""
        self._records = CacheRecords(root)
        self._limits = limits if max_image_bytes is None else replace(limits, image_bytes=max_image_bytes)
        self._stale_use_limit_s = stale_use_limit_s

    def ensure_cached(self, source: ImageSource, progress: Progress) -> CachedImage:
        """The image is in the cache, complete and inspected. See the port for what is Refused.

        Busy while another process fetches the same URL; Retryable for a broken transfer, which the next call goes on
        with; DoesNotFit when the disk is full. `progress` is called with each chunk: the caller throttles.
        """
        _check_checksum(source)
        with host_errors(self._records.root, f"cache {shown_url(source.url)}"):
            entry = self._read_hit(source) or self._fetched(source, progress)
        check_declared(source.format, entry.format, entry.evidence, shown_url(source.url))
        self._records.note_use(entry.sha256)
        return self._records.cached_image(entry)

    def _read_hit(self, source: ImageSource) -> Entry | None:
        """The entry, if it is here and the right one. A declared checksum settles that without a look at the source."""
        if source.sha256 is not None:
            return self._records.read_present(source.sha256)
        link = self._records.read_link(source.url)
        entry = self._records.read_present(link.sha256) if link is not None else None
        if link is None or entry is None or link.identity.validator is None:  # the last cannot be confirmed by any look
            return None
        try:
            unchanged = read_is_unchanged(source.url, link.identity, self._limits)
        except Retryable as error:
            self._check_usable_unconfirmed(source, error)
            return entry
        if unchanged:
            self._records.note_confirmed(source.url)
        return entry if unchanged else None

    def _check_usable_unconfirmed(self, source: ImageSource, error: Retryable) -> None:
        """Returns when the copy here may serve although the source does not answer; raises `error` when not."""
        age_s = time.time() - self._records.read_confirmed_at(source.url)
        if not 0 <= age_s <= self._stale_use_limit_s:
            raise error
        log.warning(
            "unconfirmed_image_used", url=shown_url(source.url), confirmed_s_ago=round(age_s), reason=str(error)
        )

    def _fetched(self, source: ImageSource, progress: Progress) -> Entry:
        """The entry, fetched now, or by the process that held the lock before us."""
        self._records.ensure_layout()
        with _locked(self._records.source_lock_path(source.url), f"{shown_url(source.url)} is being fetched"):
            entry = self._read_hit(source)
            if entry is not None:
                return entry
            part = PartFile(self._records.part_path(source.url))
            try:
                return self._fetch_and_name(source, part, progress)
            except (Refused, DoesNotFit):
                part.discard()  # of no use to the next look-up, and in the way of whatever fills the disk
                raise

    def _fetch_and_name(self, source: ImageSource, part: PartFile, progress: Progress) -> Entry:
        with host_errors(part.path, f"fetch {shown_url(source.url)}"):
            fetched = part.fetch(source.url, self._limits, progress)
        _check_content(source, fetched, part)
        if fetched.identity.validator is None:
            log.warning(
                "image_source_has_no_validator", url=shown_url(source.url), meaning="it is fetched for each build"
            )
        with _locked(self._records.content_lock_path(fetched.sha256), f"image {fetched.sha256} is being named"):
            entry = self._intact(fetched.sha256, source) or self._named(source, fetched, part)
        link = Link(sha256=fetched.sha256, identity=fetched.identity, url=shown_url(source.url))
        self._records.write_link(source.url, link)
        part.discard()
        log.info("image_cached", url=shown_url(source.url), sha256=entry.sha256, size_bytes=entry.size_bytes)
        return entry

    def _intact(self, sha256: str, source: ImageSource) -> Entry | None:
        """The entry of an image that is here already, from another URL; a damaged one is set aside and is not here.

        An image that is not as recorded (its mtime changed, its record is lost) is read whole before it is believed.
        Set aside, not removed: guests may stand on it.
        """
        path = self._records.image_path(sha256)
        entry = self._records.read_present(sha256)
        if entry is not None or not path.exists():
            return entry
        if digest_of(path) == sha256:
            return self._recorded(path, sha256, source)
        aside = path.with_name(f"{sha256}.damaged")
        path.rename(aside)
        log.error("damaged_image_set_aside", path=str(path), aside=str(aside))
        return None

    def _named(self, source: ImageSource, fetched: Fetched, part: PartFile) -> Entry:
        """The part is inspected, recorded, and bears its final name. In that order: no image is without a record."""
        part.path.chmod(0o444)  # QEMU may run as a user of its own; nobody writes
        entry = self._recorded(part.path, fetched.sha256, source)
        sync_file(part.path)
        self._records.image_path(fetched.sha256).hardlink_to(part.path)
        sync_directory(self._records.root)
        return entry

    def _recorded(self, path: Path, sha256: str, source: ImageSource) -> Entry:
        """What inspection finds, written down."""
        inspected = inspect_image(path, declared=source.format, name=shown_url(source.url))
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
    if source.sha256 is not None and not _SHA256.fullmatch(source.sha256):
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
