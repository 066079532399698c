"""virt/disks.py, with overlay, owned_directories and published_images, on the real file system with the real qemu-img."""

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taskvisor.flow.ports import Disks
from taskvisor.model.errors import Contradiction, DoesNotFit, Refused, Retryable
from taskvisor.model.ids import ImageId, InstanceId
from taskvisor.model.plan import CachedImage, DiskBus, DiskContent, DiskLayout, DiskPlan, DiskRole, Seed
from taskvisor.model.snapshot import DEFAULT_ENCODING, SnapshotEncoding
from taskvisor.model.states import ImageFormat
from tests.virt.made_images import MIB, noise, partitioned, qcow2, qemu_img, read_disk, write_at, write_in_disk
from virt import owned_directories
from virt.disks import LocalDisks
from virt.images import published as published_images
from virt.progress import ignore_progress
from virt.qcow2_header import read_header
from virt.seeds.iso import iso_for
from virt.stores import overlay

pytestmark = pytest.mark.real

INSTANCE = InstanceId("6ba7b810-9dad-51d1-80b4-00c04fd430c8")
OTHER = InstanceId("6ba7b811-9dad-51d1-80b4-00c04fd430c8")
IMAGE = ImageId("7ba7b810-9dad-51d1-80b4-00c04fd430c8")
SEED = Seed(meta_data="{}", user_data="#cloud-config\n", network_config="{}")
GIB = 1 << 30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def disks(root: Path) -> LocalDisks:
    return LocalDisks(root)


@pytest.fixture
def base(tmp_path: Path) -> CachedImage:
    return cached(qcow2(tmp_path / "base.qcow2"))


def cached(path: Path, image_format: ImageFormat = ImageFormat.QCOW2, virtual_bytes: int = 4 * MIB) -> CachedImage:
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    path.chmod(0o444)
    return CachedImage(
        path=str(path), sha256=sha256, format=image_format, size_bytes=len(content), virtual_bytes=virtual_bytes
    )


def layout_for(root: Path, instance_id: InstanceId = INSTANCE) -> DiskLayout:
    directory = root / "instances" / instance_id
    return DiskLayout(
        directory=str(directory),
        console_log=str(directory / "console.log"),
        disks=(root_disk(root, 0), seed_disk(root)),
    )


def root_disk(root: Path, size_bytes: int) -> DiskPlan:
    return DiskPlan(
        role=DiskRole.ROOT,
        path=str(root / "instances" / INSTANCE / "disk"),
        format=ImageFormat.QCOW2,
        bus=DiskBus.VIRTIO,
        device="vda",
        size_bytes=size_bytes,
        boot_index=1,
    )


def seed_disk(root: Path) -> DiskPlan:
    path = str(root / "instances" / INSTANCE / "disk.config")
    return DiskPlan(role=DiskRole.SEED, path=path, format=ImageFormat.RAW, bus=DiskBus.IDE, device="hda", size_bytes=0)


@pytest.fixture
def directory(disks: LocalDisks, root: Path) -> Path:
    disks.ensure_directory(layout_for(root), INSTANCE)
    return root / "instances" / INSTANCE


def names_in(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_local_disks_are_the_port(disks: LocalDisks) -> None:
    port: Disks = disks
    assert port is disks


# Directories


def test_a_directory_bears_its_owner_and_an_empty_console_log(directory: Path) -> None:
    assert (directory / "owner.json").read_text() == f'{{"instance_id":"{INSTANCE}","schema":1}}'
    assert (directory / "console.log").read_bytes() == b""
    assert names_in(directory.parent) == [INSTANCE]


def test_a_directory_that_is_there_is_kept_with_what_is_in_it(disks: LocalDisks, root: Path, directory: Path) -> None:
    (directory / "console.log").write_text("booted")
    disks.ensure_directory(layout_for(root), INSTANCE)
    assert (directory / "console.log").read_text() == "booted"


def test_a_half_made_directory_is_made_anew(disks: LocalDisks, root: Path) -> None:
    (root / "instances" / f"{INSTANCE}.new").mkdir(parents=True)
    disks.ensure_directory(layout_for(root), INSTANCE)
    assert names_in(root / "instances") == [INSTANCE]


def stranger(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "precious").write_text("theirs")


def of_another(path: Path) -> None:
    stranger(path)
    (path / "owner.json").write_text(f'{{"instance_id":"{OTHER}","schema":1}}')


def of_a_newer_version(path: Path) -> None:
    stranger(path)
    (path / "owner.json").write_text(f'{{"instance_id":"{INSTANCE}","schema":99}}')


def cut_short(path: Path) -> None:
    stranger(path)
    (path / "owner.json").write_text('{"instance')


def a_file(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("theirs")


def a_link(path: Path) -> None:
    target = path.parent.parent / "elsewhere"
    stranger(target)
    (target / "owner.json").write_text(f'{{"instance_id":"{INSTANCE}","schema":1}}')
    path.parent.mkdir(parents=True)
    path.symlink_to(target)


@pytest.mark.parametrize("make", [stranger, of_another, of_a_newer_version, cut_short, a_file, a_link])
def test_what_is_not_known_to_be_ours_is_left_alone(
    disks: LocalDisks, root: Path, make: Callable[[Path], None]
) -> None:
    path = root / "instances" / INSTANCE
    make(path)
    before = sorted(str(entry) for entry in root.rglob("*"))
    with pytest.raises(Contradiction, match="left alone"):
        disks.ensure_directory(layout_for(root), INSTANCE)
    with pytest.raises(Contradiction, match="left alone"):
        disks.ensure_removed(INSTANCE)
    assert sorted(str(entry) for entry in root.rglob("*")) == before
    assert disks.list_directories() == ()


def test_a_plan_for_another_place_is_refused(disks: LocalDisks, root: Path, base: CachedImage) -> None:
    with pytest.raises(Refused, match="on this host belongs in"):
        disks.ensure_directory(replace(layout_for(root), directory="/tmp/elsewhere"), INSTANCE)
    for path in ("/etc/passwd", str(root / ".." / "x")):
        with pytest.raises(Refused, match="is not below"):
            disks.ensure_root(replace(root_disk(root, 0), path=path), base)
        with pytest.raises(Refused, match="is not below"):
            disks.ensure_seed(replace(seed_disk(root), path=path), SEED)


@pytest.mark.parametrize("name", ["..", "", "a/b", "../../etc", "6BA7B810-9DAD-51D1-80B4-00C04FD430C8"])
def test_what_is_no_id_becomes_no_path(disks: LocalDisks, name: str) -> None:
    with pytest.raises(Refused, match="is no instance id"):
        disks.ensure_removed(InstanceId(name))
    with pytest.raises(Refused, match="is no image id"):
        disks.ensure_unpublished(ImageId(name))
    with pytest.raises(Refused, match="is no image id"):
        disks.snapshot_path(ImageId(name))


def test_removed_is_removed_and_absent_is_success(disks: LocalDisks, root: Path, directory: Path) -> None:
    assert disks.list_directories() == (INSTANCE,)
    for _ in range(2):
        disks.ensure_removed(INSTANCE)
        assert names_in(root / "instances") == []
    assert disks.list_directories() == ()


def test_removing_on_a_host_without_any_instance_is_success(disks: LocalDisks) -> None:
    disks.ensure_removed(INSTANCE)
    assert disks.list_directories() == ()


def test_a_removal_that_was_interrupted_is_seen_and_finished(disks: LocalDisks, directory: Path) -> None:
    doomed = directory.with_name(f"{INSTANCE}.deleted")
    directory.rename(doomed)
    (doomed / "owner.json").unlink()
    assert disks.list_directories() == (INSTANCE,)
    disks.ensure_removed(INSTANCE)
    assert names_in(directory.parent) == []


def test_an_old_removal_and_a_new_directory_both_go(disks: LocalDisks, root: Path, directory: Path) -> None:
    stranger(directory.with_name(f"{INSTANCE}.deleted"))
    stranger(directory.with_name(f"{INSTANCE}.new"))
    disks.ensure_removed(INSTANCE)
    assert names_in(directory.parent) == []


def test_another_instance_is_not_touched(disks: LocalDisks, root: Path, directory: Path) -> None:
    disks.ensure_directory(layout_for(root, OTHER), OTHER)
    disks.ensure_removed(INSTANCE)
    assert disks.list_directories() == (OTHER,)


# Root disks


def test_a_root_disk_shows_the_image_and_is_as_large_as_asked(
    disks: LocalDisks, root: Path, directory: Path, base: CachedImage, tmp_path: Path
) -> None:
    disks.ensure_root(root_disk(root, 16 * MIB), base)
    header = read_header(directory / "disk")
    assert (header.virtual_bytes, header.backing_file, header.backing_format) == (16 * MIB, base.path, "qcow2")
    assert read_disk(directory / "disk", tmp_path) == noise(MIB) + bytes(15 * MIB)
    assert (directory / "disk").stat().st_mode & 0o777 == 0o600
    assert names_in(directory) == ["console.log", "disk", "owner.json"]


def test_size_zero_is_as_large_as_the_image(disks: LocalDisks, root: Path, directory: Path, base: CachedImage) -> None:
    disks.ensure_root(root_disk(root, 0), base)
    assert read_header(directory / "disk").virtual_bytes == 4 * MIB


def test_a_raw_image_is_a_base_too(disks: LocalDisks, root: Path, directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "raw"
    path.write_bytes(partitioned(2 * MIB))
    disks.ensure_root(root_disk(root, 4 * MIB), cached(path, ImageFormat.RAW, 2 * MIB))
    assert read_header(directory / "disk").backing_format == "raw"
    assert read_disk(directory / "disk", tmp_path) == path.read_bytes() + bytes(2 * MIB)


def test_a_disk_that_a_guest_has_written_to_is_kept(
    disks: LocalDisks, root: Path, directory: Path, base: CachedImage, tmp_path: Path
) -> None:
    disks.ensure_root(root_disk(root, 16 * MIB), base)
    write_in_disk(directory / "disk", b"\x55")
    before = (directory / "disk").read_bytes()
    disks.ensure_root(root_disk(root, 16 * MIB), base)
    assert (directory / "disk").read_bytes() == before


def test_a_disk_that_is_there_costs_no_subprocess(
    disks: LocalDisks, root: Path, directory: Path, base: CachedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks.ensure_root(root_disk(root, 16 * MIB), base)
    monkeypatch.setattr(subprocess, "Popen", None)
    disks.ensure_root(root_disk(root, 16 * MIB), base)


def test_a_fresh_disk_costs_one_subprocess(
    disks: LocalDisks, root: Path, directory: Path, base: CachedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    real = subprocess.Popen

    def counting(*args: object, **kwargs: object) -> object:
        started.append(args)
        return real(*args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", counting)
    disks.ensure_root(root_disk(root, 16 * MIB), base)
    assert len(started) == 1


def test_a_disk_is_grown_when_asked_and_never_shrunk(
    disks: LocalDisks, root: Path, directory: Path, base: CachedImage, tmp_path: Path
) -> None:
    disks.ensure_root(root_disk(root, 8 * MIB), base)
    write_in_disk(directory / "disk", b"\x55")
    disks.ensure_root(root_disk(root, 16 * MIB), base)
    assert read_header(directory / "disk").virtual_bytes == 16 * MIB
    disks.ensure_root(root_disk(root, 8 * MIB), base)
    assert read_header(directory / "disk").virtual_bytes == 16 * MIB
    assert read_disk(directory / "disk", tmp_path)[:65536] == b"\x55" * 65536


def test_an_image_larger_than_the_disk_is_refused_with_both_sizes(
    disks: LocalDisks, root: Path, directory: Path, base: CachedImage
) -> None:
    large = replace(base, virtual_bytes=10 * GIB + 1)
    words = r"is a disk of 10.00 GiB, and the root disk asked for has 5.00 GiB; choose a flavor with a disk of at least 11 GiB"
    with pytest.raises(Refused, match=words):
        disks.ensure_root(root_disk(root, 5 * GIB), large)
    assert names_in(directory) == ["console.log", "owner.json"]


def test_a_half_made_disk_is_made_anew(disks: LocalDisks, root: Path, directory: Path, base: CachedImage) -> None:
    (directory / "disk.new").write_bytes(b"half")
    disks.ensure_root(root_disk(root, 0), base)
    assert names_in(directory) == ["console.log", "disk", "owner.json"]


def test_an_unwritten_disk_of_another_image_is_made_anew(
    disks: LocalDisks, root: Path, directory: Path, base: CachedImage, tmp_path: Path
) -> None:
    disks.ensure_root(root_disk(root, 0), cached(qcow2(tmp_path / "old.qcow2", seed=9)))
    disks.ensure_root(root_disk(root, 0), base)
    assert read_header(directory / "disk").backing_file == base.path


def test_a_written_disk_of_another_image_is_left_alone(
    disks: LocalDisks, root: Path, directory: Path, base: CachedImage, tmp_path: Path
) -> None:
    disks.ensure_root(root_disk(root, 0), cached(qcow2(tmp_path / "old.qcow2", seed=9)))
    write_in_disk(directory / "disk", b"\x55")
    before = (directory / "disk").read_bytes()
    with pytest.raises(Contradiction, match="has been written to"):
        disks.ensure_root(root_disk(root, 0), base)
    assert (directory / "disk").read_bytes() == before


def test_a_file_of_that_name_that_is_no_disk_is_left_alone(
    disks: LocalDisks, root: Path, directory: Path, base: CachedImage
) -> None:
    (directory / "disk").write_text("theirs")
    with pytest.raises(Contradiction, match="is no qcow2 disk"):
        disks.ensure_root(root_disk(root, 0), base)
    assert (directory / "disk").read_text() == "theirs"


class Killed(BaseException):
    """Stands for SIGKILL: nothing may handle it."""


@pytest.mark.parametrize("step", ["_create", "ensure_no_file", "sync_file", "rename_durably"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_death_anywhere_in_the_making_of_a_disk_is_mended(
    disks: LocalDisks,
    root: Path,
    directory: Path,
    base: CachedImage,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    moment: str,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(overlay, step, dying(getattr(overlay, step), moment))
        with pytest.raises(Killed):
            disks.ensure_root(root_disk(root, 16 * MIB), base)
    disks.ensure_root(root_disk(root, 16 * MIB), base)
    assert read_header(directory / "disk").virtual_bytes == 16 * MIB
    assert names_in(directory) == ["console.log", "disk", "owner.json"]


@pytest.mark.parametrize("step", ["ensure_directory", "_remove_tree", "write_durably", "rename_durably"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_death_anywhere_in_the_making_of_a_directory_is_mended_or_undone(
    disks: LocalDisks, root: Path, monkeypatch: pytest.MonkeyPatch, step: str, moment: str
) -> None:
    def die() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(owned_directories, step, dying(getattr(owned_directories, step), moment))
            with pytest.raises(Killed):
                disks.ensure_directory(layout_for(root), INSTANCE)

    die()
    disks.ensure_directory(layout_for(root), INSTANCE)
    assert disks.list_directories() == (INSTANCE,)
    disks.ensure_removed(INSTANCE)
    die()
    disks.ensure_removed(INSTANCE)
    assert names_in(root / "instances") == []


@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_death_anywhere_in_a_removal_is_mended(
    disks: LocalDisks, root: Path, directory: Path, monkeypatch: pytest.MonkeyPatch, call: int, moment: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(owned_directories, "_remove_tree", dying(owned_directories._remove_tree, moment, at_call=call))
        with pytest.raises(Killed):
            disks.ensure_removed(INSTANCE)
    disks.ensure_removed(INSTANCE)
    assert names_in(root / "instances") == []


def dying(real: Callable[..., object], moment: str, at_call: int = 1) -> Callable[..., object]:
    """`real`, but its `at_call`-th call dies, before or after its effect."""
    calls = 0

    def call(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls != at_call:
            return real(*args, **kwargs)
        if moment == "after":
            real(*args, **kwargs)
        raise Killed

    return call


# Seeds


def test_a_seed_is_written_once_and_only_again_when_it_differs(disks: LocalDisks, root: Path, directory: Path) -> None:
    path = directory / "disk.config"
    disks.ensure_seed(seed_disk(root), SEED)
    inode = path.stat().st_ino
    assert path.read_bytes() == iso_for(SEED)
    assert path.stat().st_mode & 0o777 == 0o600
    disks.ensure_seed(seed_disk(root), SEED)
    assert path.stat().st_ino == inode
    other = replace(SEED, user_data="#!/bin/sh\n")
    disks.ensure_seed(seed_disk(root), other)
    assert path.read_bytes() == iso_for(other)


def test_a_seed_cut_short_is_written_again(disks: LocalDisks, root: Path, directory: Path) -> None:
    path = directory / "disk.config"
    disks.ensure_seed(seed_disk(root), SEED)
    os.truncate(path, 4096)
    (directory / "disk.config.new").write_bytes(b"half")
    disks.ensure_seed(seed_disk(root), SEED)
    assert path.read_bytes() == iso_for(SEED)
    assert not (directory / "disk.config.new").exists()


# Snapshots


@pytest.fixture
def written_disk(disks: LocalDisks, root: Path, directory: Path, base: CachedImage) -> Path:
    disks.ensure_root(root_disk(root, 16 * MIB), base)
    write_in_disk(directory / "disk", b"\x55")
    return directory / "disk"


SEEN = b"\x55" * 65536 + noise(MIB)[65536:] + bytes(15 * MIB)


def test_a_snapshot_is_flattened_published_and_stands_alone(
    disks: LocalDisks, root: Path, written_disk: Path, tmp_path: Path
) -> None:
    reports: list[tuple[int, int | None]] = []
    target = disks.snapshot_path(IMAGE)
    assert target == str(root / "images" / f"{IMAGE}.partial")
    disks.flatten(str(written_disk), target, lambda done, total: reports.append((done, total)))
    assert reports[-1] == (16 * MIB, 16 * MIB)
    image = disks.publish(IMAGE, ignore_progress)
    path = root / "images" / f"{IMAGE}.qcow2"
    assert image == CachedImage(
        path=str(path),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        format=ImageFormat.QCOW2,
        size_bytes=path.stat().st_size,
        virtual_bytes=16 * MIB,
    )
    assert read_header(path).backing_file is None
    assert read_disk(path, tmp_path) == SEEN
    assert names_in(root / "images") == [f"{IMAGE}.json", f"{IMAGE}.qcow2"]


def test_flattening_again_shows_the_disk_as_it_is_now(disks: LocalDisks, written_disk: Path, tmp_path: Path) -> None:
    target = Path(disks.snapshot_path(IMAGE))
    disks.flatten(str(written_disk), str(target), ignore_progress)
    write_in_disk(written_disk, b"\x66")
    disks.flatten(str(written_disk), str(target), ignore_progress)
    assert read_disk(target, tmp_path)[:65536] == b"\x66" * 65536


def test_flattening_what_is_no_disk_is_refused(disks: LocalDisks, directory: Path) -> None:
    for name in ("disk", "owner.json"):
        with pytest.raises(Refused, match="is not a qcow2 disk that could be copied"):
            disks.flatten(str(directory / name), disks.snapshot_path(IMAGE), ignore_progress)


def test_publishing_twice_gives_the_image_published_before(disks: LocalDisks, root: Path, written_disk: Path) -> None:
    disks.flatten(str(written_disk), disks.snapshot_path(IMAGE), ignore_progress)
    first = disks.publish(IMAGE, ignore_progress)
    inode = Path(first.path).stat().st_ino
    assert disks.publish(IMAGE, ignore_progress) == first
    assert Path(first.path).stat().st_ino == inode


def test_a_copy_that_is_as_asked_becomes_the_image_and_is_ours(disks: LocalDisks, written_disk: Path) -> None:
    copy = Path(disks.snapshot_path(IMAGE))
    disks.flatten(str(written_disk), str(copy), ignore_progress)
    os.chown(copy, 65534, 65534)  # as QEMU leaves a live copy where it runs as another user
    inode, seen = copy.stat().st_ino, []

    image = disks.publish(IMAGE, lambda done, total: seen.append((done, total)), published_images.AS_COPIED)

    found = Path(image.path).stat()
    assert (found.st_ino, found.st_uid, found.st_mode & 0o777) == (inode, os.geteuid(), 0o444)
    assert seen == [(image.virtual_bytes, image.virtual_bytes)]


def test_publishing_nothing_is_refused(disks: LocalDisks) -> None:
    with pytest.raises(Refused, match="take the snapshot again"):
        disks.publish(IMAGE, ignore_progress)


def test_publishing_what_is_no_image_is_refused(disks: LocalDisks) -> None:
    Path(disks.snapshot_path(IMAGE)).write_text("hello")
    with pytest.raises(Refused, match="is no qcow2 image"):
        disks.publish(IMAGE, ignore_progress)


def test_a_published_image_of_another_size_is_left_alone(disks: LocalDisks, written_disk: Path) -> None:
    disks.flatten(str(written_disk), disks.snapshot_path(IMAGE), ignore_progress)
    path = Path(disks.publish(IMAGE, ignore_progress).path)
    path.chmod(0o644)
    write_at(path, path.stat().st_size, b"more")
    with pytest.raises(Contradiction, match="left alone"):
        disks.publish(IMAGE, ignore_progress)


@pytest.mark.parametrize(
    "step", ["inspect_image", "sync_file", "digest_of", "write_durably", "rename_durably", "ensure_no_file"]
)
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("encoding", [DEFAULT_ENCODING, published_images.AS_COPIED], ids=["compressed", "as copied"])
def test_a_death_anywhere_in_publishing_is_mended_or_undone(
    disks: LocalDisks,
    root: Path,
    written_disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    moment: str,
    encoding: SnapshotEncoding,
) -> None:
    def die() -> None:
        disks.flatten(str(written_disk), disks.snapshot_path(IMAGE), ignore_progress)
        with monkeypatch.context() as patched:
            patched.setattr(published_images, step, dying(getattr(published_images, step), moment))
            with pytest.raises(Killed):
                disks.publish(IMAGE, ignore_progress, encoding)

    die()
    image = disks.publish(IMAGE, ignore_progress, encoding)
    assert read_disk(Path(image.path), tmp_path) == SEEN
    assert names_in(root / "images") == [f"{IMAGE}.json", f"{IMAGE}.qcow2"]
    disks.ensure_unpublished(IMAGE)
    die()
    for _ in range(2):
        disks.ensure_unpublished(IMAGE)
        assert names_in(root / "images") == []


def test_what_stops_a_conversion_leaves_nothing_under_the_final_name(
    disks: LocalDisks, root: Path, written_disk: Path
) -> None:
    def stop(done_bytes: int, total_bytes: int | None) -> None:
        raise Killed

    with pytest.raises(Killed):
        disks.flatten(str(written_disk), disks.snapshot_path(IMAGE), stop)
    assert not (root / "images" / f"{IMAGE}.partial").exists()
    disks.ensure_unpublished(IMAGE)
    assert names_in(root / "images") == []


# The host


def test_free_space_is_told_in_gib(disks: LocalDisks) -> None:
    total, free = disks.read_free_gib()
    assert total >= free > 0


@pytest.fixture
def full_root(tmp_path: Path) -> Iterator[Path]:
    mounted = tmp_path / "small"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(mounted)], check=True, timeout=10)
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True, timeout=10)


def test_a_full_disk_sends_the_build_to_another_host(full_root: Path, tmp_path: Path, base: CachedImage) -> None:
    disks = LocalDisks(full_root)
    disks.ensure_directory(layout_for(full_root), INSTANCE)
    with pytest.raises(DoesNotFit, match=r"the file system of .* has .* free"):
        disks.ensure_seed(seed_disk(full_root), replace(SEED, user_data="x" * 300_000))
    with (full_root / "ballast").open("wb") as ballast, pytest.raises(OSError, match="No space"):
        ballast.write(bytes(1 << 20))
    with pytest.raises(DoesNotFit, match=r"the file system of .* has .* free"):
        disks.ensure_root(root_disk(full_root, 0), base)
    disks.ensure_removed(INSTANCE)
    assert disks.list_directories() == ()


def test_a_data_disk_larger_than_any_file_here_sends_the_build_elsewhere(
    disks: LocalDisks, root: Path, directory: Path
) -> None:
    huge = replace(root_disk(root, 2**63 - 1), path=str(directory / "disk.eph0"), content=DiskContent.EXT4)
    with pytest.raises(DoesNotFit, match="File too large"):
        disks.ensure_data_disk(huge)
    assert not (directory / "disk.eph0").exists()


def test_a_read_only_disk_sends_the_build_elsewhere_and_a_removal_round_again(full_root: Path) -> None:
    disks = LocalDisks(full_root)
    disks.ensure_directory(layout_for(full_root), INSTANCE)
    subprocess.run(["mount", "-o", "remount,ro", str(full_root)], check=True, timeout=10)
    with pytest.raises(DoesNotFit, match="Read-only file system"):
        disks.ensure_directory(layout_for(full_root, OTHER), OTHER)
    with pytest.raises(Retryable, match="cannot remove"):
        disks.ensure_removed(INSTANCE)
    subprocess.run(["mount", "-o", "remount,rw", str(full_root)], check=True, timeout=10)
    disks.ensure_removed(INSTANCE)


def test_a_fresh_root_disk_copies_nothing_of_its_image(
    disks: LocalDisks, root: Path, directory: Path, base: CachedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    start = subprocess.Popen

    def noted(argv: list[str], *args: Any, **kwargs: Any) -> Any:
        asked.append(argv)
        return start(argv, *args, **kwargs)

    monkeypatch.setattr(subprocess, "Popen", noted)
    disks.ensure_root(root_disk(root, 16 * MIB), base)
    assert [word for argv in asked for word in argv if word in ("create", "convert", "resize", "check")] == ["create"]


def test_qemu_agrees_that_the_disk_is_sound(disks: LocalDisks, root: Path, directory: Path, base: CachedImage) -> None:
    disks.ensure_root(root_disk(root, 16 * MIB), base)
    qemu_img("check", "-q", "-f", "qcow2", directory / "disk")
