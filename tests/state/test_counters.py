"""Counts: once for each thing that happened, and never at its cost."""

from dataclasses import replace

import pytest
import redis
from structlog.testing import capture_logs

from taskvisor.model.change import Change, LeaseMove
from taskvisor.model.errors import CannotAsk, StoreConflict
from taskvisor.model.ids import HostName
from taskvisor.model.operation import Operation, Runner, TimelineEntry
from taskvisor.model.states import Direction, Phase
from taskvisor.state.admission import Admission
from taskvisor.state.connection import open_redis
from taskvisor.state.counters import Count, CounterName, Counters
from taskvisor.state.journal import RedisJournal
from taskvisor.state.keys import Keys
from tests.fixtures.redis_servers import OpenRedisServer
from tests.support.records import claim, instance, operation
from workers.inflight import DEAD_LETTERED

RUNNER = Runner(host=HostName("h1"), incarnation="first", pid=1)


@pytest.fixture
def counters(client: redis.Redis, keys: Keys) -> Counters:
    return Counters(client, keys)


@pytest.fixture
def accepted(admission: Admission) -> Operation:
    """A build that was let in."""
    guest = instance(ports=())
    build = operation("build-web", guest)
    admission.admit_build(build, guest, claim(guest))
    return build


def entry(outcome: str, at: float) -> TimelineEntry:
    return TimelineEntry(
        step="a",
        direction=Direction.DO,
        attempt=1,
        host=HostName("h1"),
        started_at=at,
        ended_at=at + 1,
        outcome=outcome,
    )


def after(before: Operation, **fields: object) -> Operation:
    changed: Operation = replace(before, revision=before.revision + 1, **fields)  # type: ignore[arg-type]
    return changed


def ended(before: Operation, phase: Phase = Phase.SUCCEEDED) -> Change:
    return Change(before=before, after=after(before, phase=phase, settled_at=9.0), lease=LeaseMove.RELEASE)


def test_what_is_added_is_read(counters: Counters) -> None:
    counters.add(CounterName.MESSAGES_DROPPED_MALFORMED)
    counters.add(CounterName.MESSAGES_DROPPED_MALFORMED, 2)

    assert counters.read() == {"messages_dropped_malformed": 3}
    assert counters.list_counts() == (Count(name=CounterName.MESSAGES_DROPPED_MALFORMED, labels=(), total=3),)


def test_nothing_is_counted_of_an_empty_store(counters: Counters) -> None:
    assert (dict(counters.read()), counters.list_counts()) == ({}, ())


def test_a_counter_with_labels_is_not_counted_without_them(counters: Counters) -> None:
    with pytest.raises(ValueError, match="has the labels"):
        counters.add(CounterName.OPERATIONS)

    assert counters.read() == {}


def test_every_counter_says_in_a_sentence_what_one_more_means() -> None:
    assert [name.value for name in CounterName if not name.sentence.endswith(".")] == []


def test_the_transport_counts_its_dead_letters_under_a_name_of_this_list() -> None:
    assert CounterName.MESSAGES_DEAD_LETTERED.value == DEAD_LETTERED


def test_a_silent_redis_loses_the_count_and_costs_nothing_more(open_redis_server: OpenRedisServer, keys: Keys) -> None:
    server = open_redis_server()
    counters = Counters(open_redis(server.url(), timeout_s=0.5), keys)
    server.kill()

    with capture_logs() as logged:
        counters.add(CounterName.REQUESTS_DROPPED_ID_IN_USE)

    assert [(line["event"], line["counter"]) for line in logged] == [("count_lost", "requests_dropped_id_in_use")]
    with pytest.raises(CannotAsk):
        counters.read()


def test_an_end_is_counted_by_its_flow_and_outcome(
    journal: RedisJournal, counters: Counters, accepted: Operation
) -> None:
    assert counters.read() == {}

    journal.commit(ended(accepted, Phase.FAILED))

    assert counters.list_counts() == (Count(name=CounterName.OPERATIONS, labels=("toy", "failed"), total=1),)


def test_an_end_that_is_written_a_second_time_is_counted_once(
    journal: RedisJournal, counters: Counters, accepted: Operation
) -> None:
    journal.commit(ended(accepted))
    journal.commit(ended(accepted))

    assert [count.total for count in counters.list_counts()] == [1]


def test_an_end_that_is_refused_is_not_counted(journal: RedisJournal, counters: Counters, accepted: Operation) -> None:
    with pytest.raises(StoreConflict):
        journal.commit(ended(after(accepted)))

    assert counters.read() == {}


def test_each_try_is_counted_when_it_ends(journal: RedisJournal, counters: Counters, accepted: Operation) -> None:
    died = after(accepted, timeline=(entry("WorkerLost", 1.0),))
    noted = after(died, cancel_requested=True)
    tried = after(noted, timeline=(*noted.timeline, entry("done", 2.0)))
    for before, now in ((accepted, died), (died, noted), (noted, tried)):
        journal.commit(Change(before=before, after=now))

    assert counters.list_counts() == (
        Count(name=CounterName.STEP_TRIES, labels=("toy", "a", "do", "WorkerLost"), total=1),
        Count(name=CounterName.STEP_TRIES, labels=("toy", "a", "do", "done"), total=1),
    )


def test_a_relaunch_is_counted_in_the_write_that_notes_it(
    journal: RedisJournal, counters: Counters, accepted: Operation
) -> None:
    noted = after(accepted, relaunches=1)
    journal.commit(Change(before=accepted, after=noted, lease=LeaseMove.WATCH))
    journal.commit(Change(before=noted, after=after(noted, relaunches=0)))

    assert counters.read() == {"operations_sent_again": 1}


def test_another_host_is_counted(journal: RedisJournal, counters: Counters, accepted: Operation) -> None:
    journal.commit(Change(before=accepted, after=after(accepted, host=HostName("h2"))))

    assert counters.read() == {"operations_rescheduled": 1}


def test_counts_that_cannot_be_written_do_not_cost_the_record(
    client: redis.Redis, keys: Keys, journal: RedisJournal, accepted: Operation
) -> None:
    client.set(keys.counters, "not a hash")

    journal.commit(ended(accepted))

    loaded = journal.load(accepted.id)
    assert loaded is not None
    assert loaded.operation.phase is Phase.SUCCEEDED


def test_what_a_newer_version_counts_is_left_out(client: redis.Redis, keys: Keys, counters: Counters) -> None:
    client.hset(
        keys.counters, mapping={"guests_migrated": 3, "operations|instance.build": 1, "operations_sent_again": 2}
    )

    assert counters.list_counts() == (Count(name=CounterName.OPERATIONS_SENT_AGAIN, labels=(), total=2),)
