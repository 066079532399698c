"""A deleted snapshot's file goes with its record, whatever dies or is lost in between."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.image_removal import RemovalSweep
from taskvisor.model.errors import Busy, Contradiction, Retryable, StoreConflict
from taskvisor.model.ids import HostName, OperationId, image_id_for
from taskvisor.model.records import Image
from tests.support.fleet import KEYS, PERIOD_S, Fleet
from tests.support.images import ImageDesk
from tests.support.spies import DieAt, Moment, WorkerDied, watched
from tests.support.world import read_held, read_hosts

World = tuple[dict[str, Any], dict[str, Any]]
MOMENTS = [
    f"{when} {what}" for what in ("images.read_name", "disks.ensure_unpublished", "images.forget") for when in Moment
]


@pytest.fixture
def bare(fleet: Fleet) -> World:
    """A guest, and what the fleet holds before it is snapshotted."""
    fleet.build("web")
    return read_hosts(fleet), read_held(fleet)


@pytest.fixture
def desk(fleet: Fleet, bare: World) -> ImageDesk:
    """A snapshot of the guest, and its delete let in; the message to the host is in the post."""
    del bare
    fleet.ask("instance.snapshot", "snap", instance="web", image="gold")
    opened = ImageDesk(fleet)
    assert opened.delete("gold") == {}
    return opened


def require_gone(fleet: Fleet, desk: ImageDesk, bare: World) -> None:
    """Nothing of the image is left, the guest is as it was, and the caller is told."""
    assert (read_hosts(fleet), read_held(fleet)) == bare
    assert desk.shown() == ("SUCCESS", {"id": image_id_for(OperationId("snap")), "name": "gold", "state": "deleted"})
    assert desk.sweep() == 0


def going(fleet: Fleet) -> Image:
    found = fleet.store.catalog.read_image("gold")
    assert found is not None
    return found


def sweep_until_gone(fleet: Fleet, desk: ImageDesk) -> None:
    """At most two sweeps: the message was lost with whoever had it in hand."""
    desk.sent.clear()
    for _ in range(2):
        fleet.clock.sleep(PERIOD_S + 1.0)
        desk.sweep()
        desk.deliver_all()


def test_the_host_removes_the_file_and_the_image_is_gone(fleet: Fleet, desk: ImageDesk, bare: World) -> None:
    state, said = desk.shown() or ("", "")
    assert state == "RETRY"
    assert "image 'gold' is being deleted" in said

    desk.deliver_all()

    require_gone(fleet, desk, bare)


@pytest.mark.parametrize("number", range(1, len(MOMENTS) + 1), ids=MOMENTS)
def test_a_worker_that_dies_at_any_moment_leaves_it_to_the_sweep(
    fleet: Fleet, desk: ImageDesk, bare: World, number: int
) -> None:
    death = DieAt(number)
    desk.watch(death)
    with pytest.raises(WorkerDied):
        desk.deliver_all()
    assert death.died_at == MOMENTS[number - 1]

    desk.watch(lambda *_: None)
    sweep_until_gone(fleet, desk)

    require_gone(fleet, desk, bare)


def test_there_are_no_other_moments(fleet: Fleet, desk: ImageDesk) -> None:
    never = DieAt(0)
    desk.watch(never)

    desk.deliver_all()

    assert never.moments == len(MOMENTS)


@pytest.mark.parametrize("number", range(1, len(MOMENTS) + 1), ids=MOMENTS)
def test_a_second_message_at_any_moment_changes_nothing(
    fleet: Fleet, desk: ImageDesk, bare: World, number: int
) -> None:
    message, moments = desk.sent[0], list[str]()

    def twin(name: str, moment: Moment) -> None:
        moments.append(f"{moment} {name}")
        if len(moments) == number:
            desk.watch(lambda *_: None)
            desk.deliver(message)

    desk.watch(twin)
    desk.deliver_all()

    require_gone(fleet, desk, bare)


def test_a_late_message_leaves_the_next_image_of_that_name_alone(fleet: Fleet, desk: ImageDesk) -> None:
    late = desk.sent[0]
    desk.deliver_all()
    fleet.ask("instance.snapshot", "next", instance="web", image="gold")
    before = (read_hosts(fleet), read_held(fleet))

    assert desk.deliver(late) is False

    assert (read_hosts(fleet), read_held(fleet)) == before


def test_a_late_message_is_not_about_the_next_image_of_that_name_though_that_goes_too(
    fleet: Fleet, desk: ImageDesk
) -> None:
    late = desk.sent[0]
    desk.deliver_all()
    fleet.ask("instance.snapshot", "next", instance="web", image="gold")
    desk.delete("gold", request_id="del-next")

    assert desk.deliver(late) is False

    assert going(fleet).deletion is not None


def test_a_message_about_an_image_that_nobody_deletes_changes_nothing(fleet: Fleet, desk: ImageDesk) -> None:
    fleet.ask("instance.snapshot", "kept", instance="web", image="silver")
    silver = fleet.store.catalog.read_image("silver")
    assert silver is not None
    before = (read_hosts(fleet), read_held(fleet))

    assert desk.deliver(silver) is False

    assert (read_hosts(fleet), read_held(fleet)) == before


def test_a_message_to_a_host_that_has_not_the_file_changes_nothing(three_hosts: Fleet) -> None:
    three_hosts.build("web", host="h2")
    three_hosts.ask("instance.snapshot", "snap", instance="web", image="gold")
    desk = ImageDesk(three_hosts)
    desk.delete("gold")
    (message,) = desk.sent

    assert desk.deliver(replace(message, host=HostName("h1"))) is False

    assert going(three_hosts).host == "h2"


def test_a_file_that_is_gone_already_is_no_obstacle(fleet: Fleet, desk: ImageDesk, bare: World) -> None:
    fleet.hosts[going(fleet).host].ports.disks.ensure_unpublished(going(fleet).id)  # type: ignore[index]

    desk.deliver_all()

    require_gone(fleet, desk, bare)


@pytest.mark.parametrize("problem", [Retryable, Contradiction])
def test_a_host_that_cannot_remove_it_says_why_and_is_asked_again(
    fleet: Fleet, desk: ImageDesk, bare: World, problem: type[Exception]
) -> None:
    def refuse(name: str, moment: Moment) -> None:
        if name == "disks.ensure_unpublished" and moment is Moment.BEFORE:
            raise problem("cannot remove it: the file system is read-only")

    desk.watch(refuse)
    with pytest.raises(problem):
        desk.deliver_all()

    deletion = going(fleet).deletion
    assert deletion is not None
    assert deletion.problem == "cannot remove it: the file system is read-only"
    state, said = desk.shown() or ("", "")
    assert (state, "which could not yet: cannot remove it: the file system is read-only" in said) == ("RETRY", True)
    desk.watch(lambda *_: None)
    sweep_until_gone(fleet, desk)
    require_gone(fleet, desk, bare)


def test_a_record_that_moves_is_looked_at_again(fleet: Fleet, desk: ImageDesk, bare: World) -> None:
    """The sweep notes that it asks again, just when the host has removed the file."""

    def note(name: str, moment: Moment) -> None:
        if name == "images.forget" and moment is Moment.BEFORE and not desk.sent:
            fleet.clock.sleep(PERIOD_S + 1.0)
            desk.sweep()

    desk.watch(note)
    desk.deliver(desk.sent.pop())
    desk.watch(lambda *_: None)
    desk.deliver_all()

    require_gone(fleet, desk, bare)


def test_a_record_that_moves_all_the_time_is_left_to_the_sweep(fleet: Fleet, desk: ImageDesk, bare: World) -> None:
    def move(name: str, moment: Moment) -> None:
        if name == "images.forget" and moment is Moment.BEFORE:
            raise StoreConflict("it moved")

    desk.watch(move)
    with pytest.raises(Busy, match="image 'gold': its record moved 10 times"):
        desk.deliver_all()

    desk.watch(lambda *_: None)
    sweep_until_gone(fleet, desk)
    require_gone(fleet, desk, bare)


def test_a_request_that_comes_twice_asks_the_host_twice(fleet: Fleet, desk: ImageDesk, bare: World) -> None:
    """Its worker died between the record and the message."""
    desk.sent.clear()

    assert desk.delete("gold") == {}
    desk.deliver_all()

    require_gone(fleet, desk, bare)


def test_a_host_that_is_down_is_asked_when_it_is_back(fleet: Fleet, desk: ImageDesk, bare: World) -> None:
    desk.sent.clear()
    fleet.client.delete(KEYS.alive("h1"))
    fleet.clock.sleep(3600.0)
    assert desk.sweep() == 0

    fleet.note_alive("h1")

    assert desk.sweep() == 1
    desk.deliver_all()
    require_gone(fleet, desk, bare)


def test_it_is_asked_less_and_less_often(fleet: Fleet, desk: ImageDesk) -> None:
    asked_at, began = list[float](), fleet.clock.now()
    for _ in range(500):
        fleet.clock.sleep(PERIOD_S)
        if desk.sweep():
            asked_at.append((fleet.clock.now() - began) / PERIOD_S)

    pauses = [round(later - earlier) for earlier, later in zip([0.0, *asked_at], asked_at, strict=False)]
    assert pauses[:9] == [1, 2, 4, 8, 16, 32, 64, 64, 64]


def test_two_sweeps_at_once_ask_once(fleet: Fleet, desk: ImageDesk) -> None:
    """One is quicker, just when the other is about to note that it asks."""
    desk.sent.clear()
    fleet.clock.sleep(PERIOD_S + 1.0)

    def twin(name: str, moment: Moment) -> None:
        if name == "images.change" and moment is Moment.BEFORE and not desk.sent:
            assert desk.sweep() == 1

    slower = replace(fleet.store, images=watched(fleet.store.images, "images", twin))

    assert RemovalSweep(store=slower, send=desk.sent.append, now=fleet.clock.now, period_s=PERIOD_S).run() == 0
    assert len(desk.sent) == 1


def test_an_image_of_any_host_is_never_swept(fleet: Fleet, memory_dir: Path) -> None:
    desk = ImageDesk(fleet)
    desk.register("debian", "simulated://debian")
    fleet.clock.sleep(3600.0)

    assert desk.sweep() == 0
