"""The words of reading an image's source: its limits, what tells one content from the next, and a source being read.

Values only. Which URL is opened how is for `image_source` to know, and how for the `source_` modules.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from taskvisor.model.states import ImageFormat
from taskvisor.model.urls import shown_url as shown_url  # noqa: PLC0414 - who reads sources takes it from here

CHUNK_BYTES: Final = 1 << 20
RETRY_DELAY_S: Final = 5.0

KERNEL_DIRECTORIES: Final = tuple(map(Path, ("/dev", "/etc", "/proc", "/run", "/sys")))
"""What the kernel shows, and what configures a host: no disk image lies there, and secrets do."""


@dataclass(frozen=True, kw_only=True)
class SourceLimits:
    """Bounds of reading a source.

    file:// may read below one of `file_roots`, and below none of `closed_directories` but for `open_directories` in
    them. `store_schemes`: what is left to fsspec.
    """

    image_bytes: int = 1 << 40
    connect_time_limit_s: float = 10.0
    read_time_limit_s: float = 30.0  # of one read: silence, not slowness
    transfer_time_limit_s: float = 2 * 3600.0
    redirects: int = 5
    file_roots: tuple[Path, ...] = (Path("/"),)
    closed_directories: tuple[Path, ...] = KERNEL_DIRECTORIES
    open_directories: tuple[Path, ...] = ()
    store_schemes: frozenset[str] = frozenset({"s3", "gs", "abfs"})
    proxy_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class SourceIdentity:
    """What tells one content of a URL from its next, without reading it.

    `validator` is made of device, inode and mtime for a file, of ETag or Last-Modified for HTTP, of what a store says of
    an object; None when the server gives none, and then nothing is ever known to be unchanged. `if_range` is the
    validator again if it is strong, that is, good enough to splice bytes by.
    """

    size_bytes: int | None
    validator: str | None
    if_range: str | None = None

    def is_same(self, other: "SourceIdentity") -> bool:
        """True when both certainly name the same content."""
        sizes_agree = None in (self.size_bytes, other.size_bytes) or self.size_bytes == other.size_bytes
        return self.validator is not None and self.validator == other.validator and sizes_agree


@dataclass(frozen=True, kw_only=True)
class ResumePoint:
    """How much of which content is already here."""

    identity: SourceIdentity
    offset: int


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A source being read. `chunks` begins at `offset` of the content: the one asked for, or 0 when it cannot be resumed.

    `confirm` raises Retryable when the source changed while it was read. `file` is set for a local file, for a reflink.
    `declared` is the format that the source itself declares (Glance does).
    """

    identity: SourceIdentity
    offset: int
    chunks: Iterator[bytes]
    confirm: Callable[[], None]
    file: BinaryIO | None = None
    declared: ImageFormat | None = None


def resume_offset_for(identity: SourceIdentity, resume: ResumePoint | None) -> int:
    """Where to go on from in a content of this identity: 0 when what is here is of another."""
    return resume.offset if resume is not None and resume.identity.is_same(identity) else 0
