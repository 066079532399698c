"""An image on its way in: the `.part` file, gone on with after a cut or a crash, hashed as it grows.

Knows nothing of what an image is. A part is trusted for as long as the kernel that wrote it runs: what a *process* wrote
before it was killed is in the page cache, whole; after a power cut a file may have its length without its bytes. So a
part bears the boot id it was begun under, and one from before a reboot is begun anew.
"""

import errno
import fcntl
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec
import structlog

from taskvisor.model.errors import Retryable
from taskvisor.model.states import ImageFormat
from virt.durable import ensure_no_file
from virt.images.source import CHUNK_BYTES, Opened, ResumePoint, SourceIdentity, SourceLimits, shown_url
from virt.images.sources import open_source
from virt.progress import Progress
from virt.space import check_space, gib

log = structlog.get_logger(__name__)

RESUMES_IN_PLACE: Final = 8
"""How often one call goes on after a cut that had brought something, before it leaves waiting to its caller."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_FICLONE = 0x40049409  # ioctl_ficlone(2)
_NO_REFLINK = frozenset(
    {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.ETXTBSY, errno.EBADF}
)
_ZEROS = bytes(CHUNK_BYTES)

if TYPE_CHECKING:
    from hashlib import _Hash as Digest


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A part that is complete. `spliced`: it was not brought by one transfer alone. `declared`: by the source itself."""

    identity: SourceIdentity
    sha256: str
    size_bytes: int
    spliced: bool
    declared: ImageFormat | None = None


@dataclass(frozen=True, kw_only=True)
class _State:
    """The sidecar of a part: what it is a part of."""

    identity: SourceIdentity
    boot_id: str
    declared: ImageFormat | None = None


class PartFile:
    """One part and its sidecar. The caller holds a lock: nobody else uses it meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state_path = path.with_name(f"{path.name}.json")

    @property
    def size_bytes(self) -> int:
        """How much of it is there."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def discard(self) -> None:
        """Neither the part nor its sidecar is left."""
        ensure_no_file(self.path)
        ensure_no_file(self._state_path)

    def fetch(self, url: str, limits: SourceLimits, progress: Progress) -> Fetched:
        """The part holds the whole content of the URL. Who keeps it syncs it: what is only read once more need not be.

        Goes on from what is there when the source is known to be the same, and in place after a cut that had brought
        something. Errors as `open_source`; what came is kept. DoesNotFit when the rest would not fit on the file system.
        """
        resumes = 0
        while True:
            had_bytes = self.size_bytes
            try:
                return self._fetch_once(url, limits, progress)
            except Retryable as error:
                resumes += 1
                if resumes > RESUMES_IN_PLACE or self.size_bytes <= had_bytes:
                    raise
                log.warning("image_transfer_cut", url=shown_url(url), at_bytes=self.size_bytes, reason=str(error))

    def _fetch_once(self, url: str, limits: SourceLimits, progress: Progress) -> Fetched:
        point = self._resume_point()
        digest = hashlib.sha256() if point is None else _digest_so_far(self.path, point.offset)
        complete = point.identity if point is not None and point.offset == point.identity.size_bytes else None
        with open_source(url, known=complete, resume=point, limits=limits) as opened:
            if opened is not None:
                if opened.offset == 0:
                    digest = hashlib.sha256()
                    self._begin(opened)
                self._take(url, opened, digest, progress)
                opened.confirm()
        identity = opened.identity if opened is not None else complete
        assert identity is not None  # noqa: S101 - open_source yields None only for what is known
        return Fetched(
            identity=identity,
            sha256=digest.hexdigest(),
            size_bytes=self.size_bytes,
            spliced=opened is None or opened.offset > 0,
            declared=self._read_state().declared,
        )

    def _resume_point(self) -> ResumePoint | None:
        """Where to go on; None when there is nothing, or nothing to be trusted."""
        try:
            state = self._read_state()
        except (FileNotFoundError, msgspec.DecodeError):  # a crash may have cut the sidecar itself short
            return None
        if state.boot_id != _boot_id() or self.size_bytes == 0:
            return None
        return ResumePoint(identity=state.identity, offset=self.size_bytes)

    def _read_state(self) -> _State:
        return msgspec.json.decode(self._state_path.read_bytes(), type=_State)

    def _begin(self, opened: Opened) -> None:
        """An empty part of this content. The old bytes go before the new name comes: they never bear it."""
        self.discard()
        self.path.touch(mode=0o600)
        state = _State(identity=opened.identity, boot_id=_boot_id(), declared=opened.declared)
        self._state_path.write_bytes(msgspec.json.encode(state))

    def _take(self, url: str, opened: Opened, digest: "Digest", progress: Progress) -> None:
        """The rest of the content is in the part, and in the digest."""
        total_bytes = opened.identity.size_bytes
        with self.path.open("r+b") as part:
            if opened.file is not None and opened.offset == 0 and _reflinked(opened.file, part):
                _add_to_digest(digest, part, progress, total_bytes)
            else:
                if total_bytes is not None:
                    check_space(self.path, total_bytes - opened.offset, f"fetch {shown_url(url)} ({gib(total_bytes)})")
                _copy(opened, part, digest, progress)
        if total_bytes is not None and self.size_bytes != total_bytes:
            message = f"{shown_url(url)} brought {self.size_bytes} bytes, {total_bytes} were announced"
            self.discard()
            raise Retryable(f"{message}; it is fetched anew")


def _copy(opened: Opened, part: BinaryIO, digest: "Digest", progress: Progress) -> None:
    """Append the chunks; zeros are left as holes, so that a raw disk takes no more room here than it must.

    A part that ends in a hole is shorter than what came. That is safe to resume from: what is there is true.
    """
    done_bytes = opened.offset
    part.seek(done_bytes)
    for chunk in opened.chunks:
        if chunk == _ZEROS[: len(chunk)]:
            part.seek(len(chunk), os.SEEK_CUR)
        else:
            part.write(chunk)
        digest.update(chunk)
        done_bytes += len(chunk)
        progress(done_bytes, opened.identity.size_bytes)
    part.truncate(done_bytes)


def _reflinked(source: BinaryIO, part: BinaryIO) -> bool:
    """True when the part now shares the blocks of the source (btrfs, XFS): a copy at once, of one moment."""
    try:
        fcntl.ioctl(part.fileno(), _FICLONE, source.fileno())
    except OSError as error:
        if error.errno in _NO_REFLINK:
            return False
        raise
    return True


def digest_of(path: Path) -> str:
    """The SHA-256 of the whole file, in hexadecimal."""
    return _digest_so_far(path, path.stat().st_size).hexdigest()


def _digest_so_far(path: Path, size_bytes: int) -> "Digest":
    """Of the first `size_bytes` of the file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size_bytes > 0 and (chunk := file.read(min(CHUNK_BYTES, size_bytes))):
            digest.update(chunk)
            size_bytes -= len(chunk)
    return digest


def _add_to_digest(digest: "Digest", file: BinaryIO, progress: Progress, total_bytes: int | None) -> None:
    done_bytes = 0
    file.seek(0)
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
        done_bytes += len(chunk)
        progress(done_bytes, total_bytes)


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()
