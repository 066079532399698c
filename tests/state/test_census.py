"""How many operations there are now: by the indexes, not the records."""

from dataclasses import replace

import pytest
import redis

from taskvisor.model.change import Change, LeaseMove
from taskvisor.model.operation import Operation
from taskvisor.model.states import Phase
from taskvisor.state import census as census_module
from taskvisor.state.admission import Admission
from taskvisor.state.census import Census, OperationCensus
from taskvisor.state.journal import RedisJournal
from taskvisor.state.keys import Keys
from tests.support.records import claim, instance, operation


@pytest.fixture
def census(client: redis.Redis, keys: Keys) -> Census:
    return Census(client, keys)


def admit(admission: Admission, name: str, at: float) -> Operation:
    """A build that was let in at that time."""
    guest = instance(name, f"build-{name}", ports=())
    build = operation(f"build-{name}", guest, created_at=at, updated_at=at)
    admission.admit_build(build, guest, claim(guest))
    return build


def moved(journal: RedisJournal, before: Operation, lease: LeaseMove = LeaseMove.KEEP, **fields: object) -> Operation:
    """It is written with these fields changed."""
    after: Operation = replace(before, revision=before.revision + 1, **fields)  # type: ignore[arg-type]
    journal.commit(Change(before=before, after=after, lease=lease))
    return after


def test_nothing_is_counted_where_there_is_nothing(census: Census) -> None:
    assert census.read_operations() == OperationCensus(
        unsettled={}, oldest_created_at=None, longest_updated_at=None, stuck=0
    )


def test_what_has_not_ended_is_counted_by_phase_and_its_oldest_known(
    census: Census, admission: Admission, journal: RedisJournal
) -> None:
    oldest, turned, ended = (admit(admission, name, at) for name, at in (("a", 10.0), ("b", 20.0), ("c", 5.0)))
    moved(journal, oldest, updated_at=30.0)
    moved(journal, turned, phase=Phase.ROLLING_BACK, updated_at=25.0)
    moved(journal, ended, LeaseMove.RELEASE, phase=Phase.SUCCEEDED, settled_at=26.0)

    assert census.read_operations() == OperationCensus(
        unsettled={"running": 1, "rolling_back": 1}, oldest_created_at=10.0, longest_updated_at=25.0, stuck=0
    )


def test_a_stuck_operation_counts_until_it_goes_on(census: Census, admission: Admission, journal: RedisJournal) -> None:
    stuck = moved(journal, admit(admission, "a", 1.0), phase=Phase.STUCK, settled_at=2.0)
    assert (census.read_operations().stuck, census.read_operations().unsettled) == (1, {})

    moved(journal, stuck, phase=Phase.RUNNING, settled_at=None)

    assert (census.read_operations().stuck, census.read_operations().unsettled) == (0, {"running": 1})


def test_a_record_that_does_not_parse_is_counted_all_the_same(
    census: Census, admission: Admission, client: redis.Redis, keys: Keys
) -> None:
    build = admit(admission, "a", 1.0)
    client.hset(keys.operation(build.id), "doc", "{")
    client.zadd(keys.unsettled, {"of-no-record": 1.0})

    assert census.read_operations().unsettled == {"running": 1, "not_looked_at": 1}


def test_what_is_beyond_the_limit_is_counted_but_not_looked_at(
    census: Census, admission: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census_module, "LOOK_LIMIT", 2)
    for number in range(5):
        admit(admission, f"web{number}", float(number))

    assert census.read_operations().unsettled == {"running": 2, "not_looked_at": 3}
