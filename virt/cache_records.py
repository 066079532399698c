"""What the image cache writes down beside its files, and reads back. Knows the names and the JSON, decides nothing.

    <root>/<sha256>            an image, 0444, named by its content
    <root>/<sha256>.json       its Entry; the mtime of this file is when the image was last asked for
    <root>/sources/<key>.json  which content a URL had, and when that was last confirmed (the mtime)
    <root>/sources/<key>.part  a transfer under way (part_file)
    <root>/locks/<key>.lock    held by who fetches that URL, or names that content

`key` is the SHA-256 of the URL: a URL may be long, and may hold secrets.
"""

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from taskvisor.model.plan import CachedImage
from taskvisor.model.states import ImageFormat
from virt.durable import ensure_directory, write_durably
from virt.image_source import SourceIdentity
from virt.inspection import Evidence

SCHEMA = 1

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An image in the cache. `mtime_ns` is that of the file when it was put there: an image is never written to."""

    sha256: str
    format: ImageFormat
    evidence: Evidence
    size_bytes: int
    virtual_bytes: int
    mtime_ns: int
    url: str  # the first it came from, without secrets
    fetched_at: float
    schema: int = SCHEMA


@dataclass(frozen=True, kw_only=True)
class Link:
    """Which content a URL had when it was last looked at."""

    sha256: str
    identity: SourceIdentity
    url: str
    schema: int = SCHEMA


class CacheRecords:
    """The records of one cache directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def ensure_layout(self) -> None:
        """The directories are there. QEMU's user walks through the images' (and lists none), and stays out of the others."""
        ensure_directory(self.root, mode=0o711)
        ensure_directory(self.root / "sources", mode=0o700)
        ensure_directory(self.root / "locks", mode=0o700)

    def image_path(self, sha256: str) -> Path:
        return self.root / sha256

    def part_path(self, url: str) -> Path:
        return self.root / "sources" / f"{_key(url)}.part"

    def source_lock_path(self, url: str) -> Path:
        return self.root / "locks" / f"{_key(url)}.lock"

    def content_lock_path(self, sha256: str) -> Path:
        return self.root / "locks" / f"{sha256}.content.lock"

    def read_entry(self, sha256: str) -> Entry | None:
        """The record of an image; None when there is none that this version can read."""
        return _read(self._entry_path(sha256), Entry)

    def read_present(self, sha256: str) -> Entry | None:
        """The record, if the image is there and untouched since it was put there (its size and mtime say so)."""
        entry = self.read_entry(sha256)
        return entry if entry is not None and self._is_untouched(entry) else None

    def write_entry(self, entry: Entry) -> None:
        write_durably(self._entry_path(entry.sha256), msgspec.json.encode(entry))

    def note_use(self, sha256: str) -> None:
        """The image was asked for now. Losing that loses nothing."""
        with contextlib.suppress(OSError):
            os.utime(self._entry_path(sha256))

    def read_link(self, url: str) -> Link | None:
        return _read(self._link_path(url), Link)

    def write_link(self, url: str, link: Link) -> None:
        write_durably(self._link_path(url), msgspec.json.encode(link), mode=0o600)

    def note_confirmed(self, url: str) -> None:
        """The source said now that its content is still the linked one."""
        with contextlib.suppress(OSError):
            os.utime(self._link_path(url))

    def read_confirmed_at(self, url: str) -> float:
        """When the source last said so, in seconds since the epoch; 0.0 when never."""
        try:
            return self._link_path(url).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def cached_image(self, entry: Entry) -> CachedImage:
        """The entry as the flows see it."""
        return CachedImage(
            path=str(self.image_path(entry.sha256)),
            sha256=entry.sha256,
            format=entry.format,
            size_bytes=entry.size_bytes,
            virtual_bytes=entry.virtual_bytes,
        )

    def _is_untouched(self, entry: Entry) -> bool:
        try:
            facts = self.image_path(entry.sha256).stat()
        except FileNotFoundError:
            return False
        return (facts.st_size, facts.st_mtime_ns) == (entry.size_bytes, entry.mtime_ns)

    def _entry_path(self, sha256: str) -> Path:
        return self.root / f"{sha256}.json"

    def _link_path(self, url: str) -> Path:
        return self.root / "sources" / f"{_key(url)}.json"


def _key(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def _read(path: Path, kind: type[T]) -> T | None:
    """A record that is cut short or of another version is as good as none: the cache is then asked the long way."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
