"""virt/qemu_img.py against the real qemu-img."""

import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from taskvisor.model.errors import Busy, DoesNotFit, Refused
from taskvisor.model.snapshot import Compression, SnapshotEncoding
from taskvisor.model.states import ImageFormat
from tests.virt.made_images import MIB, noise, qcow2, read_disk, write_in_disk
from virt import qemu_img
from virt.command import CommandFailed, run_command
from virt.progress import ignore_progress

pytestmark = pytest.mark.real


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return qcow2(tmp_path / "base.qcow2")


@pytest.fixture
def overlay(tmp_path: Path, base: Path) -> Path:
    path = tmp_path / "overlay.qcow2"
    qemu_img.create_overlay(path, base=base, base_format=ImageFormat.QCOW2, size_bytes=8 * MIB)
    return path


def test_info_of_an_overlay_names_its_size_and_backing_file(overlay: Path, base: Path) -> None:
    assert qemu_img.read_info(overlay, ImageFormat.QCOW2) == qemu_img.ImageInfo(
        virtual_bytes=8 * MIB, backing_file=str(base)
    )


def test_info_of_what_is_no_such_image_fails(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("hello")
    with pytest.raises(CommandFailed, match="not in qcow2 format"):
        qemu_img.read_info(path, ImageFormat.QCOW2)


def test_a_sound_image_passes_the_check(base: Path) -> None:
    qemu_img.check_qcow2(base)


def test_an_image_cut_short_fails_the_check(base: Path) -> None:
    with base.open("r+b") as file:
        file.truncate(base.stat().st_size - 5 * 65536)
    with pytest.raises(qemu_img.Corrupt, match="end of the file"):
        qemu_img.check_qcow2(base)


def test_growing_makes_it_larger_and_twice_is_once(overlay: Path) -> None:
    for _ in range(2):
        qemu_img.grow(overlay, 16 * MIB)
        assert qemu_img.read_info(overlay, ImageFormat.QCOW2).virtual_bytes == 16 * MIB


def test_shrinking_is_refused_by_qemu(overlay: Path) -> None:
    with pytest.raises(CommandFailed, match="shrink"):
        qemu_img.grow(overlay, 4 * MIB)


@pytest.mark.parametrize(
    "make",
    [
        qemu_img.flatten,
        *(partial(qemu_img.encode, encoding=SnapshotEncoding(compression=choice)) for choice in Compression),
    ],
)
def test_a_flattened_chain_reads_the_same_and_stands_alone(tmp_path: Path, overlay: Path, make: object) -> None:
    assert callable(make)
    write_in_disk(overlay, b"\x55")
    reports: list[tuple[int, int | None]] = []
    target = tmp_path / "flat.qcow2"
    make(overlay, target, virtual_bytes=8 * MIB, progress=lambda done, total: reports.append((done, total)))
    assert qemu_img.read_info(target, ImageFormat.QCOW2).backing_file is None
    assert read_disk(target, tmp_path) == b"\x55" * 65536 + noise(MIB)[65536:] + bytes(7 * MIB)
    assert reports[-1] == (8 * MIB, 8 * MIB)
    assert reports == sorted(reports)


def test_a_chain_becomes_a_raw_disk(tmp_path: Path, overlay: Path) -> None:
    write_in_disk(overlay, b"\x55")
    target = tmp_path / "flat.raw"
    raw = SnapshotEncoding(format=ImageFormat.RAW, compression=Compression.NONE)
    qemu_img.encode(overlay, target, raw, virtual_bytes=8 * MIB, progress=ignore_progress)
    assert target.read_bytes() == b"\x55" * 65536 + noise(MIB)[65536:] + bytes(7 * MIB)
    assert target.stat().st_blocks * 512 < 2 * MIB


def test_zeros_compress_and_the_header_says_how(tmp_path: Path, base: Path) -> None:
    sizes = {}
    for choice in Compression:
        target = tmp_path / f"{choice}.qcow2"
        zeros = SnapshotEncoding(compression=choice)
        qemu_img.encode(base, target, zeros, virtual_bytes=4 * MIB, progress=ignore_progress)
        said = subprocess.run(["qemu-img", "info", target], check=True, capture_output=True, text=True).stdout
        assert ("compression type: zstd" in said) == (choice is Compression.ZSTD)
        sizes[choice] = target.stat().st_size
    assert max(sizes[Compression.ZLIB], sizes[Compression.ZSTD]) <= sizes[Compression.NONE]


def test_a_compression_that_qemu_img_was_built_without_is_refused_in_words(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_zstd(argv: list[str], **limits: Any) -> str:
        return run_command([word.replace("=zstd", "=lz4") for word in argv], **limits)

    monkeypatch.setattr(qemu_img, "run_command", without_zstd)
    zstd = SnapshotEncoding(compression=Compression.ZSTD)
    with pytest.raises(Refused, match="built without it; ask for zlib"):
        qemu_img.encode(base, tmp_path / "new.qcow2", zstd, virtual_bytes=4 * MIB, progress=ignore_progress)


def test_a_disk_open_for_writing_elsewhere_is_busy(tmp_path: Path, overlay: Path) -> None:
    guest = subprocess.Popen(
        ["qemu-io", "-f", "qcow2", str(overlay)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert guest.stdin is not None
    assert guest.stdout is not None
    try:
        guest.stdin.write("write 0 64k\n")
        guest.stdin.flush()
        while "wrote" not in guest.stdout.readline():
            pass
        with pytest.raises(Busy, match="open in another process"):
            qemu_img.flatten(overlay, tmp_path / "flat.qcow2", virtual_bytes=8 * MIB, progress=ignore_progress)
    finally:
        guest.communicate("quit\n", timeout=10)
    qemu_img.flatten(overlay, tmp_path / "flat.qcow2", virtual_bytes=8 * MIB, progress=ignore_progress)


def test_relative_paths_are_never_given_to_qemu(base: Path) -> None:
    with pytest.raises(ValueError, match="absolute paths only"):
        qemu_img.grow(Path("nbd:unix:/tmp/x"), MIB)


def test_names_that_qemu_could_take_for_protocols_or_options_are_files(tmp_path: Path, base: Path) -> None:
    path = tmp_path / "json:a,b=c %41.qcow2"
    qemu_img.create_overlay(path, base=base, base_format=ImageFormat.QCOW2, size_bytes=8 * MIB)
    assert path.exists()
    assert qemu_img.read_info(path, ImageFormat.QCOW2).backing_file == str(base)


def test_a_full_disk_is_said_with_its_numbers(tmp_path: Path, base: Path) -> None:
    with pytest.raises(DoesNotFit, match="free"):
        qemu_img.flatten(base, Path("/dev/full"), virtual_bytes=4 * MIB, progress=ignore_progress)


def test_a_protocol_that_qemu_does_not_know_is_told_from_one_without_such_a_name() -> None:
    assert not qemu_img.read_knows_protocol("floppy:none")
    assert qemu_img.read_knows_protocol("nbd:unix:/nonesuch")
