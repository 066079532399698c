"""virt/stores/raw_disk.py and virt/stores/preallocation.py with real images, and a reflink on a real XFS."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from taskvisor.model.disk_backend import Preallocation
from taskvisor.model.errors import Contradiction, Refused
from taskvisor.model.plan import CachedImage, DiskContent
from taskvisor.model.states import ImageFormat
from tests.virt.made_images import MIB, partitioned, qcow2, qemu_img, read_disk
from virt import qemu_img as real_qemu_img
from virt.progress import ignore_progress
from virt.stores import raw_disk
from virt.stores.data_disk import ensure_data_disk
from virt.stores.raw_disk import ensure_raw_root

pytestmark = pytest.mark.real


@pytest.fixture
def base(tmp_path: Path) -> CachedImage:
    """A cached qcow2 image of 4 MiB, of which the first is data."""
    return cached(qcow2(tmp_path / "base.qcow2"))


def cached(path: Path, image_format: ImageFormat = ImageFormat.QCOW2, virtual_bytes: int = 4 * MIB) -> CachedImage:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    path.chmod(0o444)
    return CachedImage(
        path=str(path), sha256=sha256, format=image_format, size_bytes=path.stat().st_size, virtual_bytes=virtual_bytes
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a disk is to be, in a directory with nothing else."""
    (tmp_path / "guest").mkdir()
    return tmp_path / "guest" / "disk.raw"


def make(path: Path, base: CachedImage, size_bytes: int = 0, preallocation: Preallocation = Preallocation.NONE) -> None:
    ensure_raw_root(path, base=base, size_bytes=size_bytes, preallocation=preallocation, progress=ignore_progress)


def names_beside(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def test_a_raw_root_disk_has_the_images_bytes_and_zeros_up_to_its_size(
    path: Path, base: CachedImage, tmp_path: Path
) -> None:
    make(path, base, 9 * MIB)

    assert path.read_bytes() == read_disk(Path(base.path), tmp_path) + bytes(5 * MIB)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_blocks * 512 <= 2 * MIB
    assert names_beside(path) == ["disk.raw", "disk.raw.json"]


def test_a_raw_image_is_copied_with_its_holes(path: Path, tmp_path: Path) -> None:
    source = tmp_path / "image.raw"
    source.write_bytes(partitioned(MIB))
    os.truncate(source, 64 * MIB)

    make(path, cached(source, ImageFormat.RAW, 64 * MIB))

    assert path.read_bytes() == source.read_bytes()
    assert path.stat().st_blocks * 512 <= 2 * MIB


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Path]:
    """A file system whose files can share blocks."""
    image, mounted = tmp_path / "xfs.img", tmp_path / "xfs"
    with image.open("wb") as file:
        file.truncate(512 * MIB)
    mounted.mkdir()
    subprocess.run(["mkfs.xfs", "-q", image], check=True, timeout=60)
    subprocess.run(["mount", "-o", "loop", image, mounted], check=True, timeout=30)
    yield mounted
    subprocess.run(["umount", mounted], check=True, timeout=30)


def used_bytes(mounted: Path) -> int:
    os.sync()
    facts = os.statvfs(mounted)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize


def test_a_raw_image_on_a_file_system_that_can_is_not_copied_but_shared(
    xfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (xfs / "image.raw").write_bytes(partitioned(32 * MIB))
    before = used_bytes(xfs)
    monkeypatch.setattr(real_qemu_img, "copy_as_raw", None)

    make(xfs / "disk.raw", cached(xfs / "image.raw", ImageFormat.RAW, 32 * MIB), 40 * MIB)

    assert (xfs / "disk.raw").read_bytes() == (xfs / "image.raw").read_bytes() + bytes(8 * MIB)
    assert used_bytes(xfs) - before < MIB


def test_a_raw_image_of_another_file_system_is_copied(xfs: Path, tmp_path: Path) -> None:
    (tmp_path / "image.raw").write_bytes(partitioned(MIB))

    make(xfs / "disk.raw", cached(tmp_path / "image.raw", ImageFormat.RAW, MIB))

    assert (xfs / "disk.raw").read_bytes() == (tmp_path / "image.raw").read_bytes()


@pytest.mark.parametrize("preallocation", [Preallocation.FALLOC, Preallocation.FULL])
def test_room_is_taken_when_the_disk_is_made_and_when_it_grows(
    path: Path, base: CachedImage, tmp_path: Path, preallocation: Preallocation
) -> None:
    make(path, base, 16 * MIB, preallocation)
    assert path.stat().st_blocks * 512 >= 16 * MIB

    make(path, base, 24 * MIB, preallocation)
    assert path.stat().st_blocks * 512 >= 24 * MIB
    assert path.read_bytes() == read_disk(Path(base.path), tmp_path) + bytes(20 * MIB)


@pytest.mark.parametrize("content", DiskContent)
@pytest.mark.parametrize("preallocation", [Preallocation.FALLOC, Preallocation.FULL])
def test_room_is_taken_for_a_disk_with_swap_or_a_file_system_too(
    path: Path, preallocation: Preallocation, content: DiskContent
) -> None:
    sparse = path.with_name("sparse")
    ensure_data_disk(path, content=content, size_bytes=64 * MIB, preallocation=preallocation)
    assert path.stat().st_blocks * 512 >= 64 * MIB

    if content is DiskContent.SWAP:  # the others bear times and ids of their own
        ensure_data_disk(sparse, content=content, size_bytes=64 * MIB)
        assert path.read_bytes()[8192:] == sparse.read_bytes()[8192:]


def test_work_on_the_way_is_told_in_bytes(path: Path, base: CachedImage) -> None:
    told: list[tuple[int, int | None]] = []
    ensure_raw_root(
        path,
        base=base,
        size_bytes=16 * MIB,
        preallocation=Preallocation.FULL,
        progress=lambda done, total: told.append((done, total)),
    )
    assert (4 * MIB, 4 * MIB) in told
    assert told[-1][1] == 16 * MIB


def test_a_disk_smaller_than_its_image_is_refused(path: Path, base: CachedImage) -> None:
    with pytest.raises(Refused, match="choose a flavor with a disk of at least 1 GiB"):
        make(path, base, 3 * MIB)
    assert names_beside(path) == []


def test_a_disk_that_a_guest_has_written_to_is_kept_and_grown(path: Path, base: CachedImage) -> None:
    make(path, base)
    guest_writes(path)
    make(path, base, 9 * MIB)
    make(path, base)
    assert path.read_bytes()[: 16 * 1024] == b"g" * 16 * 1024
    assert path.stat().st_size == 9 * MIB


def test_an_unwritten_disk_of_another_image_is_made_anew(path: Path, base: CachedImage, tmp_path: Path) -> None:
    other = cached(qcow2(tmp_path / "other.qcow2", seed=8))
    make(path, base)
    make(path, base, 6 * MIB)
    make(path, other)
    assert path.read_bytes() == read_disk(Path(other.path), tmp_path)


def test_a_written_disk_of_another_image_is_left_alone(path: Path, base: CachedImage) -> None:
    make(path, base)
    guest_writes(path)
    before = path.read_bytes()
    with pytest.raises(Contradiction, match="has been written to, so it is not made anew"):
        make(path, replace(base, sha256="0" * 64))
    assert path.read_bytes() == before


def test_a_written_disk_that_grew_is_known_to_be_written_to(path: Path, base: CachedImage) -> None:
    make(path, base)
    guest_writes(path)
    make(path, base, 9 * MIB)
    with pytest.raises(Contradiction, match="has been written to"):
        make(path, replace(base, sha256="0" * 64))


def test_a_disk_without_a_note_is_the_guests(path: Path, base: CachedImage) -> None:
    make(path, base)
    path.with_name("disk.raw.json").unlink()
    make(path, replace(base, sha256="0" * 64))
    assert path.stat().st_size == 4 * MIB


def a_link(path: Path) -> None:
    path.with_name("target").write_bytes(bytes(4096))
    path.symlink_to(path.with_name("target"))


@pytest.mark.parametrize("put", [a_link, Path.mkdir, Path.touch, lambda path: path.write_text("not yours")])
def test_what_is_no_raw_disk_is_left_alone(path: Path, base: CachedImage, put: object) -> None:
    put(path)  # type: ignore[operator]
    with pytest.raises(Contradiction, match="but is no raw disk"):
        make(path, base)
    assert "disk.raw.new" not in names_beside(path)


class Killed(BaseException):
    """Stands for SIGKILL: nothing may handle it."""


STEPS = ["ensure_no_file", "ensure_allocated", "sync_file", "_write_note", "rename_durably"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_death_anywhere_leaves_the_disk_whole_or_absent_and_is_mended(
    path: Path, base: CachedImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, moment: str
) -> None:
    real = getattr(raw_disk, step)

    def dying(*args: object) -> None:
        if moment == "after":
            real(*args)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(raw_disk, step, dying)
        with pytest.raises(Killed):
            make(path, base, 6 * MIB)
    assert path.exists() is ((step, moment) == ("rename_durably", "after"))

    make(path, base, 6 * MIB)

    assert path.read_bytes() == read_disk(Path(base.path), tmp_path) + bytes(2 * MIB)
    assert names_beside(path) == ["disk.raw", "disk.raw.json"]


def guest_writes(path: Path) -> None:
    """As QEMU does: in place."""
    with path.open("r+b") as file:
        file.write(b"g" * 16 * 1024)
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1_000_000))


def test_an_image_of_a_format_to_be_guessed_never_is(tmp_path: Path, path: Path) -> None:
    """A raw image that begins like a qcow2 with a backing file is read as the bytes that it is."""
    trap = tmp_path / "trap.raw"
    qemu_img("create", "-q", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", trap, "1M")
    os.truncate(trap, MIB)

    make(path, cached(trap, ImageFormat.RAW, MIB))

    assert path.read_bytes() == trap.read_bytes()
