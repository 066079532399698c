"""Workers that die in the midst, and what their successors make of the journal."""

import pytest

from taskvisor.flow.step import StepContext
from taskvisor.model.errors import (
    Refused,
)
from taskvisor.model.states import Mark, Phase
from tests.flow.conftest import OpenBench
from tests.flow.toys import Bench, Script
from tests.support.spies import DieAt, WorkerDied


def test_a_step_whose_worker_died_is_done_again(bench: Bench, script: Script) -> None:
    script.acts = {"b": [died]}
    bench.accept()
    bench.deliver(messages=1)
    with pytest.raises(WorkerDied):
        bench.deliver(messages=1)
    assert bench.op().step("b").do is Mark.STARTED

    bench.fleet.restart()
    bench.fleet.post.deliver_all()

    op = bench.op()
    assert (op.phase, script.effects) == (Phase.SUCCEEDED, ["a", "b", "b", "c"])
    assert op.step("b").tries == 2


def test_a_step_that_kills_its_worker_each_time_is_given_up_and_taken_back(bench: Bench, script: Script) -> None:
    script.always = {"b": died}
    bench.accept()

    deliver_through_deaths(bench)

    op = bench.op()
    assert (op.phase, script.effects) == (Phase.FAILED, ["a", "b", "b", "b", "-b", "-a"])
    assert op.failure is not None
    assert op.failure.code == "OutOfTries"
    assert "began 3 times and its worker died" in op.failure.message


def test_an_undo_that_kills_its_worker_each_time_is_stuck(bench: Bench, script: Script) -> None:
    script.acts = {"b": [Refused("no")]}
    script.always = {"-b": died}
    bench.accept()

    deliver_through_deaths(bench)

    assert (bench.op().phase, script.effects) == (Phase.STUCK, ["a", "b", "-b", "-b", "-b"])
    assert bench.claims() == 1


def test_a_worker_may_die_at_every_call_to_the_journal(open_bench: OpenBench, script: Script) -> None:
    bench = open_bench()
    for number in range(1, 100):
        script.effects.clear()
        name, death = f"op-{number}", DieAt(number)
        bench.accept(name)
        bench.fleet.watch(death)
        deliver_through_deaths(bench)
        assert bench.op(name).phase is Phase.SUCCEEDED, death.died_at
        assert bench.op(name).facts.keys() == {"a", "b", "c"}
        if death.died_at is None:
            break
    else:
        pytest.fail("it never got through")
    assert script.effects == ["a", "b", "c"]


def died(_: StepContext) -> None:
    raise WorkerDied("in the step")


def deliver_through_deaths(bench: Bench, limit: int = 20) -> None:
    """Deliver until nothing is in the post; whenever the worker dies its messages are lost and its node starts anew."""
    for _ in range(limit):
        try:
            bench.fleet.post.deliver_all()
        except WorkerDied:
            bench.fleet.post.chains.clear()
            bench.fleet.restart()
        else:
            return
    pytest.fail(f"it died {limit} times")
