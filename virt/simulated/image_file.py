"""Simulated images: small JSON files that say what they were made from and how large they would be.

Real images are understood too, by their header: an image cache may be given either. Must never know who uses an image.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from taskvisor.model.errors import CannotAsk, Refused
from taskvisor.model.states import ImageFormat
from virt.qcow2_header import HEADER_READ_BYTES, MAGIC, NotQcow2, parse_header
from virt.simulated.world import Lock

MARK = b'{"simulated_image":'
SECTOR_BYTES = 512
BOOT_SIGNATURE = b"\x55\xaa"  # ends the first sector of an MBR, and of the protective MBR of a GPT
ISO_OFFSET, ISO_MAGIC = 0x8001, b"CD001"


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """The content of a simulated image; `made_from` is a path, a URL or a sentence for people.

    `simulated_image` is the version of this format, and comes first: the file begins with MARK.
    """

    simulated_image: int = 1
    made_from: str
    virtual_bytes: int
    size_bytes: int
    format: ImageFormat = ImageFormat.QCOW2


def put_image_file(lock: Lock, path: Path, image: ImageFile) -> str:
    """The simulated image is at `path`, whole. Returns the SHA-256 of its content. `lock` must be held."""
    content = msgspec.json.encode(image)
    lock.put_file(path, content)
    return hashlib.sha256(content).hexdigest()


def read_image_file(path: Path, *, declared: ImageFormat | None = None) -> ImageFile:
    """What the image at `path`, simulated or real, is.

    Refused when there is no such file; when it is not of the declared format; when it is a qcow2 that reaches for other
    files; when it may be raw, but has no boot sector, is no ISO, and was not declared raw: any bytes at all may be raw.
    """
    head, size_bytes = _read_head(path)
    if head.startswith((MARK, MAGIC)):
        image = _parse_disk(path, head, size_bytes)
        _require_alone(path, head)
    else:
        image = _parse_raw(path, head, size_bytes, declared)
    if declared not in (None, image.format):
        raise Refused(f"the image {path} was declared {declared} but is {image.format}; declare what it is")
    return image


def read_disk_file(path: Path) -> ImageFile:
    """What a guest's disk at `path` is, which may stand on another file. Refused when it is not there, or no disk."""
    return _parse_disk(path, *_read_head(path))


def copy_image(lock: Lock, source: Path, target: Path) -> ImageFile:
    """`target` is a simulated qcow2 made from `source`, whole or not there. Refused when there is no `source`.

    `lock` must be held.
    """
    original = read_disk_file(source)
    copy = ImageFile(made_from=str(source), virtual_bytes=original.virtual_bytes, size_bytes=original.size_bytes)
    put_image_file(lock, target, copy)
    return copy


def _read_head(path: Path) -> tuple[bytes, int]:
    """The beginning of the file, and its size in bytes."""
    try:
        with path.open("rb") as file:
            return file.read(HEADER_READ_BYTES), os.fstat(file.fileno()).st_size
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise Refused(f"there is no image {path} on this host") from error
    except OSError as error:
        raise CannotAsk(f"cannot read the image {path}: {error.strerror}") from error


def _parse_disk(path: Path, head: bytes, size_bytes: int) -> ImageFile:
    try:
        if head.startswith(MARK):
            return msgspec.json.decode(head, type=ImageFile)
        virtual_bytes = parse_header(head).virtual_bytes
    except (msgspec.DecodeError, NotQcow2) as error:
        raise Refused(f"{path} is not a disk: {error}") from error
    return ImageFile(made_from=str(path), virtual_bytes=virtual_bytes, size_bytes=size_bytes)


def _parse_raw(path: Path, head: bytes, size_bytes: int, declared: ImageFormat | None) -> ImageFile:
    bootable = head[510:512] == BOOT_SIGNATURE or head[ISO_OFFSET : ISO_OFFSET + len(ISO_MAGIC)] == ISO_MAGIC
    if not head or size_bytes % SECTOR_BYTES or not (bootable or declared is ImageFormat.RAW):
        raise Refused(f"{path} is not known to be a disk image; if it is a raw disk all the same, declare format raw")
    return ImageFile(made_from=str(path), virtual_bytes=size_bytes, size_bytes=size_bytes, format=ImageFormat.RAW)


def _require_alone(path: Path, head: bytes) -> None:
    if not head.startswith(MAGIC):
        return
    header = parse_header(head)
    if header.backing_file is not None or header.external_data_file:
        raise Refused(f"the image {path} reaches for another file of the host; flatten it with qemu-img convert first")
