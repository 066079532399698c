"""The worker dies before and after every call to host or journal and at every hop, in every flow, with no per-step code."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.build import BuildFlow
from tasks.door import BUILD, CHANGES
from tasks.flows import ALL_FLOWS
from taskvisor.model.states import InstanceAction, Phase
from tests.support.crash_fixtures import harness, no_logs
from tests.support.fleet import Fleet
from tests.support.harness import (
    OPERATION,
    Harness,
    deliver_or_die,
    end_of,
    recover,
    sweep_until_ended,
    watch_all,
)
from tests.support.spies import DieAt, WorkerDied, watched
from tests.support.world import world_of

__all__ = ["harness", "no_logs"]

pytestmark = pytest.mark.crash


@pytest.fixture
def build(redis_url: str, memory_dir: Path) -> Iterator[Harness]:
    """A harness for the build."""
    opened = Harness(BuildFlow(), redis_url, memory_dir)
    yield opened
    opened.close()


def test_every_flow_can_be_asked_for() -> None:
    assert {flow.name for flow in ALL_FLOWS} == {BUILD, *CHANGES}


def test_a_worker_that_dies_anywhere_is_carried_on_to_the_unharmed_end(harness: Harness) -> None:
    unharmed = harness.unharmed()

    def then(fleet: Fleet, death: DieAt) -> None:
        recover(fleet)
        assert end_of(fleet) == unharmed, f"after it died {death.died_at}"

    moments = harness.die_everywhere(then)

    assert moments >= 2 * 3 * len(harness.flow.steps)  # a look and two writes for each step, before and after
    assert unharmed.outcome["phase"] == "succeeded"


def test_a_worker_that_dies_anywhere_is_carried_on_by_the_sweep_alone(harness: Harness) -> None:
    """Its node lives and says nothing: a pool child died and nobody saw it, or the message was lost."""
    unharmed = harness.unharmed()

    def then(fleet: Fleet, death: DieAt) -> None:
        sweep_until_ended(fleet)
        assert end_of(fleet).but_for_facts == unharmed.but_for_facts, f"after it died {death.died_at}"

    assert harness.die_everywhere(then) >= 2 * 3 * len(harness.flow.steps)


def test_a_door_that_dies_anywhere_is_asked_again_and_the_end_is_the_unharmed_one(harness: Harness) -> None:
    """The node that lets requests in dies; the request was not acknowledged, so it comes again under its id."""
    unharmed = harness.unharmed()
    for number in range(1, 100):
        fleet, death = harness.open_fleet(), DieAt(number)
        real, store = fleet.door, fleet.store
        parts = {name: watched(getattr(store, name), name, death) for name in ("catalog", "addresses", "admission")}
        fleet.door = replace(real, store=replace(store, **parts))
        with suppress(WorkerDied):
            harness.begin(fleet)
        fleet.post.chains.clear()  # what it had let in, it had not sent
        fleet.door = real
        harness.begin(fleet)
        fleet.post.deliver_all()
        assert end_of(fleet) == unharmed, f"the door died {death.died_at}"
        fleet.close()
        if death.died_at is None:
            break
    assert number > 4  # a look and a write, before and after


def test_a_worker_that_dies_again_and_again_gets_there_or_gives_up_cleanly(harness: Harness) -> None:
    """Its successor dies too, at the next moment after: as long as tries last, and then what was made is taken back."""
    unharmed = harness.unharmed()
    for number in range(1, 60, 3):
        fleet = harness.open_fleet()
        harness.begin(fleet)
        for _ in range(3):
            watch_all(fleet, DieAt(number))
            if not deliver_or_die(fleet):
                break
            fleet.restart()
        fleet.restart("h1", incarnation="unharmed")
        fleet.post.deliver_all()
        end = end_of(fleet)
        fleet.close()
        if end.outcome["phase"] != "failed":
            assert end == unharmed, number
        else:
            assert end.outcome["failure"] == "OutOfTries", number
            assert not [name for name in end.held if name.startswith(("lease:", "ops:", "allocating"))], number


def test_a_build_that_died_anywhere_and_is_cancelled_leaves_nothing(build: Harness) -> None:
    before = world_of(build.open_fleet())
    unharmed = build.unharmed()

    def then(fleet: Fleet, death: DieAt) -> None:
        fleet.door.cancel(OPERATION)
        recover(fleet)
        if fleet.read(OPERATION).phase is Phase.SUCCEEDED:
            assert end_of(fleet) == unharmed, death.died_at
            finished.append(death.died_at)
        else:
            assert fleet.read(OPERATION).phase is Phase.CANCELLED, death.died_at
            assert world_of(fleet) == before, f"after it died {death.died_at}"

    finished: list[str | None] = []
    moments = build.die_everywhere(then)

    assert moments >= 30
    assert finished == ["after journal.commit", None]  # its very last write was its end


def test_a_build_that_died_anywhere_and_is_deleted_leaves_nothing(build: Harness) -> None:
    before = world_of(build.open_fleet())

    def then(fleet: Fleet, death: DieAt) -> None:
        fleet.begin("instance.delete", "the-delete", instance="web")
        recover(fleet)
        assert fleet.read("the-delete").phase is Phase.SUCCEEDED, death.died_at
        assert world_of(fleet) == before, f"after it died {death.died_at}"

    assert build.die_everywhere(then) >= 30


def test_an_operation_that_died_anywhere_and_is_cancelled_ends(harness: Harness) -> None:
    if harness.flow.preempts or harness.flow.action is InstanceAction.CREATE:
        return  # a delete cannot be cancelled, and of a build much more is true: see above
    unharmed = harness.unharmed()

    def then(fleet: Fleet, death: DieAt) -> None:
        fleet.door.cancel(OPERATION)
        recover(fleet)
        end = end_of(fleet)
        if end.outcome["phase"] == "cancelled":
            assert not [name for name in end.held if name.startswith(("lease:", "ops:", "allocating"))], death.died_at
            assert ("images" in end.held) is False
            assert end.outcome["failure"] == "Cancelled"
        else:
            assert end == unharmed, death.died_at

    harness.die_everywhere(then)
