"""The fleet as one process sees it: the same as a look at every host, at the cost of what has changed."""

import random
from contextlib import suppress
from dataclasses import replace

import pytest
import redis

from taskvisor.model.aggregate import Aggregate
from taskvisor.model.change import Change, LeaseMove
from taskvisor.model.errors import CannotAsk, DoesNotFit
from taskvisor.model.ids import HostName
from taskvisor.model.states import Phase
from taskvisor.state import fleet_view
from taskvisor.state.admission import Admission
from taskvisor.state.aggregates import AggregateChanges, Aggregates
from taskvisor.state.fleet_view import ALIVE_S, REREAD_S, FleetView
from taskvisor.state.host_changes import HostChanges
from taskvisor.state.hosts import Hosts
from taskvisor.state.journal import RedisJournal
from taskvisor.state.keys import Keys
from taskvisor.state.writing import Outcome, Writer
from tests.support.clock import FakeClock
from tests.support.records import claim, instance, inventory, operation
from tests.tasks.test_budget import RoundTrips

H1, H2, H3 = (HostName(f"h{number}") for number in (1, 2, 3))
ANSWER = Outcome(key="answer", payload="{}", keep_s=60)


def _silent(**_: object) -> None:
    raise redis.ConnectionError("Redis is away")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def view(client: redis.Redis, keys: Keys, clock: FakeClock) -> FleetView:
    return FleetView(client, keys, clock=clock.now)


@pytest.fixture
def fleet(hosts: Hosts) -> Hosts:
    """Three hosts that have reported and live."""
    for host in (H2, H1, H3):
        hosts.write_inventory(host, inventory())
        hosts.note_alive(host, "first", keep_s=3600)
    return hosts


def test_it_sees_what_a_look_at_every_host_sees_whatever_happens(
    view: FleetView,
    fleet: Hosts,
    client: redis.Redis,
    writer: Writer,
    keys: Keys,
    admission: Admission,
    journal: RedisJournal,
) -> None:
    changes, aggregates = HostChanges(client, writer), Aggregates(client, keys)
    chance, writes = random.Random(7), AggregateChanges(client, writer)
    running = {}
    for turn in range(120):
        host = chance.choice((H1, H2, H3, HostName(f"new{turn % 5}")))
        known = host in {one.name for one in fleet.list_hosts()}
        match chance.randrange(7):
            case 0:
                fleet.write_inventory(host, inventory(vcpus=turn + 1))
                fleet.note_alive(host, "first", keep_s=3600)
            case 1 if known:
                changes.disable(host, f"turn {turn}", ANSWER)
            case 2 if known:
                changes.enable(host, ANSWER)
            case 3 if known:
                labels, seen = changes.read_labels(host)
                changes.label(host, {**labels, f"k{turn % 3}": "v"}, seen, ANSWER)
            case 4 if known:
                seen_aggregates = aggregates.read()
                former = seen_aggregates.find("a") or Aggregate(name="a")
                members = tuple(sorted({*former.hosts, host} if turn % 2 else {*former.hosts} - {host}))
                writes.write(replace(former, hosts=members), seen_aggregates, ANSWER)
            case 5:
                guest = instance(f"web{turn}", f"build{turn}", host=host, ports=())
                accepted = operation(f"build{turn}", guest)
                with suppress(DoesNotFit):  # it is disabled by now
                    admission.admit_build(accepted, guest, claim(guest))
                    running[turn] = (accepted, guest)
            case 6 if running:
                accepted, guest = running.pop(chance.choice(list(running)))
                ended = replace(accepted, phase=Phase.FAILED, revision=accepted.revision + 1, settled_at=2.0)
                journal.commit(
                    Change(before=accepted, after=ended, lease=LeaseMove.RELEASE, instance=guest, forget_instance=True)
                )

        assert view.look() == fleet.list_hosts(), f"turn {turn}"


def test_a_host_that_has_not_changed_is_the_very_object(view: FleetView, fleet: Hosts, admission: Admission) -> None:
    before = view.look()
    guest = instance(host=H2, ports=())
    admission.admit_build(operation("build-web", guest), guest, claim(guest))

    after = view.look()

    assert [one is other for one, other in zip(before, after, strict=True)] == [True, False, True]
    assert (after[1].instances, after[1].used.memory_mib) == (1, 64)
    assert after[1].inventory is before[1].inventory  # what was parsed once is not parsed again


def test_a_look_costs_one_round_trip_and_two_where_heartbeats_are_looked_at_too(
    view: FleetView,
    fleet: Hosts,
    admission: Admission,
    client: redis.Redis,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    view.look()
    trips = RoundTrips(client, monkeypatch)
    view.look()
    assert trips.count == 1

    guest = instance(host=H2, ports=())
    admission.admit_build(operation("build-web", guest), guest, claim(guest))
    trips.count = 0
    assert view.look()[1].instances == 1
    assert trips.count == 1

    clock.sleep(ALIVE_S)
    view.look()
    assert trips.count == 3


def test_many_that_moved_at_once_are_read_apart_from_the_question_which_they_are(
    view: FleetView, fleet: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    view.look()
    monkeypatch.setattr(fleet_view, "MOVED_AT_ONCE", 2)
    for host in (H1, H2, H3):
        fleet.write_inventory(host, inventory(vcpus=9))

    assert view.look() == fleet.list_hosts()


def test_what_a_look_that_failed_half_way_did_not_read_is_read_by_the_next(
    view: FleetView, fleet: Hosts, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    view.look()
    monkeypatch.setattr(fleet_view, "MOVED_AT_ONCE", 2)
    for host in (H1, H2, H3):
        fleet.write_inventory(host, inventory(vcpus=9))

    with monkeypatch.context() as silence:
        silence.setattr(client, "pipeline", _silent)
        with pytest.raises(CannotAsk):
            view.look()

    assert view.look() == fleet.list_hosts()


def test_who_was_heard_by_the_latest_look_is_not_asked_again(view: FleetView, fleet: Hosts, clock: FakeClock) -> None:
    view.look()
    fleet.note_gone(H2, "first")
    assert view.hears(H2)

    clock.sleep(ALIVE_S / 2)
    view.look()

    assert (view.hears(H2), view.hears(H1), view.hears(HostName("h9"))) == (False, True, False)


def test_a_host_that_falls_silent_is_seen_to_be_down_a_second_later(
    view: FleetView, fleet: Hosts, clock: FakeClock
) -> None:
    view.look()
    fleet.note_gone(H2, "first")

    clock.sleep(ALIVE_S)

    assert [host.up for host in view.look()] == [True, False, True]


def test_what_a_writer_did_not_number_is_seen_within_a_minute(
    view: FleetView, fleet: Hosts, clock: FakeClock, client: redis.Redis, keys: Keys
) -> None:
    view.look()
    client.hset(keys.host(H2), "disabled", "by hand")
    clock.sleep(REREAD_S + 1)

    assert [host.disabled_reason for host in view.look()] == [None, "by hand", None]


def test_a_host_that_was_taken_out_of_the_store_is_gone(
    view: FleetView, fleet: Hosts, client: redis.Redis, keys: Keys
) -> None:
    view.look()
    client.srem(keys.hosts, H2)
    client.delete(keys.host(H2))

    assert [host.name for host in view.look()] == [H1, H3]


def test_a_store_that_was_emptied_and_filled_anew_is_read_anew(
    view: FleetView, fleet: Hosts, client: redis.Redis
) -> None:
    view.look()
    client.flushdb()
    fleet.write_inventory(H2, inventory(vcpus=3))

    (host,) = view.look()

    assert (host.name, host.up, host.inventory) == (H2, False, inventory(vcpus=3))


def test_what_cannot_be_read_of_one_host_hides_no_other(
    client: redis.Redis, keys: Keys, fleet: Hosts, clock: FakeClock
) -> None:
    told: list[str] = []
    client.hset(keys.host(H2), "inventory", '{"total":NaN}')
    client.set(keys.used(H3), "no hash")
    client.hset(keys.host(H1), mapping={"failed_builds": "many", "labels": "["})
    view = FleetView(client, keys, lambda problem: told.append(str(problem)), clock.now)

    seen = view.look()

    assert [(host.name, host.inventory is None) for host in seen] == [(H1, False), (H2, True), (H3, True)]
    assert (seen[0].failed_builds, seen[0].labels) == (0, {})
    assert sorted(sentence.partition(" h")[0] for sentence in told) == [
        "host h3 can't be read"[:4],
        "inventory of",
        "labels of",
    ]
