"""Every step of every flow refuses, or kills its worker, and the roll-back dies at every moment: the world is as it was before.

No step is known here: a step is refused by a spy around it, and what the world is to be like is what it was.
"""

from collections.abc import Callable, Iterator

import pytest

from tasks.flows import ALL_FLOWS
from taskvisor.model.errors import DoesNotFit, Refused
from taskvisor.model.states import Direction, InstanceAction, Phase
from tests.support.crash_fixtures import harness, no_logs
from tests.support.fleet import Fleet
from tests.support.harness import (
    MOMENTS_LIMIT,
    OPERATION,
    End,
    Harness,
    deliver_or_die,
    end_of,
    has_own_undo,
    mend,
    recover,
    sweep_until_ended,
    takes_back,
    watch_all,
)
from tests.support.spies import DieAt, Moment, RaiseAt, RefuseAt, WorkerDied, with_spied_step
from tests.support.world import World, read_held, read_hosts, world_of

__all__ = ["harness", "no_logs"]

pytestmark = pytest.mark.crash

DEATHS_LIMIT = 20


@pytest.fixture
def before(harness: Harness) -> World:
    """The world before the request."""
    fleet = harness.open_fleet()
    world = world_of(fleet)
    fleet.close()
    return world


@pytest.fixture
def unharmed(harness: Harness) -> End:
    """How the flow ends when nothing happens to it."""
    return harness.unharmed()


def require_taken_back(harness: Harness, fleet: Fleet, before: World, what: str) -> None:
    """It has FAILED, and what it held and made is given back."""
    operation = fleet.read(OPERATION)
    assert operation.phase is Phase.FAILED, what
    assert read_held(fleet) == before.held_after(operation, harness.flow), what
    if takes_back(harness.flow):
        assert read_hosts(fleet) == before.hosts, what


def require_done_when_asked_again(harness: Harness, fleet: Fleet, unharmed: End, what: str) -> None:
    """What stopped it is mended, and the same request reaches the end that it would have had."""
    mend(fleet)
    fleet.post.launch(fleet.door.retry(OPERATION))
    fleet.post.deliver_all()
    if harness.flow.action is InstanceAction.CREATE:  # it is given other addresses than the first time
        assert fleet.read(OPERATION).phase is Phase.SUCCEEDED, what
        return
    end = end_of(fleet)
    assert end.but_for_facts == unharmed.but_for_facts, what


def each_step(harness: Harness) -> Iterator[str]:
    return (step.name for step in harness.flow.steps)


def test_a_refusal_before_or_after_any_call_to_a_port_is_taken_back(
    harness: Harness, before: World, unharmed: End
) -> None:
    for number in range(1, MOMENTS_LIMIT):
        fleet, refusal = harness.open_fleet(), RefuseAt(number, Refused)
        harness.begin(fleet)
        fleet.watch(refusal)
        fleet.post.deliver_all()
        if refusal.refused_at is not None:
            require_taken_back(harness, fleet, before, f"refused {refusal.refused_at}, moment {number}")
            require_done_when_asked_again(harness, fleet, unharmed, f"asked again, refused {refusal.refused_at}")
        fleet.close()
        if refusal.refused_at is None:
            break

    assert number > 2  # there was a call


@pytest.mark.parametrize("moment", Moment)
def test_a_step_that_is_refused_is_taken_back_with_all_before_it(
    harness: Harness, before: World, unharmed: End, moment: Moment
) -> None:
    for name in each_step(harness):
        refusal = RaiseAt(moment, lambda: Refused("no"))
        fleet = harness.open_fleet(with_spied_step(harness.flow, name, Direction.DO, refusal))
        harness.begin(fleet)
        fleet.post.deliver_all()
        assert refusal.raised == 1
        require_taken_back(harness, fleet, before, f"{name} was refused {moment} its effect")
        require_done_when_asked_again(harness, fleet, unharmed, f"asked again, {name} was refused {moment} its effect")
        fleet.close()


class DieOnceItRefused:
    """Raises WorkerDied at the n-th moment after the refusal."""

    def __init__(self, refusal: RaiseAt, death: DieAt) -> None:
        self._refusal = refusal
        self._death = death

    def __call__(self, name: str, moment: Moment) -> None:
        if self._refusal.raised:
            self._death(name, moment)


Recovery = Callable[[Fleet, int], None]


def restarted(fleet: Fleet, number: int) -> None:
    del number
    recover(fleet)


def restarted_twice(fleet: Fleet, number: int) -> None:
    """The successor dies too, some moments later."""
    fleet.restart()
    watch_all(fleet, DieAt(1 + number % 7))
    if deliver_or_die(fleet):
        fleet.restart(incarnation="third")
        fleet.post.deliver_all()


def swept(fleet: Fleet, number: int) -> None:
    del number
    sweep_until_ended(fleet)


@pytest.mark.parametrize("recovery", [restarted, restarted_twice, swept])
def test_a_roll_back_from_any_step_that_dies_anywhere_gets_to_its_end(
    harness: Harness, before: World, recovery: Recovery
) -> None:
    kinds = (Refused, DoesNotFit) if harness.flow.reschedules else (Refused,)
    for name in each_step(harness):
        for kind in kinds:
            moments = _die_everywhere_in_roll_back(harness, before, name, kind, recovery)
            assert moments >= 3, f"{name}: the refusal is written, and the end"


def _die_everywhere_in_roll_back(
    harness: Harness, before: World, name: str, kind: type[Exception], recovery: Recovery
) -> int:
    for number in range(1, MOMENTS_LIMIT):
        refusal, death = RaiseAt(Moment.AFTER, lambda: kind("no")), DieAt(number)
        fleet = harness.open_fleet(with_spied_step(harness.flow, name, Direction.DO, refusal))
        harness.begin(fleet)
        watch_all(fleet, DieOnceItRefused(refusal, death))
        died = deliver_or_die(fleet)
        recovery(fleet, number)
        what = f"{name}: {kind.__name__}, died {death.died_at} (moment {number})"
        require_taken_back(harness, fleet, before, what)
        fleet.close()
        if not died:
            return number
    raise AssertionError(f"the roll-back from {name} has more than {MOMENTS_LIMIT} moments")


def die_again_and_again(fleet: Fleet) -> int:
    """Each death is followed by a new start, until nobody dies. Returns how many died."""
    for deaths in range(DEATHS_LIMIT):
        if not deliver_or_die(fleet):
            return deaths
        fleet.restart(incarnation=f"after {deaths + 1} deaths")
    raise AssertionError(f"{DEATHS_LIMIT} workers died, and nobody gave up")


@pytest.mark.parametrize("moment", Moment)
def test_a_step_that_always_kills_its_worker_is_given_up_and_taken_back(
    harness: Harness, before: World, unharmed: End, moment: Moment
) -> None:
    for step in harness.flow.steps:
        killer = with_spied_step(harness.flow, step.name, Direction.DO, RaiseAt(moment, lambda: WorkerDied("again")))
        fleet = harness.open_fleet(killer)
        harness.begin(fleet)
        assert die_again_and_again(fleet) == step.tries, step.name
        failure = fleet.read(OPERATION).failure
        assert failure is not None
        assert (failure.code, failure.step) == ("OutOfTries", step.name)
        require_taken_back(harness, fleet, before, f"{step.name} killed its worker {moment} its effect")
        require_done_when_asked_again(harness, fleet, unharmed, f"asked again after {step.name} killed its worker")
        fleet.close()


@pytest.mark.parametrize("moment", Moment)
def test_an_undo_that_always_kills_its_worker_ends_stuck_and_goes_on_when_it_is_mended(
    harness: Harness, before: World, moment: Moment
) -> None:
    flow = harness.flow
    for step in filter(has_own_undo, flow.steps):
        refused = with_spied_step(flow, flow.steps[-1].name, Direction.DO, RaiseAt(Moment.AFTER, lambda: Refused("no")))
        killer = RaiseAt(moment, lambda: WorkerDied("again"))
        fleet = harness.open_fleet(with_spied_step(refused, step.name, Direction.UNDO, killer))
        instance_id = harness.begin(fleet).instance_id
        assert die_again_and_again(fleet) == step.tries, step.name
        stuck, held = fleet.read(OPERATION), read_held(fleet)
        assert (stuck.phase, stuck.failure and stuck.failure.step) == (Phase.STUCK, step.name)
        assert OPERATION in held["ops:stuck"]
        assert held[f"lease:{instance_id}"] == {"op": OPERATION}, "the lease stays"
        mend(fleet)
        fleet.post.launch(fleet.door.retry(OPERATION))
        fleet.post.deliver_all()
        require_taken_back(harness, fleet, before, f"{step.name}.undo was mended")
        fleet.close()


def test_some_flows_have_steps_that_take_back() -> None:
    """Else the tests above would say nothing of an undo."""
    assert sum(has_own_undo(step) for flow in ALL_FLOWS for step in flow.steps) >= 5
