"""virt/images/conversion.py with the real qemu-img: what foreign images become, and what bounds that."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from taskvisor.model.errors import DoesNotFit, Refused
from taskvisor.model.states import ImageFormat
from tests.virt.images.hostile_images import foreign, with_footer
from tests.virt.made_images import MIB, noise, qemu_img, read_disk
from virt import qemu_img as driver
from virt.command import CommandFailed
from virt.images import conversion
from virt.images.conversion import convert
from virt.images.inspection import inspect_image
from virt.progress import ignore_progress
from virt.space import NoSpace, Space

pytestmark = pytest.mark.real

NAME = "http://images/x"


def converted(source: Path, target: Path, *, limit_bytes: int = 1 << 40) -> Path:
    inspected = inspect_image(source, declared=None, name=NAME)
    convert(source, target, inspected, limit_bytes=limit_bytes, name=NAME, progress=ignore_progress)
    return target


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A VMDK of 32 MiB of noise."""
    raw = tmp_path / "noise"
    raw.write_bytes(noise(32 * MIB))
    qemu_img("convert", "-f", "raw", "-O", "vmdk", raw, tmp_path / "full")
    return tmp_path / "full"


@pytest.mark.parametrize(
    "make",
    [
        foreign("vmdk"),
        foreign("vmdk", "subformat=streamOptimized"),
        with_footer,
        foreign("vdi"),
        foreign("vpc"),
        foreign("vhdx"),
    ],
    ids=["vmdk", "vmdk stream", "vmdk stream with footer", "vdi", "vhd", "vhdx"],
)
def test_the_disk_is_the_same_and_qcow2(tmp_path: Path, make: object) -> None:
    source = make(tmp_path / "image")  # type: ignore[operator]
    target = converted(source, tmp_path / "target")
    assert inspect_image(target, declared=ImageFormat.QCOW2, name=NAME).virtual_bytes >= 8 * MIB
    assert read_disk(target, tmp_path) == read_disk(source, tmp_path)


def test_a_former_target_is_gone(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(noise(40 * MIB))
    target = converted(foreign("vdi")(tmp_path / "image"), tmp_path / "target")
    assert target.stat().st_size < 10 * MIB


def test_progress_tells_bytes_of_the_disk(tmp_path: Path, full: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    inspected = inspect_image(full, declared=None, name=NAME)
    convert(
        full,
        tmp_path / "target",
        inspected,
        limit_bytes=1 << 40,
        name=NAME,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (32 * MIB, 32 * MIB)


def test_who_watches_may_stop_it_and_nothing_is_left(tmp_path: Path, full: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(done: int, total: int | None) -> None:
        raise Stopped

    inspected = inspect_image(full, declared=None, name=NAME)
    with pytest.raises(Stopped):
        convert(full, tmp_path / "target", inspected, limit_bytes=1 << 40, name=NAME, progress=stop)
    assert not (tmp_path / "target").exists()


def test_more_than_is_allowed_is_refused_and_nothing_is_left(tmp_path: Path, full: Path) -> None:
    with pytest.raises(Refused, match=r"holds more than 16.0 MiB once it is converted"):
        converted(full, tmp_path / "target", limit_bytes=16 * MIB)
    assert not (tmp_path / "target").exists()


def test_an_image_never_becomes_more_than_the_disk_that_it_says_to_be(tmp_path: Path, full: Path) -> None:
    """As if its header lied to inspection, and told QEMU of more."""
    inspected = replace(inspect_image(full, declared=None, name=NAME), virtual_bytes=MIB)
    with pytest.raises(Refused, match=r"holds more than 9.0 MiB once it is converted"):
        convert(full, tmp_path / "target", inspected, limit_bytes=1 << 40, name=NAME, progress=ignore_progress)


def test_what_fills_the_disk_is_ended_before_the_disk_is_full(
    tmp_path: Path, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "read_space", lambda _: Space(total_bytes=1 << 40, free_bytes=1 << 30))
    with pytest.raises(NoSpace, match="cannot convert http://images/x"):
        converted(full, tmp_path / "target")
    assert NoSpace("").code == DoesNotFit("").code


def test_what_takes_too_much_cpu_time_is_refused(tmp_path: Path, full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inspected = inspect_image(full, declared=None, name=NAME)

    def ended(*words: object, **limits: object) -> None:
        raise CommandFailed("qemu-img was ended", exit_code=-signal.SIGXCPU, stderr="")

    monkeypatch.setattr(driver, "run_command", ended)
    with pytest.raises(Refused, match="more than 3600 s of CPU time"):
        convert(full, tmp_path / "target", inspected, limit_bytes=1 << 40, name=NAME, progress=ignore_progress)
