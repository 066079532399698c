"""A root disk that is a raw file of its own: the image's bytes, made once, grown if need be, never made anew once written.

A copy shares its blocks with the cached image where that is raw and the file system can (FICLONE: XFS, Btrfs); else qemu-img
copies it, with its holes. A raw file says nothing of where it came from, so a note beside it does:

    disk.raw        the guest's
    disk.raw.json   the image's SHA-256, and when the file was last written to by us: later means by a guest

Sources: ioctl_ficlonerange(2); https://www.qemu.org/docs/master/tools/qemu-img.html.
"""

import errno
import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import structlog

from taskvisor.model.disk_backend import Preallocation
from taskvisor.model.errors import Contradiction
from taskvisor.model.plan import CachedImage
from taskvisor.model.states import ImageFormat
from virt import qemu_img
from virt.durable import ensure_no_file, rename_durably, sync_file, write_durably
from virt.progress import Progress
from virt.stores.preallocation import ensure_allocated
from virt.stores.root_size import root_bytes_for

log = structlog.get_logger(__name__)

_FICLONE: Final = 0x40049409  # _IOW(0x94, 9, int)
_NO_CLONE: Final = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL})
"""The file system cannot, knows no such request, is another than the source's, or not with these blocks."""


@dataclass(frozen=True, kw_only=True)
class _Note:
    """What is known of a raw disk that no guest has written to."""

    base_sha256: str
    modified_ns: int


def ensure_raw_root(
    path: Path, *, base: CachedImage, size_bytes: int, preallocation: Preallocation, progress: Progress
) -> None:
    """`path` is a raw file with the content of `base`, at least `size_bytes` large (0: as large as base).

    A file that is there is kept and grown, never shrunk. One made from another image is made anew while no guest has
    written to it (the source changed between two tries of a build); then it is a Contradiction, as is what is no file.
    Refused when base is larger than the size asked.
    """
    wanted_bytes = root_bytes_for(base, size_bytes)
    facts = _read_disk(path)
    if facts is not None and _is_to_be_replaced(path, facts, base):
        log.warning("unwritten_disk_replaced", path=str(path), base=base.path)
        facts = None
    if facts is None:
        _create(path, base, wanted_bytes, preallocation, progress)
    elif facts.st_size < wanted_bytes:
        _grow(path, facts, wanted_bytes, preallocation, progress)


def _read_disk(path: Path) -> os.stat_result | None:
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(facts.st_mode) or not facts.st_size or facts.st_size % 512:
        raise Contradiction(f"{path} is there but is no raw disk; left alone: move it away, then retry")
    return facts


def _is_to_be_replaced(path: Path, facts: os.stat_result, base: CachedImage) -> bool:
    note = _read_note(path)
    if note is None or note.base_sha256 == base.sha256:  # without a note nothing is known but that it is the guest's
        return False
    if facts.st_mtime_ns != note.modified_ns:
        raise Contradiction(
            f"{path} was made from image {note.base_sha256[:12]} and has been written to, so it is not made anew from "
            f"{base.sha256[:12]}; left alone: move it away, or build from the image it was made from"
        )
    return True


def _create(path: Path, base: CachedImage, wanted_bytes: int, preallocation: Preallocation, progress: Progress) -> None:
    aside = path.with_name(f"{path.name}.new")
    ensure_no_file(aside)
    if not (base.format is ImageFormat.RAW and _clone(Path(base.path), aside)):
        ensure_no_file(aside)
        qemu_img.copy_as_raw(
            Path(base.path), aside, source_format=base.format, virtual_bytes=base.virtual_bytes, progress=progress
        )
    aside.chmod(0o600)
    os.truncate(aside, wanted_bytes)
    ensure_allocated(aside, preallocation, progress)
    sync_file(aside)
    _write_note(path, _Note(base_sha256=base.sha256, modified_ns=aside.stat().st_mtime_ns))
    rename_durably(aside, path)


def _clone(source: Path, target: Path) -> bool:
    """`target` is a new file that shares the blocks of `source`; False where that cannot be, and then it may be empty."""
    with source.open("rb") as original:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.ioctl(descriptor, _FICLONE, original.fileno())
        except OSError as error:
            if error.errno in _NO_CLONE:
                return False
            raise
        finally:
            os.close(descriptor)
    return True


def _grow(
    path: Path, before: os.stat_result, wanted_bytes: int, preallocation: Preallocation, progress: Progress
) -> None:
    note = _read_note(path)
    os.truncate(path, wanted_bytes)
    ensure_allocated(path, preallocation, progress)
    sync_file(path)
    if note is not None and note.modified_ns == before.st_mtime_ns:
        _write_note(path, _Note(base_sha256=note.base_sha256, modified_ns=path.stat().st_mtime_ns))


def _note_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _read_note(path: Path) -> _Note | None:
    try:
        return msgspec.json.decode(_note_path(path).read_bytes(), type=_Note)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _write_note(path: Path, note: _Note) -> None:
    write_durably(_note_path(path), msgspec.json.encode(note), mode=0o600)
