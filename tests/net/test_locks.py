"""Locks between processes."""

import multiprocessing
from pathlib import Path

import pytest

from net.locks import ensure_locked
from taskvisor.model.errors import Busy

ROUNDS = 200
PROCESSES = 4


def test_one_process_at_a_time_is_in_the_block(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_count, args=(tmp_path / "lock", counter)) for _ in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    assert int(counter.read_text()) == ROUNDS * PROCESSES


def test_waiting_too_long_is_busy_and_the_holder_is_not_harmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("net.locks.WAIT_LIMIT_S", 0.05)
    with (
        ensure_locked(tmp_path / "lock", "the thing"),
        pytest.raises(Busy, match="the thing is being changed"),
        ensure_locked(tmp_path / "lock", "the thing"),
    ):
        pass
    with ensure_locked(tmp_path / "lock", "the thing"):
        pass


def _count(lock: Path, counter: Path) -> None:
    for _ in range(ROUNDS):
        with ensure_locked(lock, "the counter"):
            counter.write_text(str(int(counter.read_text()) + 1))
