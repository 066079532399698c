"""virt/stores/rbd.py on a real Ceph cluster, whose answer to `ceph df` alone is a recorded one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taskvisor.model.disk_backend import BackendKind, DiskBackend
from taskvisor.model.errors import CannotAsk, Contradiction, Refused, Retryable
from taskvisor.model.ids import InstanceId
from taskvisor.model.operator import CephAccess
from taskvisor.model.plan import CachedImage, DiskContent, DiskPlan
from taskvisor.model.states import ImageFormat
from tests.fixtures.ceph import POOL, Ceph
from tests.virt.made_images import MIB, qcow2, qemu_img, read_disk
from tests.virt.stores.plans import GUEST, OTHER, cached, root_in, swap_in
from virt import command
from virt import qemu_img as qemu_img_module
from virt.disks import LocalDisks
from virt.progress import ignore_progress
from virt.stores import rbd as rbd_store
from virt.stores.opening import StoreOptions
from virt.stores.rbd import RbdStore

pytestmark = pytest.mark.real

BACKEND = DiskBackend(kind=BackendKind.RBD, pool=POOL)

# Of Ceph 16.2.15, with `ceph df --format json`.
USAGE = (
    '\n{"stats":{"total_bytes":4294967296,"total_avail_bytes":4294934421,"total_used_bytes":32875,'
    '"total_used_raw_bytes":32875,"total_used_raw_ratio":7.6543074101209641e-06,"num_osds":1,"num_per_pool_osds":0,'
    '"num_per_pool_omap_osds":0},"stats_by_class":{"hdd":{"total_bytes":4294967296,"total_avail_bytes":4294934421,'
    '"total_used_bytes":32875,"total_used_raw_bytes":32875,"total_used_raw_ratio":7.6543074101209641e-06}},"pools":['
    '{"name":"vms","id":1,"stats":{"stored":184,"objects":10,"kb_used":1,"bytes_used":184,'
    '"percent_used":4.3273914229757793e-08,"max_avail":4251983872}},{"name":"device_health_metrics","id":2,"stats":'
    '{"stored":0,"objects":0,"kb_used":0,"bytes_used":0,"percent_used":0,"max_avail":4251983872}}]}\n'
)


@pytest.fixture
def pool(ceph: Ceph, host_namespace: str, tmp_path: Path) -> RbdStore:
    """The pool, from a host on which GUEST and OTHER have their directories. It is empty again after the test."""
    for guest in (GUEST, OTHER):
        (tmp_path / "instances" / guest).mkdir(parents=True)
    store = RbdStore(POOL, ceph.access, scratch=tmp_path / "instances")
    for guest in (GUEST, OTHER):
        store.ensure_removed(guest)
    assert names_in(ceph) == []
    return store


@pytest.fixture
def base(tmp_path: Path) -> CachedImage:
    return cached(qcow2(tmp_path / "base.qcow2"))


def root_of(owner: InstanceId = GUEST, size_bytes: int = 0) -> DiskPlan:
    return root_in(BACKEND, owner, size_bytes)


def swap_of(owner: InstanceId = GUEST, content: DiskContent = DiskContent.SWAP) -> DiskPlan:
    return swap_in(BACKEND, owner, content)


def names_in(ceph: Ceph) -> list[str]:
    return ceph.run("rbd", "ls", POOL).split()


def content_of(store: RbdStore, disk: DiskPlan, tmp_path: Path) -> bytes:
    """All bytes that a guest would see."""
    raw = tmp_path / "seen"
    qemu_img("convert", "-f", "raw", "-O", "raw", str(store.read_source(disk.path, disk.format).name), raw)
    return raw.read_bytes()


def test_a_root_disk_is_a_clone_of_its_image_and_bears_its_owner(
    pool: RbdStore, ceph: Ceph, base: CachedImage, tmp_path: Path
) -> None:
    pool.ensure_root(root_of(size_bytes=9 * MIB), base, ignore_progress)

    assert content_of(pool, root_of(), tmp_path) == read_disk(Path(base.path), tmp_path) + bytes(5 * MIB)
    assert names_in(ceph) == [f"{GUEST}_disk", f"taskvisor-base_{base.sha256}"]
    assert GUEST in ceph.run("rbd", "image-meta", "list", f"{POOL}/{GUEST}_disk")
    assert pool.list_owners() == {GUEST}


def test_a_second_guest_costs_no_second_copy_and_the_last_takes_it_along(
    pool: RbdStore, ceph: Ceph, base: CachedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.ensure_root(root_of(), base, ignore_progress)
    with monkeypatch.context() as patched:
        patched.setattr(qemu_img_module, "copy_as_raw", None)
        pool.ensure_root(root_of(OTHER), base, ignore_progress)

    pool.ensure_removed(GUEST)
    assert names_in(ceph) == [f"{OTHER}_disk", f"taskvisor-base_{base.sha256}"]
    pool.ensure_removed(OTHER)
    pool.ensure_removed(OTHER)
    assert names_in(ceph) == []


def test_a_root_disk_is_kept_grown_and_never_shrunk(
    pool: RbdStore, base: CachedImage, ceph: Ceph, tmp_path: Path
) -> None:
    pool.ensure_root(root_of(), base, ignore_progress)
    name = str(pool.read_source(root_of().path, ImageFormat.RAW).name)
    ceph.run("rbd", "bench", "--io-type", "write", "--io-total", "64K", "--io-size", "64K", f"{POOL}/{GUEST}_disk")
    before = content_of(pool, root_of(), tmp_path)
    assert before != read_disk(Path(base.path), tmp_path)

    pool.ensure_root(root_of(size_bytes=9 * MIB), base, ignore_progress)
    pool.ensure_root(root_of(), base, ignore_progress)

    assert content_of(pool, root_of(), tmp_path) == before + bytes(5 * MIB)
    assert name.startswith(f"rbd:{POOL}/{GUEST}_disk:id=admin:conf=")


def test_a_root_disk_smaller_than_its_image_is_refused(pool: RbdStore, ceph: Ceph, base: CachedImage) -> None:
    with pytest.raises(Refused, match="choose a flavor with a disk"):
        pool.ensure_root(root_of(size_bytes=3 * MIB), base, ignore_progress)
    assert names_in(ceph) == []


def test_a_root_disk_of_another_image_is_left_alone(pool: RbdStore, base: CachedImage, tmp_path: Path) -> None:
    pool.ensure_root(root_of(), base, ignore_progress)
    with pytest.raises(Contradiction, match="was cloned from taskvisor-base_"):
        pool.ensure_root(root_of(), cached(qcow2(tmp_path / "other.qcow2", seed=8)), ignore_progress)


@pytest.mark.parametrize("content", DiskContent)
def test_a_data_disk_holds_what_was_asked_for_and_is_made_once(
    pool: RbdStore, ceph: Ceph, tmp_path: Path, content: DiskContent
) -> None:
    disk = swap_of(content=content)
    pool.ensure_data(disk)
    before = content_of(pool, disk, tmp_path)
    pool.ensure_data(disk)
    assert content_of(pool, disk, tmp_path) == before
    assert len(before) == 64 * MIB
    assert any(before) is (content is not DiskContent.BLANK)
    assert (b"SWAPSPACE2" in before[:4096]) is (content is DiskContent.SWAP)
    assert list((tmp_path / "instances" / GUEST).iterdir()) == []
    with pytest.raises(Contradiction, match="left alone: a guest's data may be in it"):
        pool.ensure_data(replace(disk, size_bytes=32 * MIB))


def test_an_image_that_is_not_ours_is_left_alone(pool: RbdStore, ceph: Ceph, base: CachedImage) -> None:
    ceph.run("rbd", "create", "--size", "1M", f"{POOL}/{GUEST}_disk")
    with pytest.raises(Contradiction, match="rename it"):
        pool.ensure_root(root_of(), base, ignore_progress)
    with pytest.raises(Contradiction, match="rename it"):
        pool.ensure_removed(GUEST)
    assert names_in(ceph) == [f"{GUEST}_disk"]
    ceph.run("rbd", "rm", "--no-progress", f"{POOL}/{GUEST}_disk")


def test_an_image_in_use_is_removed_when_it_no_longer_is(pool: RbdStore, ceph: Ceph, base: CachedImage) -> None:
    pool.ensure_root(root_of(), base, ignore_progress)
    ceph.run("rbd", "snap", "create", "--no-progress", f"{POOL}/{GUEST}_disk@theirs")
    with pytest.raises(Retryable):
        pool.ensure_removed(GUEST)
    ceph.run("rbd", "snap", "rm", "--no-progress", f"{POOL}/{GUEST}_disk@theirs")
    pool.ensure_removed(GUEST)
    assert names_in(ceph) == []


class Killed(BaseException):
    """Stands for SIGKILL: nothing may handle it."""


def dying_at(number: int, calls: list[Sequence[str]]) -> Callable[..., str]:
    """As run_command, but for the worker that dies once it has called so often."""

    def run(argv: Sequence[str], **limits: Any) -> str:
        answer = command.run_command(argv, **limits)
        calls.append(argv)
        if len(calls) == number:
            raise Killed
        return answer

    return run


def test_a_death_after_any_command_is_mended_and_leaves_nothing(
    pool: RbdStore, ceph: Ceph, base: CachedImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read_disk(Path(base.path), tmp_path)
    for number in range(2, 60, 5):  # each of them takes seconds; a run with a step of 1 goes through them all
        calls: list[Sequence[str]] = []
        try:
            with monkeypatch.context() as patched:
                patched.setattr(rbd_store, "run_command", dying_at(number, calls))
                pool.ensure_root(root_of(), base, ignore_progress)
                pool.ensure_data(swap_of())
                pool.ensure_removed(GUEST)
        except Killed:
            pool.ensure_root(root_of(), base, ignore_progress)
            pool.ensure_data(swap_of())
            assert content_of(pool, root_of(), tmp_path) == expected, calls[-1]
            pool.ensure_removed(GUEST)
            assert names_in(ceph) == [], calls[-1]
        else:
            break
    assert 15 < number < 57
    assert names_in(ceph) == []


def test_a_removal_that_comes_first_leaves_nothing_of_what_was_half_made(
    pool: RbdStore, ceph: Ceph, base: CachedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (2, 5, 2):  # making the base, with the base made, and making the clone of that one
        with monkeypatch.context() as patched:
            patched.setattr(rbd_store, "run_command", dying_at(number, []))
            with pytest.raises(Killed):
                pool.ensure_root(root_of(), base, ignore_progress)
        pool.ensure_removed(GUEST)
        assert [name for name in names_in(ceph) if not name.startswith("taskvisor-base_")] == []
    pool.ensure_root(root_of(), base, ignore_progress)
    pool.ensure_removed(GUEST)
    assert names_in(ceph) == []


def test_disks_dispatch_by_the_plan_and_are_removed_without_being_told_where(
    pool: RbdStore, ceph: Ceph, base: CachedImage, tmp_path: Path
) -> None:
    disks = LocalDisks(tmp_path / "state", StoreOptions(backend=BACKEND, ceph=ceph.access))
    disks.ensure_root(root_of(), base)
    disks.ensure_data_disk(swap_of(content=DiskContent.BLANK))
    target = tmp_path / "state" / "images" / "copy"
    target.parent.mkdir(parents=True)
    disks.flatten(root_of().path, str(target), ignore_progress, source_format=ImageFormat.RAW)
    assert read_disk(target, tmp_path) == read_disk(Path(base.path), tmp_path)
    assert disks.list_pool_disks() == (GUEST,)
    disks.ensure_removed(GUEST)
    assert names_in(ceph) == []


def test_a_pool_says_how_full_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Sequence[str]] = []

    def run(argv: Sequence[str], **limits: Any) -> str:
        asked.append(argv)
        return USAGE

    monkeypatch.setattr(rbd_store, "run_command", run)
    access = CephAccess(user="vms", monitors=("10.0.0.1", "[fd00::3]:6789"))
    space = RbdStore("vms", access, scratch=tmp_path).read_space()
    assert (space.total_bytes, space.free_bytes) == (4251984056, 4251983872)
    assert " ".join(asked[0]) == (
        "ceph --conf /etc/ceph/ceph.conf --id vms -m 10.0.0.1,[fd00::3]:6789 df --format json"
    )
    with pytest.raises(CannotAsk, match="how full pool none is"):
        RbdStore("none", access, scratch=tmp_path).read_space()


def test_a_pool_that_is_not_there_is_a_problem_and_cannot_be_asked(pool: RbdStore, ceph: Ceph, tmp_path: Path) -> None:
    missing = RbdStore("none", ceph.access, scratch=tmp_path)
    with pytest.raises(CannotAsk, match="Ceph has no pool none"):
        missing.ensure_removed(GUEST)
    (problem,) = missing.list_problems()
    assert "pool none cannot be read" in problem
