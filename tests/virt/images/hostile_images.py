"""A corpus of hostile images: files that would have QEMU open others, or do more work than they are worth.

Made with the real qemu-img where it makes such files, and patched where no tool does. Each is refused in words of its own
(tests/virt/images/test_hostile_images.py). SECRET stands for any file of the host.
"""

import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from taskvisor.model.states import ImageFormat
from tests.virt.made_images import MIB, SECTOR, partitioned, qcow2, qemu_img, write_at

SECRET = "/etc/shadow"
Make = Callable[[Path], Path]


@dataclass(frozen=True, kw_only=True)
class Hostile:
    """One of the corpus: how it is made, what it is declared as, what is said of it.

    `shown_to_qemu`: its headers lead nowhere, and qemu-img has to say what is wrong with it.
    """

    name: str
    make: Make
    words: str
    declared: ImageFormat | None = None
    shown_to_qemu: bool = False


def _foreign(kind: str, path: Path, *options: str, data_bytes: int = MIB) -> Path:
    """A sound image of that kind: 8 MiB, with some data."""
    raw = path.with_suffix(".source")
    raw.write_bytes(partitioned(data_bytes))
    with raw.open("r+b") as file:
        file.truncate(8 * MIB)
    qemu_img("convert", "-f", "raw", "-O", kind, *(word for option in options for word in ("-o", option)), raw, path)
    raw.unlink()
    return path


def foreign(kind: str, *options: str) -> Make:
    """`kind` in qemu-img's words."""
    return lambda path: _foreign(kind, path, *options)


def _backed(name: str) -> Make:
    """qcow2 whose header names that backing file, patched in: qemu-img would open it."""

    def make(path: Path) -> Path:
        qemu_img("create", "-q", "-f", "qcow2", path, "10M")
        content = name.encode()
        write_at(path, 512, content)
        write_at(path, 8, struct.pack(">QI", 512, len(content)))
        return path

    return make


def _data_file(name: str) -> Make:
    def make(path: Path) -> Path:
        qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={path}.data,data_file_raw=on", path, "10M")
        content = path.read_bytes()
        old = f"{path}.data".encode()
        assert old in content
        path.write_bytes(content.replace(old, name.encode().ljust(len(old), b"/")[: len(old)]))
        return path

    return make


def _patched(make_sound: Make, *patches: tuple[int, bytes]) -> Make:
    def make(path: Path) -> Path:
        make_sound(path)
        for offset, content in patches:
            write_at(path, offset if offset >= 0 else path.stat().st_size + offset, content)
        return path

    return make


def _cut(make_sound: Make, keep_bytes: int) -> Make:
    """Negative: so many bytes are missing from its end."""

    def make(path: Path) -> Path:
        make_sound(path)
        with path.open("r+b") as file:
            file.truncate(keep_bytes if keep_bytes >= 0 else path.stat().st_size + keep_bytes)
        return path

    return make


def _with_descriptor(change: Callable[[str], str], *, subformat: str = "monolithicSparse") -> Make:
    """A VMDK whose embedded descriptor is another."""

    def make(path: Path) -> Path:
        _foreign("vmdk", path, f"subformat={subformat}")
        content = path.read_bytes()
        size_bytes = struct.unpack_from("<Q", content, 36)[0] * SECTOR
        old = content[SECTOR : SECTOR + size_bytes].partition(b"\0")[0].decode()
        assert change(old) != old, old
        write_at(path, SECTOR, change(old).encode().ljust(size_bytes, b"\0"))
        return path

    return make


def _extent(line: str) -> Make:
    def change(text: str) -> str:
        return "\n".join(line if old.startswith("RW ") else old for old in text.split("\n"))

    return _with_descriptor(change)


def _split(subformat: str) -> Make:
    def make(path: Path) -> Path:
        qemu_img("create", "-q", "-f", "vmdk", "-o", f"subformat={subformat}", path, "10M")
        return path

    return make


def _descriptor_alone(path: Path) -> Path:
    path.write_text(
        '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
        f'RW 4 FLAT "{SECRET}" 0\n' + " " * 4096
    )
    with path.open("r+b") as file:
        file.truncate(4096)
    return path


def _vhdx_with_parent(path: Path) -> Path:
    """The bit HasParent of its file parameters is set."""
    _foreign("vhdx", path)
    content = path.read_bytes()
    entry = content.index(uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e").bytes_le, 192 << 10)
    (metadata,) = struct.unpack_from("<Q", content, entry + 16)
    item = content.index(uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b").bytes_le, metadata)
    (offset,) = struct.unpack_from("<I", content, item + 16)
    (bits,) = struct.unpack_from("<I", content, metadata + offset + 4)
    write_at(path, metadata + offset + 4, struct.pack("<I", bits | 2))
    return path


def _vhd_of_kind(kind: int) -> Make:
    return _patched(foreign("vpc"), (60, struct.pack(">I", kind)), (60 - SECTOR, struct.pack(">I", kind)))


def with_footer(path: Path) -> Path:
    """A streamOptimized VMDK as a stream has it: where its grains are listed is said in a footer, at its end."""
    _STREAM(path)
    header = path.read_bytes()[:SECTOR]
    marker = struct.pack("<QII", 1, 0, 3).ljust(SECTOR, b"\0")
    with path.open("ab") as file:
        file.write(bytes(-file.tell() % SECTOR) + marker + header + bytes(SECTOR))
    write_at(path, 56, struct.pack("<Q", 0xFFFFFFFFFFFFFFFF))
    return path


def _bomb(kind: str, *options: str) -> Make:
    """A few KiB that say to be a disk of 1 PiB, or as much as the format can say."""

    def make(path: Path) -> Path:
        size = {"qcow2": "1P", "vhdx": "60T", "vpc": "2000G"}[kind]
        qemu_img("create", "-q", "-f", kind, *options, path, size)
        return path

    return make


_QCOW2: Make = qcow2
_SPARSE = foreign("vmdk")
_STREAM = foreign("vmdk", "subformat=streamOptimized")

CORPUS: tuple[Hostile, ...] = (
    Hostile(name="backing file, absolute", make=_backed(SECRET), words=r"has a backing file \('/etc/shadow'\)"),
    Hostile(name="backing file, relative", make=_backed("../../x"), words=r"has a backing file \('../../x'\)"),
    Hostile(
        name="backing file, json:",
        make=_backed('json:{"driver":"raw","file":{"driver":"file","filename":"/etc/shadow"}}'),
        words="has a backing file .'json:",
    ),
    Hostile(name="backing file, nbd:", make=_backed("nbd:localhost:10809"), words="has a backing file .'nbd:localhost"),
    Hostile(
        name="backing file, nbd+unix:", make=_backed("nbd+unix:///?socket=/x"), words="has a backing file .'nbd.unix"
    ),
    Hostile(name="backing file, http:", make=_backed("http://169.254.169.254/"), words="has a backing file .'http:"),
    Hostile(name="backing file, a device", make=_backed("/dev/vda"), words=r"has a backing file \('/dev/vda'\)"),
    Hostile(name="external data file", make=_data_file(SECRET), words="keeps its data in an external data file"),
    Hostile(
        name="backing file, declared raw",
        make=_backed(SECRET),
        words="was declared raw but is qcow2",
        declared=ImageFormat.RAW,
    ),
    Hostile(name="qcow2 of 1 PiB", make=_bomb("qcow2"), words="claims a disk of 1048576.00 GiB"),
    Hostile(name="vhdx of 60 TiB", make=_bomb("vhdx"), words="claims a disk of 61440.00 GiB", shown_to_qemu=True),
    Hostile(name="vhd of 2 TiB", make=_bomb("vpc"), words="claims a disk of 2000", shown_to_qemu=True),
    Hostile(name="qcow2, header cut", make=_cut(_QCOW2, 100), words="not whole 512-byte sectors|not a usable qcow2"),
    Hostile(name="qcow2, tables cut", make=_cut(_QCOW2, 4096), words="is cut short: it has 4096 bytes, and its tables"),
    Hostile(name="qcow2, data cut", make=_cut(_QCOW2, -300_000), words="is damaged or cut short", shown_to_qemu=True),
    Hostile(
        name="vmdk, header cut", make=_cut(_SPARSE, 512), words="is cut short: it has 512 bytes, and its vmdk header"
    ),
    Hostile(
        name="vmdk, data cut",
        make=_cut(_SPARSE, -300_000),
        words="is damaged or cut short|cannot be opened by QEMU",
        shown_to_qemu=True,
    ),
    Hostile(name="vmdk, footer cut", make=_cut(with_footer, -1024), words="the footer that its VMDK header announces"),
    Hostile(name="vdi, data cut", make=_cut(foreign("vdi"), -300_000), words="is cut short: .* its vdi header"),
    Hostile(name="vhd, footer cut", make=_cut(foreign("vpc"), -512), words="is cut short: .* its vhd header"),
    Hostile(name="vhdx, tables cut", make=_cut(foreign("vhdx"), 200 << 10), words="is cut short: .* its vhdx header"),
    Hostile(
        name="vmdk, extent at an absolute path",
        make=_extent(f'RW 16384 FLAT "{SECRET}" 0'),
        words="an extent outside of itself .'/etc/shadow'",
    ),
    Hostile(name="vmdk, extent above", make=_extent('RW 16384 SPARSE "../../x"'), words="an extent outside of itself"),
    Hostile(
        name="vmdk, extent by protocol", make=_extent('RW 16384 SPARSE "nbd:x:1"'), words="an extent outside of itself"
    ),
    Hostile(
        name="vmdk, flat extent beside it", make=_extent('RW 16384 FLAT "beside" 0'), words="an extent of kind flat"
    ),
    Hostile(name="vmdk, device extent", make=_extent('RW 16384 VMFSRDM "vda" 0'), words="an extent of kind vmfsrdm"),
    Hostile(
        name="vmdk, two extents",
        make=_extent('RW 8192 SPARSE "image"\nRW 8192 SPARSE "other"'),
        words="a VMDK of 2 extents",
    ),
    Hostile(
        name="vmdk, no size of its own",  # then QEMU opens what the embedded descriptor names
        make=_patched(_extent(f'RW 16384 FLAT "{SECRET}" 0'), (12, struct.pack("<Q", 0))),
        words="claims no size, so its data would be sought in other files",
    ),
    Hostile(
        name="vmdk, with a parent",
        make=_with_descriptor(
            lambda text: text.replace("parentCID=ffffffff", f'parentCID=00000001\nparentFileNameHint="{SECRET}"')
        ),
        words="a VMDK that differs from a parent image",
    ),
    Hostile(
        name="vmdk, of a type that it is not",
        make=_with_descriptor(lambda text: text.replace("monolithicSparse", "monolithicFlat")),
        words="a VMDK of subformat monolithicflat",
    ),
    Hostile(
        name="vmdk, footer that contradicts the header",
        make=_patched(with_footer, (-2 * SECTOR + 12, struct.pack("<Q", 0))),
        words="whose footer contradicts its header",
    ),
    Hostile(name="vmdk, monolithicFlat", make=_split("monolithicFlat"), words="is a VMDK descriptor"),
    Hostile(name="vmdk, split", make=_split("twoGbMaxExtentSparse"), words="is a VMDK descriptor"),
    Hostile(name="vmdk, descriptor alone", make=_descriptor_alone, words="is a VMDK descriptor"),
    Hostile(
        name="vmdk, descriptor alone, declared raw",
        make=_descriptor_alone,
        words="was declared raw but is vmdk|is a VMDK descriptor",
        declared=ImageFormat.RAW,
    ),
    Hostile(
        name="vmdk, descriptor of 1 GiB",
        make=_patched(_SPARSE, (36, struct.pack("<Q", 1 << 21))),
        words="a descriptor of 1073741824 bytes",
    ),
    Hostile(
        name="vdi, a difference",
        make=_patched(foreign("vdi"), (0x4C, struct.pack("<I", 4))),
        words="a VDI that differs from a parent",
    ),
    Hostile(
        name="vdi, with a parent",
        make=_patched(foreign("vdi"), (0x1B8, b"\x01" * 16)),
        words="a VDI that differs from a parent",
    ),
    Hostile(name="vhd, a difference", make=_vhd_of_kind(4), words="a VHD that differs from a parent"),
    Hostile(name="vhd, of no known kind", make=_vhd_of_kind(9), words="a VHD of the unknown kind 9"),
    Hostile(name="vhdx, with a parent", make=_vhdx_with_parent, words="a VHDX that differs from a parent"),
    Hostile(
        name="vhdx, without its regions",
        make=_patched(foreign("vhdx"), (192 << 10, b"none")),
        words="a VHDX whose table of regions is broken|is not known to be a disk",
    ),
    Hostile(name="vmdk declared vdi", make=_SPARSE, words="was declared vdi but is vmdk", declared=ImageFormat.VDI),
    Hostile(
        name="vdi declared raw", make=foreign("vdi"), words="was declared raw but is vdi", declared=ImageFormat.RAW
    ),
    Hostile(
        name="raw declared qcow2",
        make=lambda path: _written(path, partitioned()),
        words="was declared qcow2 but is raw",
        declared=ImageFormat.QCOW2,
    ),
    Hostile(
        name="two formats in one",
        make=lambda path: _written(path, b"QFI\xfb" + partitioned()[4:]),
        words="signatures of several formats",
    ),
    Hostile(
        name="qcow2 behind a VDI's signature",
        make=_patched(_QCOW2, (64, struct.pack("<I", 0xBEDA107F))),
        words="signatures of several formats .*qcow2, vdi",
    ),
)


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
