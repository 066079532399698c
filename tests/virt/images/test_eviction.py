"""virt/images/eviction.py and virt/images/backing_names.py: what goes when the disk is full, and what never does."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskvisor.model.errors import Busy, CannotAsk, DoesNotFit
from taskvisor.model.plan import CachedImage
from taskvisor.model.records import ImageSource
from tests.virt.made_images import MIB, noise, partitioned, qcow2, qemu_img
from virt.images import eviction
from virt.images.backing_names import read_backing_names
from virt.images.cache import LocalImageCache
from virt.images.cache_records import CacheRecords
from virt.images.eviction import ASIDE, Evictor
from virt.progress import ignore_progress
from virt.stores.overlay import ensure_overlay

pytestmark = pytest.mark.real

LONG_AGO = 1_600_000_000.0
HOUR_S = 3600.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host's state directory."""
    (tmp_path / "state" / "instances").mkdir(parents=True)
    return tmp_path / "state"


def cache_of(root: Path) -> LocalImageCache:
    return LocalImageCache(root / "cache", disk_roots=(root / "instances", root / "images"), evict_after_s=HOUR_S)


def evictor_of(root: Path) -> Evictor:
    return Evictor(CacheRecords(root / "cache"), disk_roots=(root / "instances",), evict_after_s=HOUR_S)


def cached(root: Path, path: Path) -> CachedImage:
    return cache_of(root).ensure_cached(ImageSource(url=path.as_uri()), ignore_progress)


def age(image: CachedImage) -> None:
    os.utime(f"{image.path}.json", (LONG_AGO, LONG_AGO))


@pytest.fixture
def old(root: Path, tmp_path: Path) -> CachedImage:
    """An image in the cache that nobody has asked for in years."""
    image = cached(root, qcow2(tmp_path / "old", seed=1))
    age(image)
    return image


def disk_of(root: Path, image: CachedImage, name: str = "a/disk") -> Path:
    path = root / "instances" / name
    path.parent.mkdir(exist_ok=True)
    ensure_overlay(path, base=image, size_bytes=0)
    return path


def test_what_nobody_used_for_long_goes_with_its_record(root: Path, old: CachedImage) -> None:
    size_bytes = Path(old.path).stat().st_blocks * 512
    assert evictor_of(root).evict() == size_bytes
    left = [path for path in (root / "cache").iterdir() if path.is_file()]
    assert left == []
    assert evictor_of(root).evict() == 0


def test_what_was_used_lately_stays(root: Path, tmp_path: Path) -> None:
    image = cached(root, qcow2(tmp_path / "young"))
    assert evictor_of(root).evict() == 0
    assert Path(image.path).exists()


def test_what_a_disk_stands_on_stays_however_old(root: Path, old: CachedImage) -> None:
    disk_of(root, old)
    assert evictor_of(root).evict() == 0
    assert Path(old.path).exists()


def test_what_a_disk_stands_on_by_another_disk_elsewhere_stays(root: Path, tmp_path: Path, old: CachedImage) -> None:
    middle = tmp_path / "middle"
    qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", old.path, middle)
    (root / "instances" / "a").mkdir()
    qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", middle, root / "instances" / "a" / "disk")
    assert evictor_of(root).evict() == 0


def test_what_a_disk_stands_on_by_a_link_or_a_relative_name_stays(root: Path, tmp_path: Path, old: CachedImage) -> None:
    (tmp_path / "link").symlink_to(old.path)
    disk = root / "instances" / "disk"
    for name in (str(tmp_path / "link"), f"../cache/{old.sha256}"):
        qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", name, disk, "4M")
        assert evictor_of(root).evict() == 0


def test_what_has_a_second_name_stays(root: Path, tmp_path: Path, old: CachedImage) -> None:
    (tmp_path / "second").hardlink_to(old.path)
    assert evictor_of(root).evict() == 0


def test_an_image_without_a_record_stays(root: Path, old: CachedImage) -> None:
    Path(f"{old.path}.json").unlink()
    assert evictor_of(root).evict() == 0
    assert Path(old.path).exists()


@pytest.mark.parametrize("content", [b"QFI\xfb", b"QFI\xfb" + b"\xff" * 4096])
def test_when_a_disk_cannot_be_asked_nothing_goes(root: Path, old: CachedImage, content: bytes) -> None:
    (root / "instances" / "disk").write_bytes(content)
    assert evictor_of(root).evict() == 0
    assert Path(old.path).exists()
    with pytest.raises(CannotAsk, match="instances/disk"):
        read_backing_names((root / "instances",))


def test_other_files_and_missing_roots_stand_on_nothing(root: Path, old: CachedImage) -> None:
    (root / "instances" / "owner.json").write_text(old.path)
    (root / "instances" / "link").symlink_to("nowhere")
    os.mkfifo(root / "instances" / "pipe")
    assert read_backing_names((root / "instances", root / "none")) == frozenset()


@pytest.mark.parametrize("name", ["disk.raw", "disk.raw.new", "disk.eph0", "disk.swap", "disk.target"])
def test_what_a_guest_wrote_into_a_raw_disk_is_no_header(root: Path, old: CachedImage, name: str) -> None:
    """It could name any image and have it kept for ever; or be no header, so that nothing would be evicted ever again."""
    directory = root / "instances" / "a"
    directory.mkdir()
    (directory / name).write_bytes(b"QFI\xfb" + bytes(508))
    assert read_backing_names((root / "instances",)) == frozenset()
    assert evictor_of(root).evict() > 0
    assert not Path(old.path).exists()


def test_a_loop_of_disks_has_an_end(root: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        qemu_img("create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", root / "instances" / other,
                 root / "instances" / name, "4M")  # fmt: skip
    assert {str(root / "instances" / name) for name in "ab"} <= read_backing_names((root / "instances",))


# What comes into use while it is being evicted


def between_the_looks(monkeypatch: pytest.MonkeyPatch, act: object) -> None:
    """`act` runs when the image is out of use by its name, before the second look at the disks."""
    looks = []

    def look(roots: tuple[Path, ...]) -> frozenset[str]:
        looks.append(roots)
        if len(looks) == 2:
            act()  # type: ignore[operator]
        return read_backing_names(roots)

    monkeypatch.setattr(eviction, "read_backing_names", look)


def test_a_disk_made_meanwhile_is_seen_by_the_second_look(
    root: Path, old: CachedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> None:
        qemu_img("create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", old.path, root / "instances" / "disk", "4M")

    between_the_looks(monkeypatch, make)
    assert evictor_of(root).evict() == 0
    assert Path(old.path).exists()


def test_a_build_that_asks_meanwhile_is_told_to_come_again(
    root: Path, tmp_path: Path, old: CachedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may not stand on what is going: whoever is told of an image finds it there."""
    told: list[object] = []
    source = ImageSource(url=(tmp_path / "old").as_uri(), sha256=old.sha256)
    present = CacheRecords.read_held

    def read_then_evict(records: CacheRecords, sha256: str) -> object:
        held = present(records, sha256)
        if not told:
            told.append(evictor_of(root).evict())
        return held

    monkeypatch.setattr(CacheRecords, "read_held", read_then_evict)
    with pytest.raises(Busy, match="is being evicted"):
        cache_of(root).ensure_cached(source, ignore_progress)
    image = cache_of(root).ensure_cached(source, ignore_progress)
    assert Path(image.path).exists()
    assert told != [0]


def test_an_image_asked_for_between_the_looks_stays(
    root: Path, old: CachedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    used_at = CacheRecords.read_used_at
    asked: list[str] = []

    def ask_meanwhile(records: CacheRecords, sha256: str) -> float:
        if asked:
            records.note_use(sha256)
        asked.append(sha256)
        return used_at(records, sha256)

    monkeypatch.setattr(CacheRecords, "read_used_at", ask_meanwhile)
    assert evictor_of(root).evict() == 0
    assert Path(old.path).exists()
    assert len(asked) == 2


def test_an_image_whose_name_is_held_by_another_process_stays(root: Path, old: CachedImage) -> None:
    with eviction._free(CacheRecords(root / "cache").content_lock_path(old.sha256)) as held:
        assert held
        assert evictor_of(root).evict() == 0
    assert Path(old.path).exists()


@pytest.mark.parametrize("fetched_anew", [False, True])
def test_what_a_dead_evictor_took_out_of_use_has_its_name_again(
    root: Path, tmp_path: Path, old: CachedImage, fetched_anew: bool
) -> None:
    Path(old.path).rename(f"{old.path}{ASIDE}")
    if fetched_anew:
        LocalImageCache(root / "cache").ensure_cached(ImageSource(url=(tmp_path / "old").as_uri()), ignore_progress)
    cache_of(root)
    assert Path(old.path).exists()
    assert not Path(f"{old.path}{ASIDE}").exists()


# Unfinished transfers


def test_an_old_unfinished_transfer_goes_and_a_young_one_stays(root: Path, old: CachedImage) -> None:
    sources = root / "cache" / "sources"
    for name in ("0" * 64, "1" * 64):
        for suffix in ("part", "part.json", "converted"):
            (sources / f"{name}.{suffix}").write_bytes(noise(MIB))
            if name[0] == "0":
                os.utime(sources / f"{name}.{suffix}", (LONG_AGO, LONG_AGO))
    assert evictor_of(root).evict() >= 2 * MIB
    left = sorted(path.name for path in sources.iterdir() if path.name[:2] in ("00", "11"))
    assert left == [f"{'1' * 64}.{suffix}" for suffix in ("converted", "part", "part.json")]


# As a whole


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(directory)], check=True)
    try:
        (directory / "instances").mkdir()
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def raw(path: Path, seed: int) -> Path:
    path.write_bytes(partitioned(30 * MIB, seed))
    return path


def test_an_image_that_finds_no_room_is_given_that_of_one_that_nobody_uses(small_disk: Path, tmp_path: Path) -> None:
    first = cached(small_disk, raw(tmp_path / "first", 1))
    age(first)
    second = cached(small_disk, raw(tmp_path / "second", 2))
    assert Path(second.path).exists()
    assert not Path(first.path).exists()


@pytest.mark.parametrize("why", ["a disk stands on it", "it is young"])
def test_an_image_that_finds_no_room_is_refused_here_when_all_are_in_use(
    small_disk: Path, tmp_path: Path, why: str
) -> None:
    first = cached(small_disk, raw(tmp_path / "first", 1))
    if why == "a disk stands on it":
        disk_of(small_disk, first)
        age(first)
    with pytest.raises(DoesNotFit, match="free some space"):
        cached(small_disk, raw(tmp_path / "second", 2))
    assert Path(first.path).exists()


def test_a_pass_over_the_cache_lets_go_of_what_is_old_though_the_disk_is_not_full(
    root: Path, old: CachedImage, tmp_path: Path
) -> None:
    kept = cached(root, qcow2(tmp_path / "new", seed=2))

    evicted = cache_of(root).ensure_old_evicted()

    assert (evicted.images, evicted.freed_bytes > 0) == (1, True)
    assert (Path(old.path).exists(), Path(kept.path).exists()) == (False, True)
    assert cache_of(root).ensure_old_evicted().images == 0


def test_a_pass_that_cannot_ask_the_disks_says_so_and_lets_go_of_nothing(root: Path, old: CachedImage) -> None:
    (root / "instances" / "disk").write_bytes(b"QFI\xfb" + b"\xff" * 508)

    with pytest.raises(CannotAsk):
        cache_of(root).ensure_old_evicted()

    assert Path(old.path).exists()


def test_a_host_without_a_cache_has_nothing_to_let_go_of(root: Path) -> None:
    assert cache_of(root).ensure_old_evicted().images == 0
