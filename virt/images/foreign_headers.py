"""The headers of VMDK, VDI, VHD and VHDX images, looked into before QEMU is: may this file be opened as a disk at all?

Each of these formats can say that its data, or the data it differs from, lies in another file; a stranger's image that
does so would hand that file of this host to a guest (CVE-2024-32498 was one such way). Bounded reads, pure Python; it
knows nothing of caches, and says in a sentence why it refuses.

Sources: QEMU's block/vmdk.c, block/vdi.c, block/vpc.c, block/vhdx.c; VMware "Virtual Disk Format 5.0"; Microsoft "Virtual
Hard Disk Image Format" and [MS-VHDX].
"""

import re
import struct
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from taskvisor.model.errors import Refused
from taskvisor.model.states import ImageFormat

_ANEW: Final = "; fetch or convert it anew"
_ONE_FILE: Final = "; make it one file first (qemu-img convert -O qcow2)"
VMDK_DESCRIPTOR: Final = b"# Disk DescriptorFile"
"""Begins a VMDK that is text alone, whose data is in the files that it names."""

_SECTOR_BYTES = 512
_VMDK = struct.Struct("<4sIIQQQQIQQQ")
_VMDK_FOOTER_FOLLOWS = 0xFFFFFFFFFFFFFFFF
_VMDK_FOOTER_MARKER = 3
_VMDK_SUBFORMATS = ("monolithicsparse", "streamoptimized")
_VMDK_DESCRIPTOR_LIMIT_BYTES = 1 << 20
_VMDK_EXTENT = re.compile(r'(rw|rdonly|noaccess)\s+\d+\s+(\w+)(?:\s+"([^"]*)")?.*')

_VDI_KINDS = (1, 2)  # dynamic, fixed; 3 is undo, 4 a difference to another image
_VHD_COOKIE = b"conectix"
_VHD_FIXED, _VHD_DYNAMIC, _VHD_DIFFERENCING = 2, 3, 4

_VHDX_REGIONS_AT = 192 << 10
_VHDX_METADATA = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
_VHDX_FILE_PARAMETERS = uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
_VHDX_TABLE_LIMIT = 2047
_VHDX_HAS_PARENT = 1 << 1


class _CutShort(Exception):
    """The file ends before what its format says must be there."""


@dataclass(frozen=True, kw_only=True)
class _Image:
    """An image being looked into."""

    file: BinaryIO
    size_bytes: int
    name: str

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Exactly so many bytes from there; _CutShort when they are not all there."""
        if offset < 0 or offset + size_bytes > self.size_bytes:
            raise _CutShort
        self.file.seek(offset)
        return self.file.read(size_bytes)

    def refused(self, why: str) -> Refused:
        return Refused(f"{self.name} {why}")


def check_foreign_header(path: Path, kind: ImageFormat, name: str) -> None:
    """Returns when nothing in the headers of an image of that kind leads out of the file. Refused, in words, otherwise."""
    with path.open("rb") as file:
        image = _Image(file=file, size_bytes=path.stat().st_size, name=name)
        try:
            _CHECKS[kind](image)
        except _CutShort as error:
            said = f"is cut short: it has {image.size_bytes} bytes, and its {kind} header leads beyond{_ANEW}"
            raise image.refused(said) from error


def is_fixed_vhd(path: Path) -> bool:
    """True for a raw disk with a VHD's footer behind it, which is all that a fixed VHD is."""
    size_bytes = path.stat().st_size
    if size_bytes <= _SECTOR_BYTES:
        return False
    with path.open("rb") as file:
        file.seek(size_bytes - _SECTOR_BYTES)
        return file.read(len(_VHD_COOKIE)) == _VHD_COOKIE


# VMDK


class _VmdkHeader(NamedTuple):
    """The first 72 bytes of a sparse extent; positions and sizes in sectors."""

    magic: bytes
    version: int
    flags: int
    capacity: int
    grain_size: int
    descriptor_at: int
    descriptor_size: int
    entries_per_table: int
    redundant_directory_at: int
    directory_at: int
    overhead: int


def _check_vmdk(image: _Image) -> None:
    if not image.read(0, 4).startswith(b"KDMV"):
        raise image.refused(
            "is a VMDK descriptor: its data lies in other files, which it names; make it one file first "
            "(qemu-img convert -O qcow2)"
        )
    header = _VmdkHeader(*_VMDK.unpack(image.read(0, _VMDK.size)))
    _check_vmdk_header(image, header)
    if header.directory_at == _VMDK_FOOTER_FOLLOWS:
        _check_vmdk_footer(image, header)
    _check_vmdk_descriptor(image, _vmdk_descriptor(image, header))


def _check_vmdk_header(image: _Image, header: _VmdkHeader) -> None:
    if header.version not in (1, 2, 3):
        raise image.refused(f"is a VMDK of version {header.version}; only 1 to 3 are taken{_ANEW}")
    if header.capacity == 0:  # then QEMU takes the embedded descriptor for the image, and opens what it names
        raise image.refused(f"is a VMDK that claims no size, so its data would be sought in other files{_ONE_FILE}")
    if header.descriptor_at != 1:
        raise image.refused(f"is a VMDK without a descriptor where it belongs{_ANEW}")


def _check_vmdk_footer(image: _Image, header: _VmdkHeader) -> None:
    """QEMU believes the footer and not the header, so both must say the same but for where the grains are listed."""
    _, _, marker = struct.unpack("<QII", image.read(image.size_bytes - 3 * _SECTOR_BYTES, 16))
    footer = _VmdkHeader(*_VMDK.unpack(image.read(image.size_bytes - 2 * _SECTOR_BYTES, _VMDK.size)))
    if marker != _VMDK_FOOTER_MARKER or footer.magic != header.magic:
        raise image.refused(f"is cut short: the footer that its VMDK header announces is not at its end{_ANEW}")
    same = footer._replace(directory_at=header.directory_at, overhead=header.overhead) == header
    if not same or footer.directory_at == _VMDK_FOOTER_FOLLOWS:
        raise image.refused(f"is a VMDK whose footer contradicts its header, as no honest image does{_ANEW}")


def _vmdk_descriptor(image: _Image, header: _VmdkHeader) -> str:
    size_bytes = header.descriptor_size * _SECTOR_BYTES
    if size_bytes > _VMDK_DESCRIPTOR_LIMIT_BYTES:
        raise image.refused(f"is a VMDK with a descriptor of {size_bytes} bytes, far more than it needs{_ANEW}")
    text = image.read(_SECTOR_BYTES, size_bytes).partition(b"\0")[0]
    try:
        return text.decode("ascii").lower()
    except UnicodeDecodeError as error:
        raise image.refused(f"is a VMDK whose descriptor is no plain text{_ANEW}") from error


def _check_vmdk_descriptor(image: _Image, text: str) -> None:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    fields = dict(line.partition("=")[::2] for line in lines if re.match(r"[\w.]+\s*=", line))
    values = {field.strip(): value.strip().strip('"') for field, value in fields.items()}
    subformat = values.get("createtype", "none")
    if subformat not in _VMDK_SUBFORMATS:
        raise image.refused(
            f"is a VMDK of subformat {subformat[:40]}, and only monolithicSparse and streamOptimized keep all in one file"
            f"{_ONE_FILE}"
        )
    if "parentfilenamehint" in values or values.get("parentcid", "ffffffff") != "ffffffff":
        raise image.refused("is a VMDK that differs from a parent image; flatten it first (qemu-img convert -O qcow2)")
    extents = [line for line in lines if line.split()[0] in ("rw", "rdonly", "noaccess")]
    for extent in extents:
        _check_vmdk_extent(image, extent)
    if len(extents) != 1:
        raise image.refused(
            f"is a VMDK of {len(extents)} extents, and only one, in the file itself, is taken{_ONE_FILE}"
        )


def _check_vmdk_extent(image: _Image, extent: str) -> None:
    match = _VMDK_EXTENT.fullmatch(extent)
    kind, file_name = (match[2], match[3] or "") if match else ("none", "")
    if "/" in file_name or "\\" in file_name or ":" in file_name:
        raise image.refused(f"is a VMDK with an extent outside of itself ({file_name[:80]!r}){_ONE_FILE}")
    if kind != "sparse":
        raise image.refused(f"is a VMDK with an extent of kind {kind}, which is not in the file itself{_ONE_FILE}")


# VDI, VHD, VHDX


def _check_vdi(image: _Image) -> None:
    header = image.read(0, _SECTOR_BYTES)
    (kind,) = struct.unpack_from("<I", header, 0x4C)
    if kind not in _VDI_KINDS or any(header[0x1A8:0x1C8]):  # uuid_link and uuid_parent
        raise image.refused("is a VDI that differs from a parent image; flatten it first (qemu-img convert -O qcow2)")
    (data_offset,) = struct.unpack_from("<I", header, 0x158)
    block_bytes, _, _, allocated = struct.unpack_from("<IIII", header, 0x178)
    if data_offset + allocated * block_bytes > image.size_bytes:
        raise _CutShort


def _check_vhd(image: _Image) -> None:
    if image.size_bytes < 2 * _SECTOR_BYTES or not image.read(image.size_bytes - _SECTOR_BYTES, 8).startswith(
        _VHD_COOKIE
    ):
        raise _CutShort  # every VHD ends in its footer
    at_start = image.read(0, 8).startswith(_VHD_COOKIE)
    footer = image.read(0 if at_start else image.size_bytes - _SECTOR_BYTES, _SECTOR_BYTES)
    (kind,) = struct.unpack_from(">I", footer, 60)
    if kind == _VHD_DIFFERENCING:
        raise image.refused("is a VHD that differs from a parent image; flatten it first (qemu-img convert -O qcow2)")
    if kind != (_VHD_DYNAMIC if at_start else _VHD_FIXED):
        raise image.refused(f"is a VHD of the unknown kind {kind}{_ANEW}")


def _check_vhdx(image: _Image) -> None:
    parameters_at = _vhdx_item_offset(image)
    _, bits = struct.unpack("<II", image.read(parameters_at, 8))
    if bits & _VHDX_HAS_PARENT:
        raise image.refused("is a VHDX that differs from a parent image; flatten it first (qemu-img convert -O qcow2)")


def _vhdx_item_offset(image: _Image) -> int:
    """Where the file parameters are: by the table of regions, then by the table of metadata."""
    signature, _, count, _ = struct.unpack("<4sIII", image.read(_VHDX_REGIONS_AT, 16))
    table = image.read(_VHDX_REGIONS_AT + 16, 32 * min(count, _VHDX_TABLE_LIMIT))
    regions = [entry for entry in struct.iter_unpack("<16sQII", table) if entry[0] == _VHDX_METADATA.bytes_le]
    if signature != b"regi" or count > _VHDX_TABLE_LIMIT or len(regions) != 1:
        raise image.refused(f"is a VHDX whose table of regions is broken{_ANEW}")
    metadata_at = int(regions[0][1])
    signature, _, count = struct.unpack("<8sHH", image.read(metadata_at, 12))
    table = image.read(metadata_at + 32, 32 * min(count, _VHDX_TABLE_LIMIT))
    items = [entry for entry in struct.iter_unpack("<16sII8x", table) if entry[0] == _VHDX_FILE_PARAMETERS.bytes_le]
    if signature != b"metadata" or len(items) != 1:
        raise image.refused(f"is a VHDX whose table of metadata is broken{_ANEW}")
    return metadata_at + int(items[0][1])


_CHECKS = {
    ImageFormat.VMDK: _check_vmdk,
    ImageFormat.VDI: _check_vdi,
    ImageFormat.VHD: _check_vhd,
    ImageFormat.VHDX: _check_vhdx,
}

FOREIGN: Final = frozenset(_CHECKS)
"""What is converted before a guest may have it."""
