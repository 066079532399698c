"""qemu-img, one typed function per use. The format is always said (-f, -F, -O): a guessed format is a guest's to forge.

Knows nothing of caches or instances. Source: https://www.qemu.org/docs/master/tools/qemu-img.html. `-U` (look at an
image that another process has open) is used nowhere: nothing here works on a running guest's disk, and the lock that
it would bypass is what tells us so.

Paths are absolute: "a:b" would be protocol a to QEMU, and a relative backing file is relative to its overlay.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from taskvisor.model.errors import Busy, DoesNotFit, Refused
from taskvisor.model.snapshot import Compression, SnapshotEncoding
from taskvisor.model.states import ImageFormat
from virt.command import CommandFailed, run_command
from virt.progress import Progress
from virt.space import no_space

QUICK_TIME_LIMIT_S: Final = 30.0
"""Of what touches metadata only: create, info, resize."""
CHECK_TIME_LIMIT_S: Final = 300.0
CONVERT_TIME_LIMIT_S: Final = 6 * 3600.0
READER_MEMORY_LIMIT_BYTES: Final = 1 << 30
"""Of what reads images of unknown origin: a crafted header can ask for huge tables."""
IMPORT_MEMORY_LIMIT_BYTES: Final = 4 << 30
"""Of address space: threads and their arenas take up much that is never touched."""
IMPORT_CPU_LIMIT_S: Final = 3600

_CORRUPT = 2  # exit codes of qemu-img check
_LEAKS_ONLY = 3
_PERCENT = re.compile(rb"\((\d+(?:\.\d+)?)/100%\)")
_DRIVERS = {ImageFormat.VHD: "vpc", ImageFormat.ISO: "raw"}
_NO_DRIVER = "Unknown protocol"
_FULL = "No space left on device"
_NO_COMPRESSION = "'compression-type' does not accept"
_LOCKED = re.compile(r"Failed to (?:get|lock)")


class Into(StrEnum):
    """What a raw copy is written to."""

    NEW_FILE = "new file"
    DEVICE = "device"  # is there, and holds who knows what: zeros are written too
    BLANK_DEVICE = "blank device"  # is there, and reads as zeros


_INTO_WORDS: Final[Mapping[Into, tuple[str, ...]]] = {
    Into.NEW_FILE: (),
    Into.DEVICE: ("-n",),
    Into.BLANK_DEVICE: ("-n", "--target-is-zero"),
}


class Corrupt(Exception):
    """qemu-img check found errors in the image; the message is what it said first."""


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """What QEMU makes of an image. `extents`: the files that it takes its data from, where the format can name some."""

    virtual_bytes: int
    backing_file: str | None
    extents: tuple[str, ...] = ()


class _Extent(msgspec.Struct):
    filename: str


class _Specific(msgspec.Struct):
    extents: tuple[_Extent, ...] = ()


class _Specifics(msgspec.Struct):
    data: _Specific


class _Info(msgspec.Struct, rename="kebab"):
    virtual_size: int
    backing_filename: str | None = None
    format_specific: _Specifics | None = None


def read_info(path: Path, image_format: ImageFormat) -> ImageInfo:
    """What QEMU says of the image, opened as `image_format`, in bounded time and memory. CommandFailed when it cannot."""
    answer = _qemu_img(
        "info", "--output=json", "-f", _driver(image_format), path,
        time_limit_s=QUICK_TIME_LIMIT_S, memory_limit_bytes=READER_MEMORY_LIMIT_BYTES,
    )  # fmt: skip
    info = msgspec.json.decode(answer, type=_Info)
    extents = info.format_specific.data.extents if info.format_specific is not None else ()
    return ImageInfo(
        virtual_bytes=info.virtual_size,
        backing_file=info.backing_filename,
        extents=tuple(extent.filename for extent in extents),
    )


def read_knows_protocol(name: str) -> bool:
    """Whether QEMU has a driver for what the name begins with (rbd:…); not whether anything of that name is there."""
    try:
        _qemu_img("info", name, time_limit_s=QUICK_TIME_LIMIT_S)
    except CommandFailed as error:
        return _NO_DRIVER not in error.stderr
    return True


def check_qcow2(path: Path) -> None:
    """As `check`, of a qcow2 image."""
    check(path, ImageFormat.QCOW2)


def check(path: Path, image_format: ImageFormat) -> None:
    """Every cluster that the image refers to is in the file. Leaked clusters (harmless, only waste) are let pass.

    Corrupt otherwise. That is how a file cut short is told, whose header is as good as new: QEMU would open it and read
    zeros where data should be. Costs reading the metadata, not the data.
    """
    try:
        _qemu_img(
            "check", "-q", "-f", _driver(image_format), path,
            time_limit_s=CHECK_TIME_LIMIT_S, memory_limit_bytes=READER_MEMORY_LIMIT_BYTES,
        )  # fmt: skip
    except CommandFailed as error:
        if error.exit_code == _LEAKS_ONLY:
            return
        if error.exit_code == _CORRUPT:
            raise Corrupt(error.stderr.splitlines()[-1]) from error
        raise


def create_overlay(path: Path, *, base: Path, base_format: ImageFormat, size_bytes: int) -> None:
    """`path` is a new, unwritten qcow2 overlay of `base`, `size_bytes` large. An existing file is overwritten."""
    _qemu_img(
        "create", "-q", "-f", ImageFormat.QCOW2, "-F", base_format, "-b", base, path, str(size_bytes),
        time_limit_s=QUICK_TIME_LIMIT_S,
    )  # fmt: skip


def grow(path: Path, size_bytes: int) -> None:
    """The qcow2 image is `size_bytes` large. QEMU refuses to shrink (CommandFailed)."""
    _qemu_img("resize", "-q", "-f", ImageFormat.QCOW2, path, str(size_bytes), time_limit_s=QUICK_TIME_LIMIT_S)


def flatten(
    source: Path | str,
    target: Path,
    *,
    virtual_bytes: int,
    progress: Progress,
    source_format: ImageFormat = ImageFormat.QCOW2,
) -> None:
    """`target` is a qcow2 image with all that `source`, with what it stands on, holds, and no backing file.

    A `source` that is no Path is QEMU's own name for it (rbd:…). Busy while another process has it open for writing.
    """
    _convert(source, target, (), virtual_bytes, progress, source_format)


def copy_as_raw(
    source: Path,
    target: Path | str,
    *,
    source_format: ImageFormat,
    virtual_bytes: int,
    progress: Progress,
    into: Into = Into.NEW_FILE,
) -> None:
    """`target` begins with the bytes of the disk that `source` is, and nothing is flushed: its caller syncs it.

    A `target` that is no Path is QEMU's own name for it (rbd:…).
    """
    _qemu_img(
        "convert", "-p", *_INTO_WORDS[into], "-f", _driver(source_format), "-O", ImageFormat.RAW, source, target,
        time_limit_s=CONVERT_TIME_LIMIT_S, on_output=_percent_reader(virtual_bytes, progress),
    )  # fmt: skip


def encode(source: Path, target: Path, encoding: SnapshotEncoding, *, virtual_bytes: int, progress: Progress) -> None:
    """As `flatten`, to the format and with the compression asked. Refused when this host's qemu-img does not know that one.

    zlib is what every QEMU can read; zstd sets a bit of the header that those before 5.1 refuse.
    """
    options: tuple[str, ...] = () if encoding.compression is Compression.NONE else ("-c",)
    if encoding.compression is Compression.ZSTD:
        options = (*options, "-o", "compression_type=zstd")
    try:
        _convert(source, target, options, virtual_bytes, progress, target_format=encoding.format)
    except CommandFailed as error:
        if _NO_COMPRESSION not in error.stderr:
            raise
        raise Refused(
            f"cannot compress {target} with {encoding.compression}: this host's qemu-img was built without it; ask for zlib"
        ) from error


def import_image(
    source: Path,
    target: Path,
    source_format: ImageFormat,
    *,
    virtual_bytes: int,
    output_limit_bytes: int,
    progress: Progress,
) -> None:
    """`target` is a qcow2 image with all that the foreign image `source` holds.

    Bounded in time, CPU time, memory and size of what is written: CommandFailed by SIGXCPU or SIGXFSZ beyond.
    """
    _qemu_img(
        "convert", "-p", "-f", _driver(source_format), "-O", ImageFormat.QCOW2, source, target,
        time_limit_s=CONVERT_TIME_LIMIT_S, memory_limit_bytes=IMPORT_MEMORY_LIMIT_BYTES,
        cpu_limit_s=IMPORT_CPU_LIMIT_S, file_limit_bytes=output_limit_bytes,
        on_output=_percent_reader(virtual_bytes, progress),
    )  # fmt: skip


def _convert(
    source: Path | str,
    target: Path,
    options: tuple[str, ...],
    virtual_bytes: int,
    progress: Progress,
    source_format: ImageFormat = ImageFormat.QCOW2,
    target_format: ImageFormat = ImageFormat.QCOW2,
) -> None:
    _qemu_img(
        "convert", "-p", *options, "-f", _driver(source_format), "-O", target_format, source, target,
        time_limit_s=CONVERT_TIME_LIMIT_S, on_output=_percent_reader(virtual_bytes, progress),
    )  # fmt: skip


def _driver(image_format: ImageFormat) -> str:
    """What QEMU calls the format."""
    return _DRIVERS.get(image_format, image_format.value)


def _percent_reader(virtual_bytes: int, progress: Progress) -> Callable[[bytes], None]:
    """Turns "    (12.50/100%)\\r" into bytes of the disk; one report a second at most, the end always."""
    last_at = 0.0

    def read(chunk: bytes) -> None:
        nonlocal last_at
        found = _PERCENT.findall(chunk)
        if not found:
            return
        percent = float(found[-1])
        if percent >= 100 or time.monotonic() - last_at >= 1:
            last_at = time.monotonic()
            progress(int(virtual_bytes * percent / 100), virtual_bytes)

    return read


def _qemu_img(
    *words: str | Path,
    time_limit_s: float,
    memory_limit_bytes: int | None = None,
    cpu_limit_s: int | None = None,
    file_limit_bytes: int | None = None,
    on_output: Callable[[bytes], None] | None = None,
) -> str:
    relative = [word for word in words if isinstance(word, Path) and not word.is_absolute()]
    if relative:
        raise ValueError(f"qemu-img is given absolute paths only, not {relative[0]}")
    argv = ["qemu-img", *map(str, words)]
    try:
        return run_command(
            argv,
            time_limit_s=time_limit_s,
            memory_limit_bytes=memory_limit_bytes,
            cpu_limit_s=cpu_limit_s,
            file_limit_bytes=file_limit_bytes,
            on_output=on_output,
        )
    except CommandFailed as error:
        raise _translated(error, words) from error


def _translated(error: CommandFailed, words: tuple[str | Path, ...]) -> CommandFailed | Busy | DoesNotFit:
    target = next((word for word in reversed(words) if isinstance(word, Path)), None)
    if _FULL in error.stderr and target is not None:
        return no_space(target, None, f"write {target}")
    if _LOCKED.search(error.stderr) and "lock" in error.stderr:
        return Busy(f"an image is open in another process: {error.stderr}", delay_s=2.0)
    return error
