"""Locks that the kernel takes back from a dead process."""

import os
from pathlib import Path

from taskvisor.model.ids import InstanceId
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


def test_who_opened_a_file_that_its_holder_then_removed_holds_nothing_and_removes_nothing(tmp_path: Path) -> None:
    path = tmp_path / f"{GUEST}.lock"
    late = os.open(path, os.O_RDWR | os.O_CREAT)  # opened before the first holder let go, and unlinked
    path.unlink()
    with InstanceLocks(tmp_path).hold(GUEST) as current:
        assert current
        assert os.fstat(late).st_nlink == 0
        with InstanceLocks(tmp_path).hold(GUEST) as third:
            assert not third
        assert path.exists()
    os.close(late)


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
