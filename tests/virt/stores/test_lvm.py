"""virt/stores/lvm.py: real LVM metadata, files in place of devices (lvm_without_devices); thin pools as recorded."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taskvisor.model.disk_backend import BackendKind, DiskBackend
from taskvisor.model.errors import CannotAsk, Contradiction, DoesNotFit, Refused
from taskvisor.model.ids import InstanceId
from taskvisor.model.plan import CachedImage, DiskContent, DiskPlan
from taskvisor.model.states import ImageFormat
from tests.virt.made_images import MIB, qcow2, read_disk
from tests.virt.stores.lvm_without_devices import GROUP, LvmWithoutDevices, close_group, nobody_dies, open_group
from tests.virt.stores.plans import GUEST, OTHER, cached, root_in, swap_in
from virt.command import CommandFailed
from virt.progress import ignore_progress
from virt.stores import lvm as lvm_store
from virt.stores.lvm import LvmStore

pytestmark = pytest.mark.real

BACKEND = DiskBackend(kind=BackendKind.LVM, pool=GROUP)


@pytest.fixture
def lvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LvmWithoutDevices]:
    """The group, which the store finds where it looks."""
    opened = open_group(tmp_path / "lvm")
    monkeypatch.setattr(lvm_store, "run_command", opened.run)
    monkeypatch.setattr(LvmStore, "_path", lambda _store, name: opened.devices / name)
    yield opened
    close_group(opened)


@pytest.fixture
def group(lvm: LvmWithoutDevices) -> LvmStore:
    return LvmStore(GROUP)


@pytest.fixture
def base(tmp_path: Path) -> CachedImage:
    return cached(qcow2(tmp_path / "base.qcow2"))


def root_of(owner: InstanceId = GUEST, size_bytes: int = 0) -> DiskPlan:
    return root_in(BACKEND, owner, size_bytes)


def swap_of(content: DiskContent = DiskContent.SWAP) -> DiskPlan:
    return swap_in(BACKEND, content=content)


def test_a_root_disk_holds_its_image_and_zeros_and_bears_its_owner(
    group: LvmStore, lvm: LvmWithoutDevices, base: CachedImage, tmp_path: Path
) -> None:
    group.ensure_root(root_of(size_bytes=10 * MIB), base, ignore_progress)

    assert lvm.sizes() == {f"{GUEST}_disk": 12 * MIB}  # whole extents of 4 MiB
    content = (lvm.devices / f"{GUEST}_disk").read_bytes()
    assert content == read_disk(Path(base.path), tmp_path) + bytes(8 * MIB)
    assert group.list_owners() == {GUEST}
    source = group.read_source(root_of().path, ImageFormat.RAW)
    assert (str(source.name), source.virtual_bytes) == (f"/dev/{GROUP}/{GUEST}_disk", 12 * MIB)


def test_a_root_disk_is_kept_grown_and_never_shrunk(group: LvmStore, lvm: LvmWithoutDevices, base: CachedImage) -> None:
    group.ensure_root(root_of(), base, ignore_progress)
    device = lvm.devices / f"{GUEST}_disk"
    device.write_bytes(b"g" * 4 * MIB)

    group.ensure_root(root_of(size_bytes=8 * MIB), base, ignore_progress)
    group.ensure_root(root_of(), base, ignore_progress)

    assert device.read_bytes() == b"g" * 4 * MIB + bytes(4 * MIB)
    assert "zero_from" not in lvm.lvm("lvs", "-o", "lv_tags", GROUP)


def test_what_is_of_another_image_or_too_small_or_not_ours_is_left_alone(
    group: LvmStore, lvm: LvmWithoutDevices, base: CachedImage
) -> None:
    with pytest.raises(Refused, match="choose a flavor with a disk"):
        group.ensure_root(root_of(size_bytes=3 * MIB), base, ignore_progress)
    group.ensure_root(root_of(), base, ignore_progress)
    with pytest.raises(Contradiction, match="was made from image"):
        group.ensure_root(root_of(), replace(base, sha256="0" * 64), ignore_progress)
    lvm.run(["lvcreate", "--size", "4m", "--wipesignatures", "n", "--name", f"{OTHER}_disk", GROUP])
    with pytest.raises(Contradiction, match="is there without the tag"):
        group.ensure_root(root_of(OTHER), base, ignore_progress)
    with pytest.raises(Contradiction, match="nothing was removed"):
        group.ensure_removed(OTHER)
    group.ensure_removed(GUEST)
    assert list(lvm.sizes()) == [f"{OTHER}_disk"]


@pytest.mark.parametrize("content", DiskContent)
def test_a_data_disk_holds_what_was_asked_for_and_nothing_of_others(
    group: LvmStore, lvm: LvmWithoutDevices, content: DiskContent
) -> None:
    group.ensure_data(swap_of(content))
    before = (lvm.devices / f"{GUEST}_disk.swap").read_bytes()
    group.ensure_data(swap_of(content))
    assert (lvm.devices / f"{GUEST}_disk.swap").read_bytes() == before
    assert b"\xaa" * 512 not in before
    assert any(before) is (content is not DiskContent.BLANK)
    with pytest.raises(Contradiction, match="left alone: a guest's data may be in it"):
        group.ensure_data(replace(swap_of(content), size_bytes=128 * MIB))


def test_a_group_that_is_full_or_not_there_is_told_in_words(
    group: LvmStore, lvm: LvmWithoutDevices, base: CachedImage
) -> None:
    with pytest.raises(DoesNotFit, match=r"insufficient free space .*; group tvtguests has 196.0 MiB free"):
        group.ensure_root(root_of(size_bytes=1 << 40), base, ignore_progress)
    space = group.read_space()
    assert (space.total_bytes, space.free_bytes) == (196 * MIB, 196 * MIB)
    missing = LvmStore("nonesuch")
    with pytest.raises(CannotAsk, match='Volume group "nonesuch" not found'):
        missing.ensure_removed(GUEST)
    (problem,) = missing.list_problems()
    assert "group nonesuch cannot be read" in problem
    assert group.list_problems() == ()


class Killed(BaseException):
    """Stands for SIGKILL: nothing may handle it."""


def test_a_death_after_any_command_is_mended_and_leaves_nothing(
    group: LvmStore, lvm: LvmWithoutDevices, base: CachedImage, tmp_path: Path
) -> None:
    expected = read_disk(Path(base.path), tmp_path) + bytes(8 * MIB)
    for fatal in range(2, 60, 3):  # each takes seconds; with a step of 1 all of them are gone through
        lvm.calls.clear()
        lvm.after = dying_at(fatal)
        try:
            group.ensure_root(root_of(), base, ignore_progress)
            group.ensure_root(root_of(size_bytes=12 * MIB), base, ignore_progress)
            group.ensure_data(swap_of())
            lvm.after = nobody_dies
            break
        except Killed:
            lvm.after = nobody_dies
            group.ensure_root(root_of(size_bytes=12 * MIB), base, ignore_progress)
            group.ensure_data(swap_of())
            assert (lvm.devices / f"{GUEST}_disk").read_bytes() == expected, lvm.calls[fatal - 1]
            assert set(lvm.sizes()) == {f"{GUEST}_disk", f"{GUEST}_disk.swap"}
            group.ensure_removed(GUEST)
            assert lvm.sizes() == {}
    assert 12 < fatal < 59


def dying_at(fatal: int) -> Any:
    def after(number: int) -> None:
        if number == fatal:
            raise Killed

    return after


class Recorder:
    """Answers as LVM 2.03.16 does where it has a device mapper, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.volumes: list[dict[str, str]] = [
            {"lv_name": "thin", "lv_size": "107374182400", "lv_tags": "", "data_percent": "12.50"}
        ]

    def __call__(self, argv: Sequence[str], **limits: Any) -> str:
        self.asked.append(" ".join(argv))
        if argv[0] == "lvs":
            return json.dumps({"report": [{"lv": self.volumes}]})
        if argv[0] == "lvremove":
            raise CommandFailed("in use", exit_code=5, stderr="  Logical volume guests/a in use.")
        return ""


def test_a_volume_in_a_thin_pool_is_made_without_writing_zeros(
    base: CachedImage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recorder = Recorder()
    monkeypatch.setattr(lvm_store, "run_command", recorder)
    device = tmp_path / "device"
    device.write_bytes(bytes(8 * MIB))
    monkeypatch.setattr(LvmStore, "_path", lambda *_: device)
    thin = LvmStore(GROUP, thin_pool="thin")

    thin.ensure_root(root_of(size_bytes=8 * MIB), base, ignore_progress)

    assert [line for line in recorder.asked if not line.startswith("lvs")] == [
        f"lvcreate --yes --addtag taskvisor.instance={GUEST} --addtag taskvisor.base={base.sha256} "
        f"--virtualsize {8 * MIB}b --thinpool thin --name {GUEST}_disk.new {GROUP}",
        f"lvrename {GROUP} {GUEST}_disk.new {GUEST}_disk",
    ]
    assert device.read_bytes() == read_disk(Path(base.path), tmp_path) + bytes(4 * MIB)
    space = thin.read_space()
    assert (space.total_bytes, space.free_bytes) == (107374182400, 93952409600)


def test_a_volume_in_use_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    recorder.volumes.append({"lv_name": f"{GUEST}_disk", "lv_size": "1", "lv_tags": f"taskvisor.instance={GUEST}"})
    monkeypatch.setattr(lvm_store, "run_command", recorder)
    with pytest.raises(CommandFailed, match="in use"):
        LvmStore(GROUP).ensure_removed(GUEST)
