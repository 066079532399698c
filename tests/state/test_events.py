"""Every change of state, in order, from a cursor."""

import threading
from dataclasses import replace
from typing import Any

import pytest
import redis

from taskvisor.model.change import Change
from taskvisor.model.errors import Refused
from taskvisor.model.event import Event, EventKind
from taskvisor.model.operation import Operation
from taskvisor.state.admission import Admission
from taskvisor.state.events import FROM_NOW, FROM_OLDEST, Events, order_of
from taskvisor.state.journal import RedisJournal
from taskvisor.state.keys import Keys
from taskvisor.state.writing import Writer
from tests.support.records import claim, instance, operation


@pytest.fixture
def events(client: redis.Redis, keys: Keys) -> Events:
    return Events(client, keys)


@pytest.fixture
def build(admission: Admission) -> Operation:
    guest = instance(ports=())
    accepted = operation("build-web", guest, updated_at=1.25)
    admission.admit_build(accepted, guest, claim(guest))
    return accepted


def moved(before: Operation) -> Operation:
    return replace(before, revision=before.revision + 1)


def test_an_event_tells_what_was_written(events: Events, build: Operation) -> None:
    (event,) = events.read_after("0", wait_s=0)

    assert replace(event, cursor="") == Event(
        cursor="",
        operation_id=build.id,
        flow="toy",
        instance_id=build.instance_id,
        instance_name="web",
        host="h1",
        phase="running",
        step="only",
        outcome="",
        at=1.25,
        kind=EventKind.OPERATION,
        number=1,
        of=1,
    )


def test_reading_goes_on_where_it_stopped(events: Events, journal: RedisJournal, build: Operation) -> None:
    (first,) = events.read_after("0", wait_s=0)
    after = moved(build)
    journal.commit(Change(before=build, after=after))
    journal.commit(Change(before=after, after=moved(after)))

    following = events.read_after(first.cursor, wait_s=0)

    assert len(following) == 2
    assert events.read_after("0", wait_s=0, limit=2) == (first, following[0])
    assert events.read_after(following[-1].cursor, wait_s=0) == ()


def test_who_waits_is_told_at_once(events: Events, journal: RedisJournal, build: Operation) -> None:
    timer = threading.Timer(0.05, lambda: journal.commit(Change(before=build, after=moved(build))))
    timer.start()

    told = events.read_after(FROM_NOW, wait_s=4.0)

    timer.join()
    assert [event.operation_id for event in told] == [build.id]


def test_who_waits_for_nothing_is_told_nothing(events: Events) -> None:
    assert events.read_after(FROM_NOW, wait_s=0.01) == ()


def test_the_stream_is_bounded(client: redis.Redis, keys: Keys) -> None:
    writer = Writer(keys=keys, operation_keep_s=60, events_kept=100, outcome_for=lambda *_: None)
    guest = instance(ports=())
    build = operation("build-web", guest)
    Admission(client, writer).admit_build(build, guest, claim(guest))
    journal = RedisJournal(client, writer)

    for _ in range(500):
        following = moved(build)
        journal.commit(Change(before=build, after=following))
        build = following

    assert 100 <= client.xlen(keys.events) <= 300  # approximate: whole nodes of 100 entries go


def test_what_somebody_else_put_into_the_stream_is_passed_over(
    client: redis.Redis, keys: Keys, admission: Admission
) -> None:
    client.xadd(keys.events, {"spam": "eggs"})
    guest = instance(ports=())
    admission.admit_build(operation("build-web", guest), guest, claim(guest))
    client.xadd(keys.events, {"op": "x", "at": "noon"})

    assert [event.operation_id for event in Events(client, keys).read_after("0", wait_s=0.01)] == ["build-web"]


def test_what_a_former_version_wrote_is_read_as_what_it_is(client: redis.Redis, keys: Keys, events: Events) -> None:
    fields: dict[Any, Any] = {"flow": "f", "name": "n", "host": "h", "phase": "p", "step": "", "outcome": "", "at": "1"}
    for op, instance_id in (("op", "i"), ("", "i"), ("op", ""), ("", "")):
        client.xadd(keys.events, {**fields, "op": op, "instance": instance_id})

    kinds = [event.kind.value for event in events.read_after("0", wait_s=0.01)]

    assert kinds == ["operation", "instance", "host", "host"]


def test_an_empty_stream_misses_nothing(events: Events) -> None:
    bounds = events.read_bounds()

    assert (bounds.oldest, bounds.newest, bounds.gone) == (FROM_OLDEST, FROM_OLDEST, 0)
    assert bounds.missed_after(FROM_OLDEST) == bounds.missed_after("1-1") == ""


def test_a_cursor_that_is_older_than_what_is_kept_misses_something(
    client: redis.Redis, keys: Keys, events: Events
) -> None:
    for number in range(1, 11):
        client.xadd(keys.events, {"number": str(number)}, id=f"{number}-0")
    assert events.read_bounds().missed_after("0-0") == ""

    client.xtrim(keys.events, maxlen=4, approximate=False)

    bounds = events.read_bounds()
    assert (bounds.oldest, bounds.newest, bounds.gone) == ("7-0", "10-0", 6)
    assert bounds.missed_after("2-0") == bounds.missed_after("6-5") == "6 entries may be missing"
    assert bounds.missed_after("7-0") == bounds.missed_after("11-0") == ""


@pytest.mark.parametrize("text", ["", "$", "now", "1-", "-1", "1-2-3", "a-b"])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="is no cursor"):
        order_of(text)
