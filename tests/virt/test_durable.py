"""virt/durable.py and virt/space.py: what they promise of files, and which errors they make of a host's."""

import errno
import os
from pathlib import Path

import pytest

from taskvisor.model.errors import DoesNotFit
from virt import durable
from virt.durable import ensure_directory, ensure_no_file, is_regular, write_durably
from virt.space import GIB, Space, check_space, gib, host_errors, read_space, whole_gib


class Killed(BaseException):
    """Stands for SIGKILL."""


def test_a_file_is_written_with_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_durably(tmp_path / "file", b"new", mode=0o644)
    finally:
        os.umask(before)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_death_before_the_rename_leaves_the_old_file_and_the_next_write_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_durably(path, b"old")

    def die(source: Path, target: Path) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(durable, "rename_durably", die)
        with pytest.raises(Killed):
            write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    write_durably(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_ensuring_twice_is_once(tmp_path: Path) -> None:
    for _ in range(2):
        ensure_directory(tmp_path / "a" / "b", mode=0o711)
        assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o711
    (tmp_path / "file").touch()
    for _ in range(2):
        ensure_no_file(tmp_path / "file")


def test_a_link_to_a_file_is_no_file_proper(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    found = [is_regular(tmp_path / name) for name in ("file", "link", "none", ".")]
    assert found == [True, False, False, False]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_errors_of_the_host_send_the_work_elsewhere(tmp_path: Path, number: int) -> None:
    with pytest.raises(DoesNotFit, match=r"cannot make x"), host_errors(tmp_path, "make x"):
        raise OSError(number, os.strerror(number), str(tmp_path))


def test_other_errors_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), host_errors(tmp_path, "make x"):
        (tmp_path / "none").read_bytes()


def test_space_is_that_of_the_nearest_directory_that_exists(tmp_path: Path) -> None:
    assert read_space(tmp_path / "not" / "yet").total_bytes == read_space(tmp_path).total_bytes
    check_space(tmp_path, 1, "make x")
    with pytest.raises(DoesNotFit, match=r"free, and 1048576.00 GiB more are needed"):
        check_space(tmp_path, 1 << 50, "make x")


def test_sizes_are_told_for_people() -> None:
    assert [gib(size) for size in (0, 1 << 20, GIB, 5 * GIB // 2)] == ["0.0 MiB", "1.0 MiB", "1.00 GiB", "2.50 GiB"]
    assert [whole_gib(size) for size in (0, 1, GIB, GIB + 1)] == [0, 1, 1, 2]
    assert Space(total_bytes=2, free_bytes=1).free_bytes == 1
