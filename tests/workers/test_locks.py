"""Locks that the kernel takes back from a dead process."""

import os
from pathlib import Path

import pytest

from taskvisor.model.ids import InstanceId
from workers import locks
from workers.locks import InstanceLocks, open_lock, open_lock_within

GUEST = InstanceId("0b5f4c1e-0000-5000-8000-000000000001")


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first, second = InstanceLocks(tmp_path), InstanceLocks(tmp_path)
    with first.hold(GUEST) as alone, second.hold(GUEST) as also:
        assert (alone, also) == (True, False)
    with second.hold(GUEST) as alone:
        assert alone


def test_nothing_is_left_when_all_have_let_go(tmp_path: Path) -> None:
    with InstanceLocks(tmp_path).hold(GUEST):
        pass
    assert list(tmp_path.iterdir()) == []


def test_who_opened_a_file_that_its_holder_then_removed_holds_nothing_and_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder unlinks the file before it lets go, and somebody else makes another, which is the lock now."""
    path = tmp_path / f"{GUEST}.lock"
    former = locks.open_lock(path)
    assert former is not None

    def opened_late(path: Path) -> int | None:
        late = os.open(path, os.O_RDWR)
        path.unlink()
        os.close(former)
        path.touch()
        return late

    monkeypatch.setattr(locks, "open_lock", opened_late)

    with InstanceLocks(tmp_path).hold(GUEST) as alone:
        assert not alone
    assert path.exists()


def test_a_lock_of_a_dead_process_is_free(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        open_lock(tmp_path / "node.lock")
        os._exit(0)
    os.waitpid(pid, 0)
    descriptor = open_lock_within(tmp_path / "node.lock", time_limit_s=0.0)
    assert descriptor is not None
    os.close(descriptor)


def test_a_lock_that_stays_held_is_given_up_on_after_the_limit(tmp_path: Path) -> None:
    holder = open_lock(tmp_path / "node.lock")
    assert holder is not None
    assert open_lock_within(tmp_path / "node.lock", time_limit_s=0.1) is None
    os.close(holder)
