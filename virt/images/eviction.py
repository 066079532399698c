"""Making room in the image cache: what nobody has used for long goes, what any disk stands on never does.

Whether a disk stands on an image is asked of the disks (`backing_names`), twice: an image is first taken out of use by
its name, then everything is looked at again, and only then is it removed. So a build that asks for it meanwhile either
is seen here (it notes its use before it looks whether the image is still there) or does not find it, and fetches anew.
When the disks cannot be asked, nothing is evicted.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog
from filelock import FileLock, Timeout

from taskvisor.model.errors import CannotAsk
from taskvisor.model.measured import EvictedImages
from virt.durable import ensure_no_file, sync_directory
from virt.images.backing_names import read_backing_names
from virt.images.cache_records import CacheRecords

log = structlog.get_logger(__name__)

ASIDE: Final = ".evicting"


class Evictor:
    """Of one cache; the disks of the guests that may stand on its images lie below `disk_roots`."""

    def __init__(self, records: CacheRecords, *, disk_roots: tuple[Path, ...], evict_after_s: float) -> None:
        self._records = records
        self._disk_roots = disk_roots
        self._evict_after_s = evict_after_s

    def evict(self) -> int:
        """Everything unused for `evict_after_s` is gone. How many bytes that freed; 0 also when the disks cannot be asked."""
        try:
            return self.ensure_old_evicted().freed_bytes
        except CannotAsk as error:
            log.warning("images_not_evicted", reason=str(error))
            return 0

    def ensure_old_evicted(self) -> EvictedImages:
        """Everything unused for `evict_after_s` is gone. CannotAsk when the disks can't be asked what stands on it."""
        self.ensure_restored()
        unfinished_bytes = sum(map(self._ensure_unfinished_gone, self._records.list_unfinished()))
        names = read_backing_names(self._disk_roots)
        doomed = [sha256 for sha256 in self._records.list_images() if self._is_unused(sha256, names)]
        freed_bytes = [freed for freed in map(self._ensure_evicted, doomed) if freed]
        evicted = EvictedImages(images=len(freed_bytes), freed_bytes=unfinished_bytes + sum(freed_bytes))
        log.info("images_evicted", images=evicted.images, freed_bytes=evicted.freed_bytes)
        return evicted

    def ensure_restored(self) -> None:
        """What a process that died had taken out of use bears its name again: it may have come into use after all."""
        for aside in sorted(self._records.root.glob(f"*{ASIDE}")):
            path = aside.with_name(aside.name.removesuffix(ASIDE))
            with _free(self._records.content_lock_path(path.name)) as free:
                if not free or not aside.exists():
                    continue
                if path.exists():  # fetched anew meanwhile: the same bytes
                    ensure_no_file(aside)
                else:
                    aside.rename(path)

    def _is_unused(self, sha256: str, names: frozenset[str]) -> bool:
        """Nobody asked for it for long, no disk names it, and it has no second name, by which a disk might."""
        path = self._records.image_path(sha256)
        try:
            return (
                self._is_old(self._records.read_used_at(sha256))
                and path.stat().st_nlink == 1
                and not any(sha256 in name for name in names)
            )
        except FileNotFoundError:  # without a record it is not known how old it is; or it went meanwhile
            return False

    def _is_old(self, used_at: float) -> bool:
        return time.time() - used_at > self._evict_after_s

    def _ensure_evicted(self, sha256: str) -> int:
        """The image is gone, unless it came into use meanwhile. How many bytes that freed."""
        path = self._records.image_path(sha256)
        aside = path.with_name(f"{sha256}{ASIDE}")
        with _free(self._records.content_lock_path(sha256)) as free:
            if not free or not path.exists():
                return 0
            path.rename(aside)
            try:
                if not self._is_old(self._records.read_used_at(sha256)) or self._is_named(sha256):
                    return 0
                size_bytes = aside.stat().st_blocks * 512
                self._records.remove_entry(sha256)
                aside.unlink()
            finally:
                if aside.exists():
                    aside.rename(path)
            sync_directory(self._records.root)
        log.info("image_evicted", sha256=sha256, freed_bytes=size_bytes)
        return size_bytes

    def _is_named(self, sha256: str) -> bool:
        return any(sha256 in name for name in read_backing_names(self._disk_roots))

    def _ensure_unfinished_gone(self, path: Path) -> int:
        """A transfer that nobody goes on with is gone."""
        with _free(self._records.unfinished_lock_path(path)) as free:
            try:
                facts = path.stat()
            except FileNotFoundError:
                return 0
            if not free or not self._is_old(facts.st_mtime):
                return 0
            ensure_no_file(path)
            ensure_no_file(path.with_name(f"{path.name}.json"))
        log.info("unfinished_transfer_removed", path=str(path))
        return facts.st_blocks * 512 if facts.st_nlink == 1 else 0


@contextlib.contextmanager
def _free(path: Path) -> Iterator[bool]:
    """True: held by us alone until the end. False: another process has it."""
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
