"""virt/images/inspection.py: every kind of image that must not pass, beside those that must."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from taskvisor.model.errors import Refused
from taskvisor.model.states import ImageFormat
from tests.virt.made_images import MIB, noise, partitioned, qcow2, qemu_img, write_at
from virt.images.inspection import Evidence, Inspected, check_declared, inspect_image

pytestmark = pytest.mark.real

NAME = "http://images/x"
QCOW2 = Inspected(format=ImageFormat.QCOW2, virtual_bytes=4 * MIB, evidence=Evidence.CONTENT)


def inspect(path: Path, declared: ImageFormat | None = None) -> Inspected:
    return inspect_image(path, declared=declared, name=NAME)


def written(content: bytes) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return make


def created(image_format: str, *options: str) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        qemu_img("create", "-q", "-f", image_format, *options, path, "10M")
        return path

    return make


def patched(offset: int, content: bytes) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        write_at(qcow2(path), offset, content)
        return path

    return make


def cut(keep_bytes: int) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        with qcow2(path).open("r+b") as file:
            file.truncate(keep_bytes)
        return path

    return make


def backed(path: Path) -> Path:
    qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", path)
    return path


def with_data_file(path: Path) -> Path:
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={path}.data", path, "10M")
    return path


def symlink(path: Path) -> Path:
    path.symlink_to(qcow2(path.with_suffix(".real")))
    return path


def directory(path: Path) -> Path:
    path.mkdir()
    return path


HTML = b"<!DOCTYPE html>\n<title>404 Not Found</title>" + b" " * 4000

REFUSED: list[tuple[str, Callable[[Path], Path], str]] = [
    ("empty", written(b""), "is empty"),
    ("directory", directory, "is not a regular file"),
    ("symlink", symlink, "is not a regular file"),
    (
        "text",
        written(b"hello, this is\nno image\n"),
        'not whole 512-byte sectors .it begins with "hello, this is no image"',
    ),
    ("web page", written(HTML), "it begins with .<!DOCTYPE html> <title>404 Not Foun"),
    ("web page of whole sectors", written(HTML[:2048]), "declare format raw"),
    ("noise", written(noise(MIB)), "no known format, partition table or ISO volume"),
    ("gzip", written(gzip.compress(partitioned())), "packed with gzip; unpack it first"),
    ("xz", written(b"\xfd7zXZ\x00" + noise(506)), "packed with xz"),
    ("qcow2 with a backing file", backed, "has a backing file .'/etc/passwd'.; flatten it first"),
    ("qcow2 with a data file", with_data_file, "external data file"),
    ("qcow2 with LUKS in it", patched(32, struct.pack(">I", 2)), "is encrypted"),
    ("qcow2 with legacy encryption", patched(32, struct.pack(">I", 1)), "is encrypted"),
    ("qcow2 marked corrupt", patched(72, struct.pack(">Q", 2)), "marked corrupt"),
    ("qcow2 with unknown features", patched(72, struct.pack(">Q", 1 << 40)), "not safe to use"),
    ("qcow2 of version 1", created("qcow"), "version is 1"),
    ("qcow2 of version 9", patched(4, struct.pack(">I", 9)), "version is 9"),
    ("qcow2 of 65 TiB", patched(24, struct.pack(">Q", 65 << 40)), "claims a disk of 66560.00 GiB"),
    ("qcow2 of 2^63 bytes", patched(24, struct.pack(">Q", 1 << 63)), "claims a disk of"),
    ("qcow2 of no bytes", patched(24, struct.pack(">Q", 0)), "claims a disk of 0.0 MiB"),
    ("qcow2 cut in its header", cut(80), "512-byte sectors|not a usable qcow2"),
    ("qcow2 cut after its header", cut(4096), "is cut short: it has 4096 bytes"),
    ("qcow2 cut in its data", cut(800_000), "damaged or cut short"),
    ("qcow2 whose L1 table is elsewhere", patched(40, struct.pack(">Q", 1 << 50)), "is cut short"),
    ("qed", created("qed"), "is a qed image, which is not taken: convert it first"),
    ("luks", written(b"LUKS\xba\xbe\x00\x01" + noise(4088)), "is a luks image"),
    ("several at once", written(b"QFI\xfb" + partitioned()[4:]), "signatures of several formats .gpt, qcow2."),
]


@pytest.mark.parametrize(("make", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_it_is_refused_in_words_that_say_what_to_do(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    with pytest.raises(Refused, match=words) as raised:
        inspect(make(tmp_path / "image"))
    assert str(raised.value).startswith(NAME)


@pytest.mark.parametrize("compat", ["0.10", "1.1"])
def test_a_qcow2_image_is_taken(tmp_path: Path, compat: str) -> None:
    path = tmp_path / "image"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"compat={compat}", path, "4M")
    assert inspect(path) == QCOW2
    assert inspect(path, ImageFormat.QCOW2) == QCOW2


@pytest.mark.parametrize("options", [("-c",), ("-c", "-o", "compression_type=zstd"), ("-o", "lazy_refcounts=on")])
def test_qcow2_of_any_make_is_taken(tmp_path: Path, options: tuple[str, ...]) -> None:
    path = tmp_path / "image"
    qemu_img("convert", "-f", "qcow2", "-O", "qcow2", *options, qcow2(tmp_path / "plain"), path)
    assert inspect(path) == QCOW2


def test_a_disk_with_a_partition_table_is_raw_without_being_declared(tmp_path: Path) -> None:
    path = written(partitioned(2 * MIB))(tmp_path / "image")
    raw = Inspected(format=ImageFormat.RAW, virtual_bytes=2 * MIB, evidence=Evidence.CONTENT)
    assert inspect(path) == raw
    assert inspect(path, ImageFormat.RAW) == raw


def test_an_iso_is_known_without_being_declared_and_may_be_declared_raw_too(tmp_path: Path) -> None:
    from taskvisor.model.plan import Seed
    from virt.seeds.iso import iso_for

    content = iso_for(Seed(meta_data="", user_data="", network_config=""))
    bootable = content[:510] + b"\x55\xaa" + content[512:]  # a hybrid: ISO and partition table in one
    for kind in (content, bootable):
        found = inspect(written(kind)(tmp_path / "image"))
        assert (found.format, found.evidence) == (ImageFormat.ISO, Evidence.CONTENT)
        assert inspect(tmp_path / "image", ImageFormat.ISO) == inspect(tmp_path / "image", ImageFormat.RAW) == found
        assert found.format.kept_as is ImageFormat.RAW


def test_a_disk_without_signature_is_raw_when_declared(tmp_path: Path) -> None:
    found = inspect(written(noise(MIB))(tmp_path / "image"), ImageFormat.RAW)
    assert found == Inspected(format=ImageFormat.RAW, virtual_bytes=MIB, evidence=Evidence.DECLARED)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (HTML + b"x", "no disk image: its 4045 bytes are not whole"),
        (gzip.compress(noise(600)), "packed with gzip"),
    ],
)
def test_a_declaration_of_raw_is_not_enough_for_what_cannot_be_a_disk(
    tmp_path: Path, content: bytes, words: str
) -> None:
    with pytest.raises(Refused, match=words):
        inspect(written(content)(tmp_path / "image"), ImageFormat.RAW)


def test_declared_raw_but_qcow2_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="was declared raw but is qcow2"):
        inspect(qcow2(tmp_path / "image"), ImageFormat.RAW)


def test_declared_qcow2_but_raw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="was declared qcow2 but is raw"):
        inspect(written(partitioned())(tmp_path / "image"), ImageFormat.QCOW2)


def test_what_one_caller_declared_does_not_hold_for_the_next() -> None:
    check_declared(ImageFormat.RAW, ImageFormat.RAW, Evidence.DECLARED, NAME)
    with pytest.raises(Refused, match="declare format raw"):
        check_declared(None, ImageFormat.RAW, Evidence.DECLARED, NAME)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused):
        inspect(tmp_path / "none")
