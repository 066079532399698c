"""The header of a qcow2 file, read without QEMU. Pure parsing plus one bounded read; it judges nothing.

Source: QEMU's docs/interop/qcow2 (https://www.qemu.org/docs/master/interop/qcow2.html). All numbers are big endian.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAGIC: Final = b"QFI\xfb"
HEADER_READ_BYTES: Final = 1 << 16
"""Header, extensions and backing file name lie in the first cluster; QEMU writes them into its first few hundred bytes."""

_V2 = struct.Struct(">4sIQIIQIIQQIIQ")  # 72 bytes
_V3 = struct.Struct(">QQQII")  # 32 more, from byte 72
_EXTENSION = struct.Struct(">II")
_END_OF_EXTENSIONS = 0x00000000
_BACKING_FORMAT = 0xE2792ACA
_DATA_FILE_BIT = 1 << 2
_CORRUPT_BIT = 1 << 1
_CLUSTER_BITS = range(9, 22)  # QEMU opens none outside
_L1_LIMIT_BYTES = 32 << 20  # QEMU's own limit (QCOW_MAX_L1_SIZE)


class NotQcow2(ValueError):
    """The bytes are not a qcow2 header, or one cut short or out of the format's bounds; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Qcow2Header:
    """What we use of the header. Offsets and sizes are bytes of the file unless the name says otherwise."""

    version: int
    virtual_bytes: int
    backing_file: str | None
    backing_format: str | None
    encrypted: bool
    external_data_file: bool
    marked_corrupt: bool
    l1_offset: int
    l1_size_bytes: int
    refcount_table_offset: int
    refcount_table_size_bytes: int

    @property
    def needed_bytes(self) -> int:
        """The file must be at least this long for its own tables to be in it."""
        return max(self.l1_offset + self.l1_size_bytes, self.refcount_table_offset + self.refcount_table_size_bytes)


def parse_header(data: bytes) -> Qcow2Header:
    """The header at the beginning of `data` (the first HEADER_READ_BYTES of the file are enough). NotQcow2 when it is none."""
    if len(data) < _V2.size or not data.startswith(MAGIC):
        raise NotQcow2("it does not begin with a qcow2 header")
    (_, version, backing_offset, backing_length, cluster_bits, virtual_bytes, crypt_method, l1_entries, l1_offset,
     refcount_offset, refcount_clusters, _, _) = _V2.unpack_from(data)  # fmt: skip
    if version not in (2, 3):
        raise NotQcow2(f"its version is {version}, and only 2 and 3 are qcow2")
    if cluster_bits not in _CLUSTER_BITS:
        raise NotQcow2(f"its cluster size is 2^{cluster_bits} bytes, which QEMU does not open")
    features, header_length = _features_for(data, version)
    return Qcow2Header(
        version=version,
        virtual_bytes=virtual_bytes,
        backing_file=_text_at(data, backing_offset, backing_length) if backing_offset else None,
        backing_format=_backing_format_for(data, header_length),
        encrypted=crypt_method != 0,
        external_data_file=bool(features & _DATA_FILE_BIT),
        marked_corrupt=bool(features & _CORRUPT_BIT),
        l1_offset=l1_offset,
        l1_size_bytes=l1_entries * 8,
        refcount_table_offset=refcount_offset,
        refcount_table_size_bytes=refcount_clusters << cluster_bits,
    )


def read_header(path: Path) -> Qcow2Header:
    """The header of the file; NotQcow2 or the OSError of opening it."""
    with path.open("rb") as file:
        return parse_header(file.read(HEADER_READ_BYTES))


def read_is_unwritten(path: Path) -> bool:
    """True when no cluster of the disk is allocated: all that a reader sees comes from the backing file.

    That is an L1 table of zeros only. Of an image that a guest has open it says nothing lasting.
    """
    header = read_header(path)
    if header.l1_size_bytes > _L1_LIMIT_BYTES:
        return False
    with path.open("rb") as file:
        file.seek(header.l1_offset)
        table = file.read(header.l1_size_bytes)
    return len(table) == header.l1_size_bytes and not any(table)


def _features_for(data: bytes, version: int) -> tuple[int, int]:
    """The incompatible features and the header's length; version 2 has neither field."""
    if version == 2:
        return 0, _V2.size
    if len(data) < _V2.size + _V3.size:
        raise NotQcow2("its header is cut short")
    features, _, _, _, header_length = _V3.unpack_from(data, _V2.size)
    if not _V2.size + _V3.size <= header_length <= len(data):
        raise NotQcow2(f"its header says to be {header_length} bytes long, and {len(data)} bytes were there to read")
    return features, header_length


def _backing_format_for(data: bytes, offset: int) -> str | None:
    while offset + _EXTENSION.size <= len(data):
        kind, length = _EXTENSION.unpack_from(data, offset)
        if kind == _END_OF_EXTENSIONS:
            return None
        if kind == _BACKING_FORMAT:
            return _text_at(data, offset + _EXTENSION.size, length)
        offset += _EXTENSION.size + (length + 7) // 8 * 8
    return None


def _text_at(data: bytes, offset: int, length: int) -> str:
    if offset + length > len(data):
        raise NotQcow2("a name in its header lies outside of the header")
    return data[offset : offset + length].decode(errors="surrogateescape")
