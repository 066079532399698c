"""virt/qcow2_header.py against headers made here and by qemu-img."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.virt.made_images import MIB, qcow2, qemu_img, write_in_disk
from virt.qcow2_header import MAGIC, NotQcow2, parse_header, read_header, read_is_unwritten


def header(**changed: int) -> bytes:
    """A version 3 header with a backing file "/base" of format raw."""
    fields = {
        "version": 3, "backing_offset": 256, "backing_length": 5, "cluster_bits": 16, "size": 10 * MIB, "crypt": 0,
        "l1_entries": 1, "l1_offset": 196608, "refcount_offset": 65536, "refcount_clusters": 1, "snapshots": 0,
        "snapshots_offset": 0, "features": 0, "compatible": 0, "autoclear": 0, "refcount_order": 4, "length": 112,
    } | changed  # fmt: skip
    packed = struct.pack(">4sIQIIQIIQQIIQ" + "QQQII", MAGIC, *fields.values())
    extension = struct.pack(">II8s", 0xE2792ACA, 3, b"raw")
    return (packed.ljust(112, b"\0") + extension).ljust(256, b"\0") + b"/base"


def test_the_fields_are_read() -> None:
    found = parse_header(header())
    assert (found.version, found.virtual_bytes) == (3, 10 * MIB)
    assert (found.backing_file, found.backing_format) == ("/base", "raw")
    assert (found.encrypted, found.external_data_file, found.marked_corrupt) == (False, False, False)
    assert found.needed_bytes == 196616


def test_feature_bits_are_told_apart() -> None:
    assert parse_header(header(features=1 << 2)).external_data_file
    assert parse_header(header(features=1 << 1)).marked_corrupt
    assert parse_header(header(crypt=2)).encrypted
    assert not parse_header(header(features=1)).external_data_file


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"version": 1}, "version is 1"),
        ({"version": 4}, "version is 4"),
        ({"cluster_bits": 40}, "cluster size"),
        ({"length": 1 << 20}, "says to be 1048576 bytes long"),
        ({"length": 40}, "says to be 40 bytes long"),
        ({"backing_offset": 1 << 40}, "lies outside"),
        ({"backing_length": 1 << 30}, "lies outside"),
    ],
)
def test_what_cannot_be_is_said(changed: dict[str, int], words: str) -> None:
    with pytest.raises(NotQcow2, match=words):
        parse_header(header(**changed))


@pytest.mark.parametrize("length", [0, 3, 71, 73, 103])
def test_a_header_cut_short_is_none(length: int) -> None:
    with pytest.raises(NotQcow2):
        parse_header(header()[:length])


@given(st.binary(max_size=600))
def test_no_bytes_make_the_parser_fail_otherwise(tail: bytes) -> None:
    for data in (tail, MAGIC + struct.pack(">I", 3) + tail, MAGIC + struct.pack(">I", 2) + tail):
        try:
            parse_header(data)
        except NotQcow2:
            continue


@pytest.mark.real
@pytest.mark.parametrize("compat", ["0.10", "1.1"])
def test_headers_of_qemu_are_read(tmp_path: Path, compat: str) -> None:
    base = qcow2(tmp_path / "base.qcow2")
    path = tmp_path / "overlay.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"compat={compat}", "-F", "qcow2", "-b", base, path, "20M")
    found = read_header(path)
    assert (found.virtual_bytes, found.backing_file, found.backing_format) == (20 * MIB, str(base), "qcow2")
    assert found.needed_bytes <= path.stat().st_size
    assert not found.external_data_file


@pytest.mark.real
def test_an_overlay_is_unwritten_until_a_guest_writes(tmp_path: Path) -> None:
    base = qcow2(tmp_path / "base.qcow2")
    path = tmp_path / "overlay.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, path, "20M")
    assert read_is_unwritten(path)
    write_in_disk(path, b"\x55")
    assert not read_is_unwritten(path)
