"""Looking into an image before anything else reads it: what it is, and whether a guest may have it.

An image is a stranger's file. One with a backing file or an external data file would hand any file of this host to its
guest (CVE-2024-32498), one read as another format than it was checked for would too (CVE-2024-40767). So: the first
look is oslo.utils' inspectors and our own header parser, pure Python over bounded reads; qemu-img follows, bounded in
time and memory, with the format said.

VMDK, VDI, VHD and VHDX are looked into by `foreign_headers` first. They are for who asks to convert; a guest never has one.

What is raw? Any bytes at all: to QEMU a web page saying "404" is a very small disk. So raw is believed only on evidence:
a partition table (MBR or GPT), an ISO 9660 volume, or the caller's declaration; and never for what is not whole 512-byte
sectors or is a packed archive. Raw content has no pointers, so believing a declaration can make a useless guest but
cannot harm the host.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from oslo_utils.imageutils import format_inspector

from taskvisor.model.errors import Refused
from taskvisor.model.states import ImageFormat
from virt import qemu_img
from virt.command import CommandFailed
from virt.durable import is_regular
from virt.images.foreign_headers import FOREIGN, VMDK_DESCRIPTOR, check_foreign_header, is_fixed_vhd
from virt.qcow2_header import NotQcow2, Qcow2Header, read_header
from virt.space import gib

VIRTUAL_LIMIT_BYTES: Final = 64 << 40
"""64 TiB: beyond any disk here, and below the sizes at which tools overflow."""
SECTOR_BYTES: Final = 512

_DETECTION_LIMIT_BYTES = 2 << 20  # the farthest signature (VHDX) lies at 192 KiB, its tables within 2 MiB
_CHUNK_BYTES = 64 << 10
_FOREIGN_SIGNATURES = {kind.value: kind for kind in FOREIGN}
_RAW_SIGNATURES = frozenset({"gpt", "iso"})  # a bootable ISO bears both; "gpt" is oslo's word for MBR too
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
}


class Evidence(StrEnum):
    """Why an image is held to be of its format."""

    CONTENT = "content"  # a signature in it
    DECLARED = "declared"  # the caller said so, and nothing contradicts it


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """What an image is, as found. An ISO volume is raw to QEMU, and may be declared either."""

    format: ImageFormat
    virtual_bytes: int
    evidence: Evidence


def inspect_image(
    path: Path, *, declared: ImageFormat | None, name: str, virtual_limit_bytes: int = VIRTUAL_LIMIT_BYTES
) -> Inspected:
    """What the image at `path` is, once it is known to be harmless and whole. `name` is what messages call it.

    Refused when it is not a regular file, not a disk image of a format that we know, of another format than declared,
    leads to any other file (a backing file, a data file, an extent, a parent), is encrypted, damaged or cut short, or
    claims a disk of more than `virtual_limit_bytes` (a few bytes can unpack to any size).
    """
    if not is_regular(path):
        raise Refused(f"{name} is not a regular file, so it is no disk image; give the file itself")
    if path.stat().st_size == 0:
        raise Refused(f"{name} is empty, so it is no disk image; check what it was written from")
    inspected = _inspected(path, declared, name)
    _check_virtual_size(inspected.virtual_bytes, virtual_limit_bytes, name)
    return inspected


def _inspected(path: Path, declared: ImageFormat | None, name: str) -> Inspected:
    formats = _detected_formats(path)
    if formats == {"qcow2"}:
        check_declared(declared, ImageFormat.QCOW2, Evidence.CONTENT, name)
        return _inspected_qcow2(path, name)
    if len(formats) == 1 and (kind := _FOREIGN_SIGNATURES.get(min(formats))) is not None:
        check_declared(declared, kind, Evidence.CONTENT, name)
        return _inspected_foreign(path, kind, name)
    if formats == {"raw"} or formats <= _RAW_SIGNATURES:
        if declared is ImageFormat.VHD and is_fixed_vhd(path):
            return _inspected_foreign(path, declared, name)
        return _inspected_raw(path, formats, declared, name)
    if len(formats) > 1:
        raise Refused(
            f"{name} bears the signatures of several formats ({', '.join(sorted(formats))}), as no honest image does;"
            " make it anew"
        )
    raise Refused(f"{name} is a {min(formats)} image, which is not taken: convert it first (qemu-img convert -O qcow2)")


def check_declared(declared: ImageFormat | None, found: ImageFormat, evidence: Evidence, name: str) -> None:
    """Refused when what the caller declares (None: nothing) does not go with what was found, and on which evidence.

    Holds for cached images too: whether an image is taken must not depend on who asked for it before.
    """
    is_raw_iso = declared is ImageFormat.RAW and found is ImageFormat.ISO
    if declared is not None and declared is not found and not is_raw_iso:
        raise Refused(f"{name} was declared {declared} but is {found}; declare format {found}, or check the source")
    if declared is None and evidence is Evidence.DECLARED:
        raise Refused(_no_evidence(name, ""))


def _detected_formats(path: Path) -> set[str]:
    """The formats whose signature the file bears, in oslo's words; {"raw"} when it bears none."""
    with path.open("rb") as file:
        wrapper = format_inspector.InspectWrapper(file)
        read_bytes = 0
        while wrapper.formats is None and read_bytes < _DETECTION_LIMIT_BYTES:
            chunk = wrapper.read(_CHUNK_BYTES)
            if not chunk:
                break
            read_bytes += len(chunk)
        wrapper.close()
        return {str(found) for found in wrapper.formats or ()}


def _inspected_qcow2(path: Path, name: str) -> Inspected:
    try:
        header = read_header(path)
    except NotQcow2 as error:
        raise Refused(f"{name} is not a usable qcow2 image: {error}; fetch or convert it anew") from error
    _check_header(header, path.stat().st_size, name)
    _check_safety(path, name)
    info = _read_by_qemu(path, ImageFormat.QCOW2, name)
    if abs(info.virtual_bytes - header.virtual_bytes) >= SECTOR_BYTES:
        raise Refused(f"{name} is read differently by QEMU than by its header; convert it anew")
    return Inspected(format=ImageFormat.QCOW2, virtual_bytes=header.virtual_bytes, evidence=Evidence.CONTENT)


def _inspected_foreign(path: Path, kind: ImageFormat, name: str) -> Inspected:
    check_foreign_header(path, kind, name)
    info = _read_by_qemu(path, kind, name)
    return Inspected(format=kind, virtual_bytes=info.virtual_bytes, evidence=Evidence.CONTENT)


def _read_by_qemu(path: Path, kind: ImageFormat, name: str) -> qemu_img.ImageInfo:
    """What QEMU makes of an image whose header is harmless; and it is whole. Refused when QEMU sees it otherwise."""
    try:
        info = qemu_img.read_info(path, kind)
        if kind is not ImageFormat.VHD:  # QEMU has no check for it; its footer said that it is whole
            qemu_img.check(path, kind)
    except CommandFailed as error:
        if (
            error.exit_code < 0
        ):  # killed: by the memory limit, or by a host short of memory, which is not the image's fault
            raise
        raise Refused(
            f"{name} cannot be opened by QEMU as {kind} ({_first_line(error.stderr)}); fetch or convert it anew"
        ) from error
    except qemu_img.Corrupt as error:
        raise Refused(f"{name} is damaged or cut short ({error}); fetch or convert it anew") from error
    if info.backing_file is not None or set(info.extents) - {str(path)}:
        raise Refused(f"{name} is read differently by QEMU than by its header; convert it anew")
    return info


def _check_header(header: Qcow2Header, file_bytes: int, name: str) -> None:
    if header.backing_file is not None:
        raise Refused(
            f"{name} has a backing file ({header.backing_file!r}); flatten it first (qemu-img convert -O qcow2)"
        )
    if header.external_data_file:
        raise Refused(
            f"{name} keeps its data in an external data file; make it one file first (qemu-img convert -O qcow2)"
        )
    if header.encrypted:
        raise Refused(f"{name} is encrypted, which is not supported; decrypt it first")
    if header.marked_corrupt:
        raise Refused(f"{name} is marked corrupt by QEMU; repair it first (qemu-img check -r all)")
    if header.needed_bytes > file_bytes:
        raise Refused(
            f"{name} is cut short: it has {file_bytes} bytes, and its tables end at byte {header.needed_bytes};"
            " fetch it anew"
        )
    _check_virtual_size(header.virtual_bytes, VIRTUAL_LIMIT_BYTES, name)  # before QEMU sizes its tables by it


def _check_virtual_size(virtual_bytes: int, limit_bytes: int, name: str) -> None:
    if not 0 < virtual_bytes <= limit_bytes:
        raise Refused(
            f"{name} claims a disk of {gib(virtual_bytes)}; it must be above 0 and at most {gib(limit_bytes)}; make it smaller,"
            " or have TASKVISOR_MAX_IMAGE_DISK_GIB raised on the hosts"
        )


def _first_line(stderr: str) -> str:
    return next(iter(stderr.splitlines()), "it does not say why")


def _check_safety(path: Path, name: str) -> None:
    """oslo's own checks, kept beside ours: features we don't know, and whatever it learns to refuse in later versions."""
    inspector = format_inspector.QcowInspector.from_file(str(path))
    try:
        inspector.safety_check()
    except (format_inspector.SafetyCheckFailed, format_inspector.ImageFormatError) as error:
        raise Refused(f"{name} is not safe to use: {error}; convert it (qemu-img convert -O qcow2)") from error


def _inspected_raw(path: Path, formats: set[str], declared: ImageFormat | None, name: str) -> Inspected:
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(64)
    if start.lstrip().startswith(VMDK_DESCRIPTOR):
        raise Refused(
            f"{name} is a VMDK descriptor: its data lies in other files; make it one file first (qemu-img convert -O qcow2)"
        )
    packing = next((packing for magic, packing in _PACKED.items() if start.startswith(magic)), None)
    if packing is not None:
        raise Refused(f"{name} is packed with {packing}; unpack it first")
    evidence = Evidence.CONTENT if formats <= _RAW_SIGNATURES else Evidence.DECLARED
    if size_bytes % SECTOR_BYTES and evidence is Evidence.DECLARED:
        raise Refused(
            f"{name} is no disk image: its {size_bytes} bytes are not whole {SECTOR_BYTES}-byte sectors{_begins(start)};"
            " check what it was written from"
        )
    if declared is None and evidence is Evidence.DECLARED:
        raise Refused(_no_evidence(name, _begins(start)))
    found = ImageFormat.ISO if "iso" in formats else ImageFormat.RAW
    check_declared(declared, found, evidence, name)
    virtual_bytes = -(-size_bytes // SECTOR_BYTES) * SECTOR_BYTES  # as QEMU counts it
    return Inspected(format=found, virtual_bytes=virtual_bytes, evidence=evidence)


def _no_evidence(name: str, begins: str) -> str:
    return (
        f"{name} is not known to be a disk image: no known format, partition table or ISO volume is in it{begins}; "
        "if it is a raw disk all the same, declare format raw"
    )


def _begins(start: bytes) -> str:
    """What the file begins with, when that is text: it names an error page better than we can."""
    text = " ".join(start[:40].decode("ascii", errors="replace").split())
    return f' (it begins with "{text}")' if text and text.isascii() and text.isprintable() else ""
