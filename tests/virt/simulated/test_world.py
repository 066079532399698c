"""Records as files, between processes."""

import fcntl
import multiprocessing
from pathlib import Path

import pytest

from taskvisor.model.errors import CannotAsk
from virt.simulated import world
from virt.simulated.world import Counter, Lock, Shelf

PROCESSES = 4
ROUNDS = 300


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf[int]:
    return Shelf(tmp_path / "numbers", int, Lock(tmp_path / "world.lock"))


def test_a_record_that_is_not_there_is_none(shelf: Shelf[int]) -> None:
    assert shelf.read("one") is None
    assert shelf.list_all() == ()


def test_a_record_is_what_was_put_last(shelf: Shelf[int]) -> None:
    shelf.put("one", 1)
    shelf.put("one", 2)
    assert shelf.list_all() == (("one", 2),)


def test_removing_a_record_twice_is_once(shelf: Shelf[int]) -> None:
    shelf.put("one", 1)
    shelf.remove("one")
    shelf.remove("one")
    assert shelf.list_keys() == ()


def test_a_directory_that_is_away_is_not_an_empty_one(shelf: Shelf[int], tmp_path: Path) -> None:
    (tmp_path / "numbers").rename(tmp_path / "away")
    with pytest.raises(CannotAsk):
        shelf.read("one")
    with pytest.raises(CannotAsk):
        shelf.list_keys()
    with pytest.raises(CannotAsk):
        shelf.put("one", 1)


def test_a_file_that_is_no_record_is_not_an_absent_one(shelf: Shelf[int], tmp_path: Path) -> None:
    (tmp_path / "numbers" / "one.json").write_text("torn")
    with pytest.raises(CannotAsk):
        shelf.read("one")


def test_a_half_written_record_of_a_dead_process_is_no_record(shelf: Shelf[int], tmp_path: Path) -> None:
    (tmp_path / "world.part").write_text("4")
    assert shelf.list_all() == ()
    shelf.put("one", 1)
    assert [path.name for path in tmp_path.rglob("*")] == ["numbers", "one.json"]


def test_the_lock_is_not_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "LOCK_LIMIT_S", 0.05)
    with (tmp_path / "lock").open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(CannotAsk), Lock(tmp_path / "lock").held():
            raise AssertionError("two hold the lock")


def test_no_count_is_lost_or_given_twice_between_processes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(PROCESSES) as pool:
        counted = pool.map(_count, [tmp_path] * PROCESSES)
    assert sorted(number for numbers in counted for number in numbers) == list(range(1, PROCESSES * ROUNDS + 1))


def _count(directory: Path) -> list[int]:
    lock, counter = Lock(directory / "lock"), Counter(directory / "count")
    numbers = []
    for _ in range(ROUNDS):
        with lock.held():
            numbers.append(counter.next())
    return numbers
