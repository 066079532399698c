"""What the image cache writes down beside its files, and reads back. Knows the names and the JSON, decides nothing.

    <root>/<sha256>            an image, 0444, named by its content
    <root>/<sha256>.json       its Entry; the mtime of this file is when the image was last asked for
    <root>/sources/<key>.json  which content a URL had, and when that was last confirmed (the mtime)
    <root>/sources/<key>.part  a transfer under way (part_file); <key>.converted: being made of one
    <root>/converted/<sha256>.json  which image was made of the foreign one with that content
    <root>/locks/<key>.lock    held by who fetches that URL, or names that content

An image that was converted bears the name of what it was made into; a foreign original is not kept.

`key` is the SHA-256 of the URL: a URL may be long, and may hold secrets.
"""

import contextlib
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from taskvisor.model.plan import CachedImage
from taskvisor.model.states import ImageFormat
from virt.durable import ensure_directory, ensure_no_file, write_durably
from virt.images.inspection import Evidence
from virt.images.source import SourceIdentity

SCHEMA = 1
SHA256: Final = re.compile(r"[0-9a-f]{64}")

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
    """Which content a URL had when it was last looked at. `declared`: what the source itself calls it."""

    sha256: str
    identity: SourceIdentity
    url: str
    declared: ImageFormat | None = None
    schema: int = SCHEMA


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was made of a foreign image: the image with this SHA-256."""

    sha256: str
    original: ImageFormat
    schema: int = SCHEMA


@dataclass(frozen=True, kw_only=True)
class Held:
    """What the cache has for a content: the image, and of what format the content was."""

    entry: Entry
    original: ImageFormat


class CacheRecords:
    """The records of one cache directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def ensure_layout(self) -> None:
        """The directories are there. QEMU's user walks through the images' (and lists none), and stays out of the others."""
        ensure_directory(self.root, mode=0o711)
        ensure_directory(self.root / "sources", mode=0o700)
        ensure_directory(self.root / "locks", mode=0o700)
        ensure_directory(self.root / "converted", mode=0o700)

    def image_path(self, sha256: str) -> Path:
        return self.root / sha256

    def part_path(self, url: str) -> Path:
        return self.root / "sources" / f"{_key(url)}.part"

    def converted_path(self, url: str) -> Path:
        return self.root / "sources" / f"{_key(url)}.converted"

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

    def read_held(self, sha256: str) -> Held | None:
        """What the cache has for this content: it, or what was made of it; untouched. None when neither is here."""
        entry = self.read_present(sha256)
        if entry is not None:
            return Held(entry=entry, original=entry.format)
        conversion = _read(self._conversion_path(sha256), Conversion)
        entry = self.read_present(conversion.sha256) if conversion is not None else None
        return Held(entry=entry, original=conversion.original) if conversion is not None and entry is not None else None

    def write_conversion(self, sha256: str, conversion: Conversion) -> None:
        write_durably(self._conversion_path(sha256), msgspec.json.encode(conversion))

    def write_entry(self, entry: Entry) -> None:
        write_durably(self._entry_path(entry.sha256), msgspec.json.encode(entry))

    def note_use(self, sha256: str) -> None:
        """The image was asked for now. Losing that loses nothing."""
        with contextlib.suppress(OSError):
            os.utime(self._entry_path(sha256))

    def read_used_at(self, sha256: str) -> float:
        """When the image was last asked for, in seconds since the epoch; FileNotFoundError when it has no record."""
        return self._entry_path(sha256).stat().st_mtime

    def remove_entry(self, sha256: str) -> None:
        ensure_no_file(self._entry_path(sha256))

    def list_images(self) -> tuple[str, ...]:
        """The SHA-256 of each image that is here under its final name; none while there is no cache."""
        if not self.root.exists():
            return ()
        return tuple(sorted(path.name for path in self.root.iterdir() if SHA256.fullmatch(path.name)))

    def list_unfinished(self) -> tuple[Path, ...]:
        """What transfers and conversions have left or are writing."""
        return tuple(sorted((self.root / "sources").glob("*.part"))) + tuple(
            sorted((self.root / "sources").glob("*.converted"))
        )

    def unfinished_lock_path(self, unfinished: Path) -> Path:
        """Held by who writes that file."""
        return self.root / "locks" / f"{unfinished.stem}.lock"

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
            format=entry.format.kept_as,
            size_bytes=entry.size_bytes,
            virtual_bytes=entry.virtual_bytes,
        )

    def _is_untouched(self, entry: Entry) -> bool:
        try:
            facts = self.image_path(entry.sha256).stat()
        except FileNotFoundError:
            return False
        return (facts.st_size, facts.st_mtime_ns) == (entry.size_bytes, entry.mtime_ns)

    def _conversion_path(self, sha256: str) -> Path:
        return self.root / "converted" / f"{sha256}.json"

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
