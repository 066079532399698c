"""virt/preflight.py."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from virt import command, preflight
from virt.preflight import list_problems


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mounted"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(path)], check=True, timeout=10)
    yield path
    subprocess.run(["umount", str(path)], check=True, timeout=10)


@pytest.mark.real
def test_a_sound_host_has_no_problems_and_keeps_no_trace(tmp_path: Path) -> None:
    assert list_problems(tmp_path / "state") == ()
    assert list((tmp_path / "state").iterdir()) == []


def test_a_missing_program_is_a_sentence_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "SEARCH_PATH", str(tmp_path))
    assert list_problems(tmp_path) == (
        "qemu-img is not installed; install qemu-utils (Debian, Ubuntu) or qemu-img (Fedora, RHEL).",
        "mkswap is not installed; install util-linux.",
        "mkfs.ext4 is not installed; install e2fsprogs.",
        "mkfs.vfat is not installed; install dosfstools.",
        "mcopy is not installed; install mtools.",
    )


def test_a_program_that_does_not_run_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bin" / "qemu-img"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho no library >&2\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setattr(command, "SEARCH_PATH", f"{broken.parent}:{command.SEARCH_PATH}")
    (problem,) = list_problems(tmp_path / "state")
    assert problem.startswith("qemu-img does not run: ")
    assert "no library" in problem


@pytest.mark.real
def test_a_root_that_cannot_be_written_to_is_said(mounted: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True, timeout=10)
    (problem,) = list_problems(mounted)
    assert "cannot be written to (Read-only file system)" in problem


@pytest.mark.real
def test_a_root_under_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (problem,) = list_problems(tmp_path / "file" / "state")
    assert "cannot be written to" in problem


@pytest.mark.real
def test_a_nearly_full_disk_is_said(mounted: Path) -> None:
    (problem,) = list_problems(mounted)
    assert "has 1.0 MiB free; free at least 1.00 GiB." in problem


@pytest.mark.real
def test_a_directory_closed_to_qemus_user_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for path in (tmp_path, *tmp_path.parents):
        assert path.stat().st_uid == 0
    (problem,) = list_problems(closed / "state", qemu_uid=64055)
    assert str(closed) in problem
    assert "chmod o+x" in problem
    assert list_problems(closed / "state", qemu_uid=0) == ()


def test_a_file_system_without_flock_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(preflight.fcntl, "flock", flock)  # type: ignore[attr-defined]
    problems = list_problems(tmp_path)
    assert any("has no flock (Function not implemented)" in problem for problem in problems)
