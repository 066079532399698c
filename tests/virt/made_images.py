"""Images made for tests, with the real qemu-img."""

import random
import struct
import subprocess
from pathlib import Path

MIB = 1 << 20
SECTOR = 512


def qemu_img(*words: str | Path) -> None:
    """Run qemu-img; a failure fails the test with what it said."""
    done = subprocess.run(["qemu-img", *map(str, words)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def noise(size_bytes: int, seed: int = 7) -> bytes:
    """Bytes that do not compress, the same each time."""
    block = random.Random(seed).randbytes(min(size_bytes, 64 * MIB))
    return (block * -(-size_bytes // max(len(block), 1)))[:size_bytes]


def partitioned(size_bytes: int = MIB, seed: int = 7) -> bytes:
    """A raw disk with an MBR that names one partition."""
    entry = struct.pack("<B3sB3sII", 0x80, b"\x20\x21\x00", 0x83, b"\xff\xff\xff", 1, size_bytes // SECTOR - 1)
    mbr = bytes(446) + entry + bytes(48) + b"\x55\xaa"
    return mbr + noise(size_bytes - SECTOR, seed)


def qcow2(path: Path, *, virtual_bytes: int = 4 * MIB, data_bytes: int = MIB, seed: int = 7) -> Path:
    """A qcow2 image without a backing file, with some data at its beginning."""
    raw = path.with_suffix(".source")
    raw.write_bytes(noise(data_bytes, seed))
    with raw.open("r+b") as file:
        file.truncate(virtual_bytes)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, path)
    raw.unlink()
    return path


def write_at(path: Path, offset: int, content: bytes) -> None:
    """Patch the file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def write_in_disk(path: Path, content: bytes, *, image_format: str = "qcow2") -> None:
    """What a guest would do: write a pattern into the disk at its beginning (qemu-io, 64 KiB)."""
    command = f"write -P {content[0]} 0 64k"
    done = subprocess.run(
        ["qemu-io", "-f", image_format, "-c", command, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def read_disk(path: Path, tmp: Path) -> bytes:
    """All bytes that a guest would see."""
    raw = tmp / "seen.raw"
    qemu_img("convert", "-O", "raw", path, raw)
    content = raw.read_bytes()
    raw.unlink()
    return content
