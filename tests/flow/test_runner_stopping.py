"""Operations that are stopped: by a caller's wish, or by another operation that wants their instance."""

import pytest

from taskvisor.flow.runner import PROGRESS_EVERY_S
from taskvisor.flow.step import StepContext
from taskvisor.model.errors import (
    Contradiction,
    Refused,
    Retryable,
)
from taskvisor.model.states import Mark, Phase
from tests.flow.conftest import OpenBench
from tests.flow.toys import Bench, Script, toy_step
from tests.support.world import read_everything


@pytest.mark.parametrize("done", [0, 1, 2])
def test_it_turns_round_at_each_boundary(bench: Bench, script: Script, done: int) -> None:
    bench.accept()
    bench.deliver(messages=done)
    bench.wish_away()

    bench.fleet.post.deliver_all()

    op = bench.op()
    assert (op.phase, op.failure and op.failure.code) == (Phase.CANCELLED, "Cancelled")
    assert script.effects == ["a", "b", "c"][:done] + ["-a", "-b", "-c"][:done][::-1]
    assert (bench.claims(), script.made) == (0, set())


@pytest.mark.parametrize("step", ["a", "b"])
def test_while_a_step_runs_it_turns_round_after_it(bench: Bench, script: Script, step: str) -> None:
    script.acts = {step: [lambda _: bench.wish_away()]}

    op = bench.run_all()

    assert op.phase is Phase.CANCELLED
    assert script.effects[-1] == "-a"
    assert f"-{step}" in script.effects
    assert op.timeline[len(script.effects) // 2 - 1].outcome == "done"


def test_while_the_last_step_runs_it_comes_too_late(bench: Bench, script: Script) -> None:
    script.acts = {"c": [lambda _: bench.wish_away()]}

    op = bench.run_all()

    assert (op.phase, op.cancel_requested) == (Phase.SUCCEEDED, True)


@pytest.mark.parametrize("step", ["a", "c"])
def test_a_step_that_tells_its_progress_is_stopped_in_the_midst(bench: Bench, script: Script, step: str) -> None:
    def work(ctx: StepContext) -> None:
        ctx.progress(1, 100)
        bench.wish_away()
        bench.fleet.clock.sleep(PROGRESS_EVERY_S)
        ctx.progress(2, 100)
        pytest.fail("it went on")

    script.acts = {step: [work]}

    op = bench.run_all()

    assert (op.phase, op.failure and op.failure.message) == (Phase.CANCELLED, "cancelled on request")
    assert (script.effects.count(step), script.made, bench.claims()) == (1, set(), 0)
    stopped = next(entry for entry in op.timeline if entry.outcome == "Cancelled")
    assert (stopped.step, stopped.message) == (step, f"{step} was told to stop after 2 bytes")


def test_a_step_that_is_stopped_in_the_midst_hands_over(bench: Bench, script: Script) -> None:
    def work(ctx: StepContext) -> None:
        bench.preempt()
        ctx.progress(1, 100)
        pytest.fail("it went on")

    script.acts = {"b": [work]}

    op = bench.run_all()

    assert (op.phase, bench.op("end-op").phase) == (Phase.CANCELLED, Phase.SUCCEEDED)


def test_a_roll_back_that_tells_its_progress_is_not_stopped(bench: Bench, script: Script) -> None:
    def work(ctx: StepContext) -> None:
        bench.wish_away()
        ctx.progress(1, 100)

    script.acts = {"c": [Refused("no")], "-b": [work]}

    assert (bench.run_all().phase, script.effects.count("-b")) == (Phase.FAILED, 1)


def test_a_pause_between_two_tries_is_cut_short(bench: Bench, script: Script) -> None:
    script.acts = {"b": [Retryable("later", delay_s=60.0)]}
    bench.accept()
    bench.deliver(messages=2)
    paused_at = bench.fleet.clock.now()

    bench.wish_away()
    bench.fleet.post.launch(bench.op())
    bench.deliver(messages=1)

    assert (bench.op().phase, bench.fleet.clock.now()) == (Phase.ROLLING_BACK, paused_at)
    bench.fleet.post.deliver_all()
    assert (bench.op().phase, script.made) == (Phase.CANCELLED, set())


def test_a_wish_noted_while_it_rolls_back_changes_nothing(bench: Bench, script: Script) -> None:
    script.acts = {"c": [Refused("no")], "-b": [lambda _: bench.wish_away()]}

    op = bench.run_all()

    assert (op.phase, script.effects) == (Phase.FAILED, ["a", "b", "c", "-c", "-b", "-a"])


@pytest.mark.parametrize("done", [0, 1, 2])
def test_it_ends_at_each_boundary_and_hands_over(bench: Bench, script: Script, done: int) -> None:
    bench.accept()
    bench.deliver(messages=done)
    bench.preempt()

    bench.fleet.post.deliver_all()

    assert (bench.op().phase, bench.op("end-op").phase) == (Phase.CANCELLED, Phase.SUCCEEDED)
    assert script.effects == [*["a", "b", "c"][:done], "end"]
    assert bench.lease() is None


@pytest.mark.parametrize("step", ["a", "b"])
def test_while_a_step_runs_it_ends_after_it(bench: Bench, script: Script, step: str) -> None:
    script.acts = {step: [lambda _: bench.preempt()]}

    op = bench.run_all()

    assert (op.phase, op.step(step).do) == (Phase.CANCELLED, Mark.DONE)
    assert (bench.op("end-op").phase, script.effects[-2:]) == (Phase.SUCCEEDED, [step, "end"])


def test_while_the_last_step_runs_it_succeeds_and_hands_over(bench: Bench, script: Script) -> None:
    script.acts = {"c": [lambda _: bench.preempt()]}

    assert bench.run_all().phase is Phase.SUCCEEDED
    assert bench.op("end-op").phase is Phase.SUCCEEDED


def test_while_it_rolls_back_it_ends_there(bench: Bench, script: Script) -> None:
    script.acts = {"c": [Refused("no")], "-c": [lambda _: bench.preempt()]}

    assert bench.run_all().phase is Phase.CANCELLED
    assert script.effects == ["a", "b", "c", "-c", "end"]


def test_who_waits_still_finds_the_record_of_an_instance_that_was_rolled_back(bench: Bench, script: Script) -> None:
    script.acts = {"a": [Refused("no")], "-a": [lambda _: bench.preempt()]}

    op = bench.run_all()

    assert (op.phase, bench.op("end-op").phase) == (Phase.FAILED, Phase.SUCCEEDED)
    assert script.effects == ["a", "-a", "end"]


def test_what_is_stuck_is_handed_over_too(bench: Bench, script: Script) -> None:
    def preempt_and_stick(_: StepContext) -> None:
        bench.preempt()
        raise Contradiction("another's")

    script.acts = {"b": [preempt_and_stick]}

    assert bench.run_all().phase is Phase.CANCELLED
    assert bench.op("end-op").phase is Phase.SUCCEEDED
    assert bench.lease() is None


def test_a_flow_that_does_not_yield_is_rolled_back_first(open_bench: OpenBench, script: Script) -> None:
    bench = open_bench(*(toy_step(name, script) for name in "abc"), yields=False)
    script.acts = {"b": [lambda _: bench.preempt()]}

    op = bench.run_all()

    assert (op.phase, op.failure and op.failure.code) == (Phase.CANCELLED, "Cancelled")
    assert script.effects == ["a", "b", "-b", "-a", "end"]
    assert bench.op("end-op").phase is Phase.SUCCEEDED


def test_late_messages_of_the_one_that_ended_change_nothing(bench: Bench, script: Script) -> None:
    bench.accept()
    late = list(bench.fleet.post.chains)
    bench.preempt()
    bench.fleet.post.deliver_all()
    before = read_everything(bench.fleet.client)

    for chain in late * 2:
        bench.fleet.post.deliver(chain)

    assert read_everything(bench.fleet.client) == before
    assert script.effects == ["end"]
