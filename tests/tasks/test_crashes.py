"""The worker dies before and after every call to host or journal, in every flow that there is, with no per-step code."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tasks.build import BuildFlow
from tasks.door import BUILD, CHANGES
from tasks.flows import ALL_FLOWS
from taskvisor.flow.step import Flow
from taskvisor.model.errors import Refused
from taskvisor.model.states import InstanceAction, Phase
from tests.support.fleet import Fleet
from tests.support.harness import (
    OPERATION,
    Harness,
    deliver_or_die,
    end_of,
    recover,
)
from tests.support.spies import DieAt, Moment
from tests.support.world import read_held, read_hosts


@pytest.fixture(autouse=True, scope="module")
def no_logs() -> Iterator[None]:
    """Thousands of runs: each failure here names the moment, and the run can be made again alone."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


@pytest.fixture(params=ALL_FLOWS, ids=lambda flow: flow.name)
def harness(request: pytest.FixtureRequest, redis_url: str, memory_dir: Path) -> Harness:
    """A harness for each flow."""
    flow: Flow = request.param
    return Harness(flow, redis_url, memory_dir)


@pytest.fixture
def build(redis_url: str, memory_dir: Path) -> Harness:
    """A harness for the build."""
    return Harness(BuildFlow(), redis_url, memory_dir)


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


def test_a_worker_that_dies_again_and_again_gets_there_or_gives_up_cleanly(harness: Harness) -> None:
    """Its successor dies too, at the next moment after: as long as tries last, and then what was made is taken back."""
    unharmed = harness.unharmed()
    for number in range(1, 40, 4):
        fleet = harness.open_fleet()
        harness.begin(fleet)
        for _ in range(3):
            fleet.watch(DieAt(number))
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


def world_of(fleet: Fleet) -> tuple[object, object]:
    return read_hosts(fleet), read_held(fleet)


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


def test_a_build_that_is_refused_by_any_port_is_rolled_back_and_may_die_in_that_too(build: Harness) -> None:
    """Each call to a port refuses once; for the last of them, the worker also dies at every moment of the roll-back."""
    before = world_of(build.open_fleet())
    calls = _count_port_calls(build)
    assert calls >= 8
    for number in range(1, calls + 1):
        fleet = build.open_fleet()
        build.begin(fleet)
        fleet.watch(RefuseAt(number))
        fleet.post.deliver_all()
        assert fleet.read(OPERATION).phase is Phase.FAILED
        assert world_of(fleet) == before, f"refused at call {number}"
        fleet.close()

    for moment in range(1, 200):
        fleet, death = build.open_fleet(), DieAt(moment)
        build.begin(fleet)
        refusal = RefuseAt(calls, then=death)
        fleet.watch(refusal)
        died = deliver_or_die(fleet)
        recover(fleet)
        if moment > 1:  # at the first, it died before the refusal was written, and was asked again
            assert fleet.read(OPERATION).phase is Phase.FAILED, death.died_at
            assert world_of(fleet) == before, f"died {death.died_at} while it was rolled back"
        fleet.close()
        if not died:
            return
    pytest.fail("the roll-back never got through")


class RefuseAt:
    """The n-th call to a port is refused, once. What happens after that is told to `then`."""

    def __init__(self, number: int, then: DieAt | None = None) -> None:
        self._number = number
        self._then = then
        self.calls = 0

    def __call__(self, name: str, moment: Moment) -> None:
        if self.calls >= self._number:
            if self._then is not None:
                self._then(name, moment)
            return
        if moment is Moment.BEFORE and not name.startswith("journal."):
            self.calls += 1
            if self.calls == self._number:
                raise Refused(f"call {self._number} is refused")


def _count_port_calls(build: Harness) -> int:
    counter = RefuseAt(10_000)
    fleet = build.open_fleet()
    build.begin(fleet)
    fleet.watch(counter)
    fleet.post.deliver_all()
    fleet.close()
    return counter.calls


def test_every_message_may_come_twice(harness: Harness) -> None:
    unharmed = harness.unharmed()
    fleet = harness.open_fleet()
    harness.begin(fleet)
    while fleet.post.chains:
        first = fleet.post.chains[0]
        fleet.post.deliver(first)
        fleet.post.deliver(first)

    assert end_of(fleet) == unharmed
    fleet.close()


def test_every_message_ever_sent_may_come_late(harness: Harness) -> None:
    unharmed = harness.unharmed()
    fleet = harness.open_fleet()
    harness.begin(fleet)
    sent = []
    while fleet.post.chains:
        first = fleet.post.chains[0]
        sent.append(first)
        for late in reversed(sent):
            fleet.post.deliver(late)

    assert end_of(fleet) == unharmed
    fleet.close()


def test_any_one_message_may_be_lost(harness: Harness) -> None:
    unharmed = harness.unharmed()
    for lost in range(len(harness.flow.steps)):
        fleet = harness.open_fleet()
        harness.begin(fleet)
        for _ in range(lost):
            fleet.post.deliver(fleet.post.chains[0])
        fleet.post.chains.clear()
        _sweep_until_ended(fleet)
        assert end_of(fleet) == unharmed, f"message {lost} was lost"
        fleet.close()


def _sweep_until_ended(fleet: Fleet) -> None:
    for _ in range(3):
        fleet.clock.sleep(16.0)
        fleet.sweep.run()
        fleet.post.deliver_all()
        if fleet.read(OPERATION).phase.settled:
            return
    pytest.fail("two sweeps have not found what was lost")
