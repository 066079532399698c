"""What Disks promise (taskvisor/flow/ports.py). The real ones run qemu-img and makers of file systems, no more."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from taskvisor.flow.ports import Disks
from taskvisor.model.disk_backend import BackendKind, DiskBackend
from taskvisor.model.errors import CannotAsk, Contradiction, Refused, TaskvisorError
from taskvisor.model.ids import ImageId, OperationId, image_id_for
from taskvisor.model.observed import DiskFileFacts, ImageFileFacts
from taskvisor.model.plan import CachedImage, ConfigDrive, DiskContent, DiskLayout, DiskMedium, DiskPlan, DiskRole, Seed
from taskvisor.model.snapshot import SNAPSHOT_FORMATS, Compression, SnapshotEncoding
from taskvisor.model.states import ImageFormat
from tests.contract import plans
from tests.contract.plans import MIB, ignore_progress, instance_id
from tests.contract.processes import repeat_at_once
from virt.disks import LocalDisks
from virt.qcow2_header import MAGIC
from virt.simulated import SimulatedDisks
from virt.simulated.image_file import MARK, read_disk_file, read_image_file

GUEST = instance_id(0)
IMAGE = image_id_for(OperationId("contract-snapshot"))
SEED = Seed(meta_data="instance-id: one\n", user_data="#cloud-config\n", network_config="version: 2\n")
CONFIG_DRIVE = ConfigDrive(meta_data="{}", network_data="{}", vendor_data="{}", vendor_data2="{}")


@dataclass(frozen=True, kw_only=True)
class DisksHost:
    """A host's disks below `root`. `open_port` may be pickled, and opened in another process."""

    root: Path
    open_port: Callable[[], Disks]
    port: Disks


@pytest.fixture(params=[BackendKind.QCOW2, BackendKind.RAW])
def backend(request: pytest.FixtureRequest) -> BackendKind:
    """What disks are files of: the suite's plans are made for the back end that a host's root is named after."""
    kind: BackendKind = request.param
    return kind


@pytest.fixture(params=[SimulatedDisks, LocalDisks], ids=["simulated", "real"])
def host(request: pytest.FixtureRequest, tmp_path: Path, backend: BackendKind) -> DisksHost:
    """A host without any guest."""
    root = tmp_path / "state" / backend
    open_port = partial(request.param, root)
    return DisksHost(root=root, open_port=open_port, port=open_port())


def layout(root: Path, number: int = 0) -> DiskLayout:
    """The disks of guest `number`."""
    return plans.layout(root, number, backend=DiskBackend(kind=BackendKind(root.name)))


def root_disk(root: Path, number: int = 0) -> DiskPlan:
    """Its root disk."""
    return layout(root, number).disk(DiskRole.ROOT)


@pytest.fixture
def base(tmp_path: Path) -> CachedImage:
    """A cached image of 4 MiB."""
    path = tmp_path / "base.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "4M"], check=True, timeout=30)
    content = path.read_bytes()
    return CachedImage(
        path=str(path),
        sha256=sha256(content).hexdigest(),
        format=ImageFormat.QCOW2,
        size_bytes=len(content),
        virtual_bytes=4 * MIB,
    )


@pytest.fixture
def with_directory(host: DisksHost) -> DisksHost:
    """GUEST has its directory."""
    host.port.ensure_directory(layout(host.root), GUEST)
    return host


@pytest.fixture
def with_root(with_directory: DisksHost, base: CachedImage) -> DisksHost:
    """GUEST has its root disk, as large as its image."""
    with_directory.port.ensure_root(root_disk(with_directory.root), base)
    return with_directory


@pytest.fixture
def with_snapshot(with_root: DisksHost) -> DisksHost:
    """The root disk of GUEST has been copied to where IMAGE is to be made from."""
    take_copy(with_root)
    return with_root


def take_copy(host: DisksHost) -> None:
    """The root disk of GUEST lies where IMAGE is to be made from."""
    root = root_disk(host.root)
    host.port.flatten(root.path, host.port.snapshot_path(IMAGE), ignore_progress, source_format=root.format)


def facts_of(image_id: ImageId, *, complete: bool) -> tuple[ImageFileFacts, ...]:
    return (ImageFileFacts(image_id=image_id, complete=complete),)


def files_below(root: Path) -> set[str]:
    """All files but locks, which stay."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_a_directory_has_a_sidecar_and_an_empty_console_log(with_directory: DisksHost) -> None:
    planned = layout(with_directory.root)
    names = {path.name for path in Path(planned.directory).iterdir()}
    assert len(names) == 2
    assert Path(planned.console_log).read_bytes() == b""
    (sidecar,) = names - {Path(planned.console_log).name}
    assert GUEST in (Path(planned.directory) / sidecar).read_text()


def test_a_disk_says_of_itself_what_it_is_and_what_it_stands_on(with_root: DisksHost, base: CachedImage) -> None:
    disk = root_disk(with_root.root)
    assert with_root.port.read_disk_file(disk.path) == DiskFileFacts(
        format=disk.format,
        virtual_bytes=base.virtual_bytes,
        base_path=base.path if disk.format is ImageFormat.QCOW2 else None,
        base_is_there=True,
    )


def test_a_disk_whose_image_is_gone_says_so(with_root: DisksHost, base: CachedImage, backend: BackendKind) -> None:
    Path(base.path).unlink()
    seen = with_root.port.read_disk_file(root_disk(with_root.root).path)
    assert seen is not None
    stands_on_it = (base.path, False)
    assert (seen.base_path, seen.base_is_there) == (stands_on_it if backend is BackendKind.QCOW2 else (None, True))


def test_a_disk_that_is_not_there_and_one_whose_directory_is_not_say_nothing(with_directory: DisksHost) -> None:
    path = root_disk(with_directory.root).path
    assert with_directory.port.read_disk_file(path) is None
    with_directory.port.ensure_removed(GUEST)
    assert with_directory.port.read_disk_file(path) is None


def test_a_seed_is_raw_and_stands_on_nothing(with_directory: DisksHost) -> None:
    disk = layout(with_directory.root).disk(DiskRole.SEED)
    with_directory.port.ensure_seed(disk, SEED)
    seen = with_directory.port.read_disk_file(disk.path)
    assert seen is not None
    assert (seen.format, seen.base_path, seen.virtual_bytes > 0) == (ImageFormat.RAW, None, True)


def test_a_disk_that_can_not_be_read_is_not_called_gone(with_root: DisksHost) -> None:
    path = Path(root_disk(with_root.root).path)
    path.unlink()
    path.mkdir()
    with pytest.raises(CannotAsk):
        with_root.port.read_disk_file(str(path))


def test_a_directory_asked_for_twice_keeps_its_console_log(with_directory: DisksHost) -> None:
    planned = layout(with_directory.root)
    Path(planned.console_log).write_text("booted")
    with_directory.port.ensure_directory(planned, GUEST)
    assert Path(planned.console_log).read_text() == "booted"


def test_a_directory_that_lost_its_console_log_gets_one(with_directory: DisksHost) -> None:
    planned = layout(with_directory.root)
    Path(planned.console_log).unlink()
    with_directory.port.ensure_directory(planned, GUEST)
    assert Path(planned.console_log).read_bytes() == b""


def test_a_directory_planned_elsewhere_is_refused(host: DisksHost, tmp_path: Path) -> None:
    with pytest.raises(Refused):
        host.port.ensure_directory(layout(tmp_path / "elsewhere" / host.root.name), GUEST)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("content", [{}, {"notes.txt": "not yours"}])
def test_a_directory_that_is_not_ours_is_left_alone(host: DisksHost, content: dict[str, str]) -> None:
    directory = Path(layout(host.root).directory)
    directory.mkdir(parents=True)
    for name, text in content.items():
        (directory / name).write_text(text)
    with pytest.raises(Contradiction):
        host.port.ensure_directory(layout(host.root), GUEST)
    with pytest.raises(Contradiction):
        host.port.ensure_removed(GUEST)
    assert {path.name: path.read_text() for path in directory.iterdir()} == content
    assert host.port.list_directories() == ()


def test_a_directory_whose_sidecar_names_another_is_left_alone(with_directory: DisksHost) -> None:
    other = instance_id(1)
    mine, theirs = Path(layout(with_directory.root).directory), Path(layout(with_directory.root, 1).directory)
    mine.rename(theirs)
    before = files_below(with_directory.root)
    with pytest.raises(Contradiction):
        with_directory.port.ensure_directory(layout(with_directory.root, 1), other)
    with pytest.raises(Contradiction):
        with_directory.port.ensure_removed(other)
    assert files_below(with_directory.root) == before


def test_a_root_disk_is_as_large_as_its_image(with_root: DisksHost) -> None:
    assert size_of(root_disk(with_root.root)) == 4 * MIB


def test_a_root_disk_is_as_large_as_asked(with_directory: DisksHost, base: CachedImage) -> None:
    disk = replace(root_disk(with_directory.root), size_bytes=9 * MIB)
    with_directory.port.ensure_root(disk, base)
    assert size_of(disk) == 9 * MIB


def test_a_root_disk_smaller_than_its_image_is_refused(with_directory: DisksHost, base: CachedImage) -> None:
    disk = replace(root_disk(with_directory.root), size_bytes=3 * MIB)
    with pytest.raises(Refused):
        with_directory.port.ensure_root(disk, base)
    assert not Path(disk.path).exists()


def test_a_root_disk_asked_for_twice_is_the_same_file(with_root: DisksHost, base: CachedImage) -> None:
    path = Path(root_disk(with_root.root).path)
    before = (path.stat().st_ino, path.read_bytes())
    with_root.port.ensure_root(root_disk(with_root.root), base)
    assert (path.stat().st_ino, path.read_bytes()) == before


def test_a_root_disk_grows_and_never_shrinks(with_root: DisksHost, base: CachedImage) -> None:
    disk = root_disk(with_root.root)
    with_root.port.ensure_root(replace(disk, size_bytes=9 * MIB), base)
    with_root.port.ensure_root(disk, base)
    assert size_of(disk) == 9 * MIB


def test_what_is_no_disk_under_a_disks_name_is_left_alone(with_directory: DisksHost, base: CachedImage) -> None:
    disk = root_disk(with_directory.root)
    Path(disk.path).write_text("not yours")
    with pytest.raises(Contradiction):
        with_directory.port.ensure_root(disk, base)
    assert Path(disk.path).read_text() == "not yours"


def test_a_disk_planned_elsewhere_is_refused(host: DisksHost, base: CachedImage, tmp_path: Path) -> None:
    disk = replace(root_disk(host.root), path=str(tmp_path / "elsewhere"))
    with pytest.raises(Refused):
        host.port.ensure_root(disk, base)
    with pytest.raises(Refused):
        host.port.ensure_seed(disk, SEED)
    assert not (tmp_path / "elsewhere").exists()


def test_a_seed_asked_for_twice_is_the_same_file(with_directory: DisksHost) -> None:
    disk = layout(with_directory.root).disk(DiskRole.SEED)
    with_directory.port.ensure_seed(disk, SEED)
    before = Path(disk.path).read_bytes()
    with_directory.port.ensure_seed(disk, SEED)
    assert Path(disk.path).read_bytes() == before


def test_a_seed_that_changed_is_written_anew(with_directory: DisksHost) -> None:
    disk = layout(with_directory.root).disk(DiskRole.SEED)
    with_directory.port.ensure_seed(disk, SEED)
    with_directory.port.ensure_seed(disk, replace(SEED, user_data="#cloud-config\nhostname: other\n"))
    assert b"hostname: other" in Path(disk.path).read_bytes().replace(b"\\n", b"\n")


@pytest.fixture(params=[DiskRole.SEED, DiskRole.CONFIG], ids=["cdrom", "disk"])
def drive(request: pytest.FixtureRequest, with_directory: DisksHost) -> DiskPlan:
    """The disk that a config drive of GUEST is to be on."""
    seed = layout(with_directory.root).disk(DiskRole.SEED)
    return replace(seed, role=request.param, medium=DiskMedium.DISK)


def test_a_config_drive_is_made_once_and_only_again_when_it_differs(with_directory: DisksHost, drive: DiskPlan) -> None:
    path = Path(drive.path)
    with_directory.port.ensure_seed(drive, CONFIG_DRIVE)
    before = path.read_bytes()
    with_directory.port.ensure_seed(drive, CONFIG_DRIVE)
    assert path.read_bytes() == before
    with_directory.port.ensure_seed(drive, replace(CONFIG_DRIVE, user_data="#!/bin/sh\n"))
    assert b"#!/bin/sh" in path.read_bytes()
    assert sorted(found.name for found in path.parent.iterdir()) == ["console.log", "disk.config", "owner.json"]


def test_a_seed_cut_short_is_made_whole(with_directory: DisksHost, drive: DiskPlan) -> None:
    with_directory.port.ensure_seed(drive, CONFIG_DRIVE)
    before = Path(drive.path).read_bytes()
    os.truncate(drive.path, 10)
    with_directory.port.ensure_seed(drive, CONFIG_DRIVE)
    assert Path(drive.path).read_bytes() == before


def test_who_has_an_older_seed_open_goes_on_reading_that(with_directory: DisksHost, drive: DiskPlan) -> None:
    with_directory.port.ensure_seed(drive, CONFIG_DRIVE)
    with Path(drive.path).open("rb") as held:
        before = Path(drive.path).read_bytes()
        with_directory.port.ensure_seed(drive, replace(CONFIG_DRIVE, user_data="#!/bin/sh\n"))
        assert held.read() == before


def test_a_seed_of_too_many_bytes_is_refused(with_directory: DisksHost, drive: DiskPlan) -> None:
    with pytest.raises(Refused, match="at most 1048576"):
        with_directory.port.ensure_seed(drive, replace(CONFIG_DRIVE, user_data="x" * (1 << 20)))
    assert not Path(drive.path).exists()


@pytest.fixture
def data_disk(host: DisksHost) -> DiskPlan:
    """A swap disk of GUEST, to be made."""
    return replace(
        root_disk(host.root),
        role=DiskRole.SWAP,
        path=str(Path(layout(host.root).directory) / "disk.swap"),
        format=ImageFormat.RAW,
        size_bytes=MIB,
        content=DiskContent.SWAP,
    )


def size_of(disk: DiskPlan) -> int:
    """As its guest sees it: a raw disk is as large as its file, a simulated one as its file says."""
    content = Path(disk.path).read_bytes()
    return read_disk_file(Path(disk.path)).virtual_bytes if content.startswith((MARK, MAGIC)) else len(content)


@pytest.mark.parametrize("content", DiskContent)
def test_a_data_disk_is_as_large_as_asked(with_directory: DisksHost, data_disk: DiskPlan, content: DiskContent) -> None:
    disk = replace(data_disk, size_bytes=64 * MIB, content=content)
    before = files_below(with_directory.root)
    with_directory.port.ensure_data_disk(disk)
    assert size_of(disk) == 64 * MIB
    assert files_below(with_directory.root) - before == {str(Path(disk.path).relative_to(with_directory.root))}


def test_a_data_disk_asked_for_twice_is_the_same_file(with_directory: DisksHost, data_disk: DiskPlan) -> None:
    with_directory.port.ensure_data_disk(data_disk)
    path = Path(data_disk.path)
    before = (path.stat().st_ino, path.read_bytes())
    with_directory.port.ensure_data_disk(data_disk)
    assert (path.stat().st_ino, path.read_bytes()) == before


@pytest.mark.parametrize("size_bytes", [MIB // 2, 2 * MIB])
def test_a_data_disk_of_another_size_is_left_alone(
    with_directory: DisksHost, data_disk: DiskPlan, size_bytes: int
) -> None:
    with_directory.port.ensure_data_disk(replace(data_disk, size_bytes=size_bytes))
    before = Path(data_disk.path).read_bytes()
    with pytest.raises(Contradiction, match="left alone"):
        with_directory.port.ensure_data_disk(data_disk)
    assert Path(data_disk.path).read_bytes() == before


def test_what_is_no_disk_under_a_data_disks_name_is_left_alone(with_directory: DisksHost, data_disk: DiskPlan) -> None:
    Path(data_disk.path).write_text("not yours")
    with pytest.raises(Contradiction):
        with_directory.port.ensure_data_disk(data_disk)
    assert Path(data_disk.path).read_text() == "not yours"


def test_a_data_disk_planned_elsewhere_or_with_a_source_is_refused(
    with_directory: DisksHost, data_disk: DiskPlan, tmp_path: Path
) -> None:
    for disk in (replace(data_disk, path=str(tmp_path / "elsewhere")), replace(data_disk, content=None)):
        with pytest.raises(Refused):
            with_directory.port.ensure_data_disk(disk)
        assert not Path(disk.path).exists()


def test_data_disks_go_with_their_guest(with_directory: DisksHost, data_disk: DiskPlan) -> None:
    with_directory.port.ensure_data_disk(data_disk)
    with_directory.port.ensure_removed(GUEST)
    assert files_below(with_directory.root) == set()


def test_guests_with_a_directory_are_listed(with_directory: DisksHost) -> None:
    with_directory.port.ensure_directory(layout(with_directory.root, 1), instance_id(1))
    (with_directory.root / "instances" / "lost+found").mkdir()
    assert with_directory.port.list_directories() == tuple(sorted((GUEST, instance_id(1))))


def test_nothing_is_left_of_a_removed_guest(with_root: DisksHost) -> None:
    with_root.port.ensure_seed(layout(with_root.root).disk(DiskRole.SEED), SEED)
    with_root.port.ensure_removed(GUEST)
    with_root.port.ensure_removed(GUEST)
    assert files_below(with_root.root) == set()
    assert with_root.port.list_directories() == ()


def test_a_guest_that_was_never_there_is_removed(host: DisksHost) -> None:
    host.port.ensure_removed(GUEST)
    assert host.port.list_directories() == ()


def test_removing_a_guest_leaves_its_neighbour(with_root: DisksHost) -> None:
    before = files_below(with_root.root)
    with_root.port.ensure_directory(layout(with_root.root, 1), instance_id(1))
    with_root.port.ensure_removed(instance_id(1))
    assert files_below(with_root.root) == before


def test_a_flattened_disk_stands_alone(with_snapshot: DisksHost) -> None:
    copy = read_image_file(Path(with_snapshot.port.snapshot_path(IMAGE)))  # which refuses what has a backing file
    assert (copy.virtual_bytes, copy.format) == (4 * MIB, ImageFormat.QCOW2)


def test_a_disk_that_is_not_there_is_not_flattened(with_directory: DisksHost) -> None:
    target = with_directory.port.snapshot_path(IMAGE)
    with pytest.raises(Refused):
        take_copy(with_directory)
    assert not Path(target).exists()


def test_a_published_image_is_named_by_its_content(with_snapshot: DisksHost) -> None:
    image = with_snapshot.port.publish(IMAGE, ignore_progress)
    assert sha256(Path(image.path).read_bytes()).hexdigest() == image.sha256
    assert (image.virtual_bytes, image.format) == (4 * MIB, ImageFormat.QCOW2)


@pytest.mark.parametrize("kind", SNAPSHOT_FORMATS)
@pytest.mark.parametrize("compression", Compression)
def test_a_published_image_is_of_the_format_asked(
    with_snapshot: DisksHost, kind: ImageFormat, compression: Compression
) -> None:
    encoding = SnapshotEncoding(format=kind, compression=Compression.NONE if kind is ImageFormat.RAW else compression)
    image = with_snapshot.port.publish(IMAGE, ignore_progress, encoding)
    assert (image.format, image.virtual_bytes, Path(image.path).suffix) == (kind, 4 * MIB, f".{kind}")
    assert sha256(Path(image.path).read_bytes()).hexdigest() == image.sha256
    assert with_snapshot.port.publish(IMAGE, ignore_progress) == image, "once published, it is what it is"
    assert with_snapshot.port.list_images() == facts_of(IMAGE, complete=True)
    assert not Path(with_snapshot.port.snapshot_path(IMAGE)).exists()
    with_snapshot.port.ensure_unpublished(IMAGE)
    assert with_snapshot.port.list_images() == ()


def test_an_image_published_again_is_the_one_published_before(with_snapshot: DisksHost) -> None:
    image = with_snapshot.port.publish(IMAGE, ignore_progress)
    assert with_snapshot.port.publish(IMAGE, ignore_progress) == image
    assert not Path(with_snapshot.port.snapshot_path(IMAGE)).exists()


def test_an_image_without_a_snapshot_is_refused(host: DisksHost) -> None:
    with pytest.raises(Refused):
        host.port.publish(IMAGE, ignore_progress)


def test_neither_copy_nor_image_is_left_when_unpublished(with_snapshot: DisksHost) -> None:
    before = files_below(with_snapshot.root)
    copy = Path(with_snapshot.port.snapshot_path(IMAGE)).relative_to(with_snapshot.root)
    with_snapshot.port.ensure_unpublished(IMAGE)
    assert files_below(with_snapshot.root) == before - {str(copy)}
    take_copy(with_snapshot)
    with_snapshot.port.publish(IMAGE, ignore_progress)
    with_snapshot.port.ensure_unpublished(IMAGE)
    with_snapshot.port.ensure_unpublished(IMAGE)
    assert files_below(with_snapshot.root) == before - {str(copy)}


def test_an_image_that_was_never_published_is_unpublished(host: DisksHost) -> None:
    host.port.ensure_unpublished(IMAGE)
    assert files_below(host.root) == set()


@pytest.mark.parametrize("name", ["..", "../instances", "", "no-uuid"])
def test_a_name_that_is_no_id_is_no_path(host: DisksHost, name: str) -> None:
    with pytest.raises(Refused):
        host.port.snapshot_path(ImageId(name))
    with pytest.raises(Refused):
        host.port.ensure_unpublished(ImageId(name))


def test_no_more_is_free_than_there_is(host: DisksHost) -> None:
    total_gib, free_gib = host.port.read_free_gib()
    assert total_gib >= free_gib > 0


def test_disks_that_are_not_there_do_not_grow(host: DisksHost) -> None:
    assert host.port.read_growth_gib() == 0


def test_two_processes_at_once_prepare_different_guests(host: DisksHost, base: CachedImage) -> None:
    calls: list[tuple[str, tuple[object, ...]]] = []
    for number in range(4):
        calls += [
            ("ensure_directory", (layout(host.root, number), instance_id(number))),
            ("ensure_root", (root_disk(host.root, number), base)),
        ]
    repeat_at_once(host.open_port, [calls[:4], calls[4:]])
    assert host.port.list_directories() == tuple(sorted(instance_id(number) for number in range(4)))


def test_whatever_two_processes_at_once_left_the_next_call_mends(host: DisksHost, base: CachedImage) -> None:
    calls: list[tuple[str, tuple[object, ...]]] = [
        ("ensure_directory", (layout(host.root), GUEST)),
        ("ensure_root", (root_disk(host.root), base)),
        ("ensure_removed", (GUEST,)),
    ] * 3
    # The engine keeps two runners of one instance apart (Exclusion), so how the loser is told is not promised.
    repeat_at_once(host.open_port, [calls, calls], passed_over=(TaskvisorError, OSError))
    host.port.ensure_directory(layout(host.root), GUEST)
    host.port.ensure_root(root_disk(host.root), base)
    assert size_of(root_disk(host.root)) == 4 * MIB
    host.port.ensure_removed(GUEST)
    assert files_below(host.root) == set()


def test_images_are_listed_from_the_first_copy_on_until_nothing_of_them_is_left(with_snapshot: DisksHost) -> None:
    port = with_snapshot.port
    assert port.list_images() == facts_of(IMAGE, complete=False)
    port.publish(IMAGE, ignore_progress)
    assert port.list_images() == facts_of(IMAGE, complete=True)
    port.ensure_unpublished(IMAGE)
    assert port.list_images() == ()


def test_a_host_that_never_took_a_snapshot_has_no_images_nor_do_files_of_others_count(host: DisksHost) -> None:
    assert host.port.list_images() == ()
    images = host.root / "images"
    images.mkdir(parents=True, exist_ok=True)
    (images / "debian.qcow2").write_text("not ours")
    assert host.port.list_images() == ()


ASIDE = f"{GUEST}-1700000000"


def test_what_is_set_aside_is_whole_and_gone_from_its_place_and_twice_is_once(with_root: DisksHost) -> None:
    with_root.port.ensure_kept_beside(GUEST, "domain.xml", "<domain/>")
    before = Path(root_disk(with_root.root).path).read_bytes()
    for _ in range(2):
        with_root.port.ensure_set_aside(GUEST, ASIDE)
    aside = with_root.root / "quarantine" / ASIDE
    assert (with_root.port.list_directories(), with_root.port.list_set_aside()) == ((), (ASIDE,))
    assert (aside / "domain.xml").read_text() == "<domain/>"
    assert (aside / Path(root_disk(with_root.root).path).name).read_bytes() == before


def test_what_was_set_aside_is_removed_by_its_name_and_twice_is_once(with_directory: DisksHost) -> None:
    with_directory.port.ensure_set_aside(GUEST, ASIDE)
    for _ in range(2):
        with_directory.port.ensure_set_aside_removed(ASIDE)
    assert with_directory.port.list_set_aside() == ()


def test_a_directory_that_was_made_since_is_not_set_aside_over_the_former(with_directory: DisksHost) -> None:
    with_directory.port.ensure_set_aside(GUEST, ASIDE)
    with_directory.port.ensure_directory(layout(with_directory.root), GUEST)
    with pytest.raises(Refused, match="is there already"):
        with_directory.port.ensure_set_aside(GUEST, ASIDE)
    assert with_directory.port.list_directories() == (GUEST,)


def test_a_strangers_directory_is_not_set_aside(host: DisksHost) -> None:
    strangers = host.root / "instances" / GUEST
    strangers.mkdir(parents=True)
    with pytest.raises(Contradiction):
        host.port.ensure_set_aside(GUEST, ASIDE)
    assert strangers.is_dir()


@pytest.mark.parametrize("name", ["..", "../instances", f"{GUEST}-", "x" * 36 + "-1", "/etc"])
def test_nothing_is_set_aside_or_removed_under_a_name_that_is_no_id_and_time(host: DisksHost, name: str) -> None:
    for verb in (host.port.ensure_set_aside_removed, lambda it: host.port.ensure_set_aside(GUEST, it)):
        with pytest.raises(Refused):
            verb(name)


def test_nothing_is_kept_beside_a_directory_that_is_not_there(host: DisksHost) -> None:
    with pytest.raises(Refused, match="no directory"):
        host.port.ensure_kept_beside(GUEST, "domain.xml", "<domain/>")
