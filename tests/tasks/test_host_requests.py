"""Hosts that are called dead, and hosts that are forgotten."""

from collections.abc import Callable

import pytest

from taskvisor.model.errors import DoesNotFit, NoCapacity, Refused
from taskvisor.model.host_mark import HostAct
from taskvisor.model.ids import HostName
from taskvisor.state.host_events import HostEvents
from taskvisor.state.survey import Survey
from tests.support.fleet import KEYS, Fleet
from tests.support.host_desk import HostDesk
from tests.support.records import claim, image, instance, operation
from tests.support.world import read_everything, read_hosts

H1 = HostName("h1")


@pytest.fixture
def desk(fleet: Fleet) -> HostDesk:
    return HostDesk(fleet)


@pytest.fixture
def dead(desk: HostDesk) -> HostDesk:
    """The host is silent, and was called dead."""
    desk.fleet.client.delete(KEYS.alive("h1"))
    desk.ask("force_down", host="h1", reason="burnt down")
    return desk


def test_a_host_that_is_forced_down_takes_nothing_whatever_its_heartbeat_says(desk: HostDesk, fleet: Fleet) -> None:
    told = desk.ask("force_down", host="h1", reason="no power", by="ann")

    assert (told["forced_down"]["reason"], told["forced_down"]["by"]) == ("no power", "ann")
    assert desk.host().up
    with pytest.raises(NoCapacity, match="h1: it was forced down by ann: no power"):
        fleet.build("late")


def test_a_claim_by_who_looked_before_it_was_forced_down_is_refused_by_the_store(desk: HostDesk, fleet: Fleet) -> None:
    guest = instance("late", "build-late", ports=())
    desk.ask("force_down", host="h1", reason="no power")

    with pytest.raises(DoesNotFit, match="host h1: it was forced down"):
        fleet.store.admission.admit_build(operation("build-late", guest), guest, claim(guest))


def test_nothing_of_its_guests_is_touched_or_concluded(desk: HostDesk, fleet: Fleet) -> None:
    fleet.build("a")
    hosts, record = read_hosts(fleet), fleet.instance("a")

    desk.ask("force_down", host="h1", reason="no power")
    fleet.sweep.run()

    assert (read_hosts(fleet), fleet.instance("a")) == (hosts, record)


def test_its_heartbeat_is_believed_again_once_that_is_said(desk: HostDesk, fleet: Fleet) -> None:
    desk.ask("force_down", host="h1", reason="no power", by="ann")
    assert desk.ask("force_down", host="h1", reason="again")["already"] is True

    assert desk.ask("force_up", host="h1", by="bob") == {"host": "h1", "forced_down": None}

    assert desk.ask("force_up", host="h1")["already"] is True
    assert fleet.build("a").phase.settled
    events = HostEvents(fleet.client, KEYS).list_of(H1)
    assert [(one.act, one.by) for one in events] == [(HostAct.FORCE_UP, "bob"), (HostAct.FORCE_DOWN, "ann")]


def test_a_mark_that_cannot_be_read_holds(desk: HostDesk, fleet: Fleet) -> None:
    fleet.client.hset(KEYS.host("h1"), "forced_down", "{")

    with pytest.raises(NoCapacity, match="forced down"):
        fleet.build("late")
    assert "host:h1" in Survey(fleet.client, KEYS).read(1.0).unreadable


def test_a_dead_host_is_forgotten_with_every_key_of_it(dead: HostDesk, fleet: Fleet) -> None:
    fleet.client.lpush("host.h1", "a message that no operation needs")
    fleet.client.lpush("host.h1.control.dead", "rubbish")
    fleet.client.hset(KEYS.used("h1"), "vcpus", 0)

    told = dead.ask("remove", host="h1", reason="burnt down", by="ann")

    assert told == {"host": "h1", "state": "removed", "messages": 2}
    assert fleet.store.hosts.list_hosts() == ()
    left = [key for key in read_everything(fleet.client) if "h1" in key]
    assert left == []
    last = fleet.events.read_after("0", wait_s=0.1)[-1]
    assert (last.flow, last.host, last.by, last.reason) == ("host.remove", "h1", "ann", "burnt down")


def test_a_host_that_was_forgotten_is_known_again_when_it_reports(dead: HostDesk, fleet: Fleet) -> None:
    dead.ask("remove", host="h1", reason="burnt down")
    assert dead.ask("remove", host="h1", reason="burnt down")["already"] is True

    fleet.note_alive("h1")
    fleet.hosts[H1].report.track()

    assert (dead.host().forced_down, dead.host().up) == (None, True)
    assert fleet.build("a").phase.settled


def _speaks(fleet: Fleet) -> None:
    fleet.note_alive("h1")


def _takes_newcomers(fleet: Fleet) -> None:
    fleet.client.hdel(KEYS.host("h1"), "forced_down")


def _has_an_instance(fleet: Fleet) -> None:
    fleet.client.set(KEYS.instance("i"), "{")
    fleet.client.sadd(KEYS.instances_on("h1"), "i")


def _has_a_claim(fleet: Fleet) -> None:
    fleet.client.hset(KEYS.claims("h1"), "i", '{"vcpus":1}')


def _has_an_operation(fleet: Fleet) -> None:
    fleet.client.sadd(KEYS.operations_on("h1"), "the-operation")


def _has_an_image(fleet: Fleet) -> None:
    from taskvisor.state.codec import encode

    fleet.client.set(KEYS.image("gold"), encode(image()))
    fleet.client.hset(KEYS.images, "gold", image().id)


def _has_a_request_in_hand(fleet: Fleet) -> None:
    fleet.client.lpush("compute.inflight.h1", "a request")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (_speaks, "a node of it speaks; stop its worker"),
        (_takes_newcomers, "it takes new instances; `taskvisor host drain h1` first"),
        (_has_an_instance, "it has 1 instance (unreadable); delete them"),
        (_has_a_claim, "it has 1 claims, 0 of instances"),
        (_has_an_operation, "1 unsettled operation (the-operation) run there"),
        (_has_an_image, "the files of 1 image (gold) lie there only"),
        (_has_a_request_in_hand, "it has 1 requests in hand; beat's sweep takes them back"),
    ],
)
def test_a_host_that_something_needs_is_not_forgotten(
    dead: HostDesk, fleet: Fleet, make: Callable[[Fleet], None], sentence: str
) -> None:
    make(fleet)
    before = read_everything(fleet.client)

    with pytest.raises(Refused) as refused:
        dead.ask("remove", host="h1", reason="burnt down")

    assert sentence in str(refused.value)
    assert read_everything(fleet.client) == before


def test_all_that_holds_a_host_is_told_at_once(desk: HostDesk, fleet: Fleet) -> None:
    for number in range(7):
        guest = instance(f"guest-{number}", f"build-{number}", ports=())
        fleet.store.admission.admit_build(operation(f"build-{number}", guest), guest, claim(guest))

    with pytest.raises(Refused) as refused:
        desk.ask("remove", host="h1", reason="burnt down")

    sentence = str(refused.value)
    assert "it has 7 instances (guest-0, guest-1, guest-2, guest-3, guest-4 and 2 more); delete them" in sentence
    assert sentence.count(";") >= 4


def test_what_comes_between_the_look_and_the_end_holds_the_host(dead: HostDesk, fleet: Fleet) -> None:
    """The transaction asks anew: who speaks in that moment is not forgotten."""
    real, looks = fleet.store.host_operations.read_traces, []

    def read_traces(host: HostName) -> object:
        traces = real(host)
        looks.append(traces)
        if len(looks) == 2:
            fleet.note_alive("h1")
        return traces

    fleet.store.host_operations.read_traces = read_traces  # type: ignore[method-assign, assignment]

    with pytest.raises(Refused, match="a node of it speaks"):
        dead.ask("remove", host="h1", reason="burnt down")
    assert fleet.client.exists(KEYS.host("h1"))
