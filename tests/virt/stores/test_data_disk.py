"""virt/stores/data_disk.py with the real tools, and blkid to say what is on a disk."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskvisor.model.errors import Contradiction, DoesNotFit
from taskvisor.model.plan import DiskContent
from virt import command
from virt.space import NoSpace
from virt.stores import data_disk
from virt.stores.data_disk import ensure_data_disk

pytestmark = pytest.mark.real

MIB, GIB = 1 << 20, 1 << 30


def facts_of(path: Path) -> dict[str, str]:
    """What blkid finds on the disk; empty for a blank one."""
    said = subprocess.run(
        ["blkid", "-p", "-o", "export", path], capture_output=True, text=True, timeout=30, check=False
    )
    assert said.returncode in (0, 2), said.stderr
    return dict(line.split("=", 1) for line in said.stdout.splitlines())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a disk is to be, in a directory with nothing else."""
    (tmp_path / "guest").mkdir()
    return tmp_path / "guest" / "disk.eph0"


WHAT_IS_FOUND = [
    (DiskContent.SWAP, {"TYPE": "swap", "LABEL": "swap"}),
    (DiskContent.EXT4, {"TYPE": "ext4", "LABEL": "ephemeral0"}),
    (DiskContent.VFAT, {"TYPE": "vfat", "LABEL": "EPHEMERAL0", "VERSION": "FAT32"}),
]


@pytest.mark.parametrize(("content", "wanted"), WHAT_IS_FOUND)
def test_a_disk_holds_what_was_asked_for(path: Path, content: DiskContent, wanted: dict[str, str]) -> None:
    ensure_data_disk(path, content=content, size_bytes=GIB)

    found = facts_of(path)
    assert {key: found.get(key) for key in wanted} == wanted
    assert (path.stat().st_size, path.stat().st_mode & 0o777) == (GIB, 0o600)
    assert path.stat().st_blocks * 512 < 4 * MIB
    assert list(path.parent.iterdir()) == [path]


def test_a_blank_disk_has_nothing_on_it_and_costs_no_subprocess(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", None)
        ensure_data_disk(path, content=DiskContent.BLANK, size_bytes=GIB)

    assert facts_of(path) == {}
    assert (path.stat().st_size, path.stat().st_blocks) == (GIB, 0)


def test_a_file_system_is_sound_and_leaves_nothing_for_the_guest_to_write(path: Path) -> None:
    ensure_data_disk(path, content=DiskContent.EXT4, size_bytes=GIB)

    subprocess.run(["e2fsck", "-f", "-n", path], check=True, timeout=60, capture_output=True)
    said = subprocess.run(["dumpe2fs", path], check=True, timeout=60, capture_output=True, text=True).stdout
    groups = [line for line in said.splitlines() if line.startswith("Group ")]
    # The last group alone lies in use from the first: its table of inodes is never put off.
    assert len([line for line in groups if "ITABLE_ZEROED" in line]) >= len(groups) - 1 > 0


@pytest.mark.parametrize("content", DiskContent)
def test_what_the_guest_wrote_is_kept(path: Path, content: DiskContent, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_data_disk(path, content=content, size_bytes=64 * MIB)
    with path.open("r+b") as file:
        file.write(b"\x55" * MIB)
    before = (path.stat().st_ino, path.read_bytes())
    monkeypatch.setattr(subprocess, "Popen", None)

    ensure_data_disk(path, content=content, size_bytes=64 * MIB)

    assert (path.stat().st_ino, path.read_bytes()) == before


def make_smaller(path: Path) -> None:
    path.write_bytes(b"theirs")


def make_a_link(path: Path) -> None:
    target = path.with_name("elsewhere")
    target.write_bytes(bytes(64 * MIB))
    path.symlink_to(target)


@pytest.mark.parametrize("make", [make_smaller, make_a_link, Path.mkdir])
def test_what_is_there_and_no_disk_of_that_size_is_left_alone(path: Path, make: Callable[[Path], None]) -> None:
    make(path)
    before = path.lstat()

    with pytest.raises(Contradiction, match=r"disk\.eph0 is there, but is no disk of 67108864 bytes"):
        ensure_data_disk(path, content=DiskContent.EXT4, size_bytes=64 * MIB)

    after = path.lstat()
    assert (after.st_ino, after.st_mode, after.st_size, after.st_mtime) == (
        before.st_ino,
        before.st_mode,
        before.st_size,
        before.st_mtime,
    )


class Killed(BaseException):
    """Stands for SIGKILL: nothing may handle it."""


@pytest.mark.parametrize("step", ["ensure_no_file", "fill", "ensure_allocated", "sync_file", "rename_durably"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_death_anywhere_leaves_the_disk_whole_or_absent_and_is_mended(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str, moment: str
) -> None:
    real = getattr(data_disk, step)

    def dying(*args: object) -> None:
        if moment == "after":
            real(*args)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(data_disk, step, dying)
        with pytest.raises(Killed):
            ensure_data_disk(path, content=DiskContent.SWAP, size_bytes=MIB)
    assert path.exists() is ((step, moment) == ("rename_durably", "after"))
    assert not path.exists() or facts_of(path)["TYPE"] == "swap"

    ensure_data_disk(path, content=DiskContent.SWAP, size_bytes=MIB)

    assert facts_of(path)["TYPE"] == "swap"
    assert list(path.parent.iterdir()) == [path]


def test_a_host_without_the_tool_is_not_the_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "SEARCH_PATH", str(path.parent))

    with pytest.raises(DoesNotFit, match=r"mkfs\.ext4 is not installed"):
        ensure_data_disk(path, content=DiskContent.EXT4, size_bytes=64 * MIB)
    assert not path.exists()


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for names and nothing more."""
    mounted = tmp_path / "full"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(mounted)], check=True, timeout=10)
    (mounted / "ballast").write_bytes(bytes(os.statvfs(mounted).f_bavail * os.statvfs(mounted).f_frsize))
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True, timeout=10)


@pytest.mark.parametrize("content", [content for content in DiskContent if content is not DiskContent.BLANK])
def test_a_full_disk_is_said_to_be_full(full: Path, content: DiskContent) -> None:
    with pytest.raises(NoSpace, match="free some space, or build elsewhere"):
        ensure_data_disk(full / "disk", content=content, size_bytes=64 * MIB)
    assert not (full / "disk").exists()
