"""Locks that the kernel takes back from a dead process."""

import os
import signal
from pathlib import Path

import pytest

from taskvisor.model.ids import InstanceId
from taskvisor.model.tick import Turn
from workers import locks
from workers.locks import HostTickLocks, InstanceLocks, open_lock, open_lock_within

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


def test_a_periodic_task_is_taken_once_and_not_again_too_soon(tmp_path: Path) -> None:
    now_s = [100.0]
    first, second = (HostTickLocks(tmp_path, steady=lambda: now_s[0]) for _ in range(2))

    with first.hold("host.track", soon_s=30) as turn, second.hold("host.track", soon_s=30) as also:
        assert (turn, also) == (Turn.TAKEN, Turn.RUNNING)
    now_s[0] += 29
    with second.hold("host.track", soon_s=30) as turn, second.hold("host.monitor", soon_s=30) as other:
        assert (turn, other) == (Turn.TOO_SOON, Turn.TAKEN)
    now_s[0] += 1
    with second.hold("host.track", soon_s=30) as turn:
        assert turn is Turn.TAKEN


def test_a_run_whose_process_was_killed_goes_on_no_more(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # it only waits to be killed: were it to read the pipe, it would take its own byte from the parent
        with HostTickLocks(tmp_path).hold("host.track", soon_s=0):
            os.write(writing, b".")
            while True:
                signal.pause()
    os.close(writing)
    assert os.read(reading, 1) == b"."
    os.close(reading)
    with HostTickLocks(tmp_path).hold("host.track", soon_s=0) as turn:
        assert turn is Turn.RUNNING

    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

    with HostTickLocks(tmp_path).hold("host.track", soon_s=0) as turn:
        assert turn is Turn.TAKEN


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff\xfe", b"1e999", b"nan"])
def test_a_note_that_was_cut_short_holds_nobody_up(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "host.track.lock").write_bytes(content)

    with HostTickLocks(tmp_path).hold("host.track", soon_s=30) as turn:
        assert turn is Turn.TAKEN
