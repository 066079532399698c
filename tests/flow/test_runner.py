"""The one place that orders effect and record, with toy steps on a real store: which order, and what follows from an error."""

import pytest

from taskvisor.flow import transitions
from taskvisor.flow.runner import Onward
from taskvisor.flow.step import StepContext
from taskvisor.model.change import Change
from taskvisor.model.errors import (
    Busy,
    CannotAsk,
    Contradiction,
    DoesNotFit,
    Refused,
    Retryable,
)
from taskvisor.model.ids import HostName
from taskvisor.model.operation import Operation, Runner
from taskvisor.model.states import Direction, Mark, Phase, TaskState, VmState
from taskvisor.state.admission import Lease
from tests.flow.conftest import OpenBench
from tests.flow.toys import Bench, Script, toy_step
from tests.support.fleet import KEYS, TimeIsUp
from tests.support.spies import Moment

DO, UNDO = Direction.DO, Direction.UNDO
H1 = HostName("h1")


def test_a_flow_runs_step_by_step_to_its_end(bench: Bench, script: Script) -> None:
    op = bench.run_all()

    assert script.effects == ["a", "b", "c"]
    assert (op.phase, op.result, op.failure) == (Phase.SUCCEEDED, {"op": "op"}, None)
    assert op.facts == {"a": {"times": 1}, "b": {"times": 1}, "c": {"times": 1}}
    assert [(entry.step, entry.attempt, entry.outcome) for entry in op.timeline] == [
        ("a", 1, "done"),
        ("b", 1, "done"),
        ("c", 1, "done"),
    ]
    assert bench.lease() is None
    assert bench.fleet.store.catalog.find_instance("web-op") is not None


def test_started_is_in_the_store_before_the_step_is_done_and_done_after(bench: Bench, script: Script) -> None:
    seen: list[tuple[Operation, Lease | None]] = []
    script.acts = {"b": [lambda _: seen.append((bench.op(), bench.lease()))]}
    bench.accept()
    bench.deliver(messages=1)
    before = bench.op()

    bench.deliver(messages=1)

    ((while_it_ran, lease),) = seen
    assert before.step("b").do is Mark.PENDING
    assert (while_it_ran.step("b").do, while_it_ran.step("b").tries) == (Mark.STARTED, 1)
    assert (while_it_ran.revision, while_it_ran.token) == (before.revision + 1, before.token + 1)
    assert while_it_ran.runner == Runner(host=H1, incarnation="first", pid=1)
    assert lease == Lease(operation_id=before.id, token=while_it_ran.token)
    assert (bench.op().step("b").do, bench.op().runner) == (Mark.DONE, None)


def test_undoing_is_recorded_in_the_same_order(bench: Bench, script: Script) -> None:
    seen: list[Mark] = []
    script.acts = {"b": [Refused("no")], "-b": [lambda _: seen.append(bench.op().step("b").undo)]}
    bench.accept()
    bench.deliver(messages=3)

    assert seen == [Mark.STARTED]
    assert bench.op().step("b").undo is Mark.DONE


def test_each_step_costs_one_look_and_two_writes(bench: Bench) -> None:
    calls: list[str] = []
    bench.fleet.watch(lambda name, moment: calls.append(name) if moment is Moment.BEFORE else None)

    bench.run_all()

    assert calls == ["journal.load", "journal.commit", "journal.commit"] * 3


def test_a_step_is_given_what_earlier_ones_found(open_bench: OpenBench, script: Script) -> None:
    first = toy_step("a", script)
    found: list[object] = []
    script.acts = {"b": [lambda ctx: found.append(ctx.facts_of(type(first)))]}

    open_bench(first, toy_step("b", script)).run_all()

    assert found == [first.facts_type(times=1)]


def test_the_instance_shows_what_is_done_to_it_while_it_is_done(open_bench: OpenBench, script: Script) -> None:
    seen: list[TaskState | None] = []

    def look(ctx: StepContext) -> None:
        found = bench.holding()
        assert found is not None
        assert found.instance == ctx.instance
        seen.append(found.instance.task_state)

    steps = (
        toy_step("a", script),
        toy_step("b", script, task_state=TaskState.NETWORKING),
        toy_step("c", script, task_state=TaskState.SPAWNING),
    )
    script.always = {"a": look, "b": look, "c": look}
    bench = open_bench(*steps)

    bench.run_all()

    assert seen == [None, TaskState.NETWORKING, TaskState.SPAWNING]
    rested = bench.holding()
    assert rested is not None
    assert (rested.instance.vm_state, rested.instance.task_state) == (VmState.ACTIVE, None)


def test_a_refusal_takes_back_what_was_done_in_reverse(bench: Bench, script: Script) -> None:
    script.acts = {"c": [Refused("no such image")]}

    op = bench.run_all()

    assert script.effects == ["a", "b", "c", "-c", "-b", "-a"]
    assert script.made == set()
    assert (op.phase, op.failure and op.failure.code, op.failure and op.failure.step) == (
        Phase.FAILED,
        "Refused",
        "c",
    )
    assert bench.fleet.store.catalog.find_instance("web-op") is None
    assert bench.claims() == 0


def test_a_flow_that_fails_at_its_first_step_takes_back_that_one(bench: Bench, script: Script) -> None:
    script.acts = {"a": [Refused("no")]}

    assert bench.run_all().phase is Phase.FAILED
    assert script.effects == ["a", "-a"]


def test_steps_without_undo_are_passed_over(open_bench: OpenBench, script: Script) -> None:
    script.acts = {"c": [Refused("no")]}
    bench = open_bench(
        toy_step("a", script), toy_step("b", script, undoable=False), toy_step("c", script, undoable=False)
    )

    assert bench.run_all().phase is Phase.FAILED
    assert script.effects == ["a", "b", "c", "-a"]


def test_when_nothing_can_be_taken_back_it_ends_in_the_same_write(open_bench: OpenBench, script: Script) -> None:
    script.acts = {"a": [Refused("no")]}
    bench = open_bench(toy_step("a", script, undoable=False))
    bench.accept()

    following = bench.run("a")

    assert (following.onward, following.ended and following.ended.phase) == (Onward.STOP, Phase.FAILED)
    assert isinstance(following.error, Refused)


def test_a_bug_is_taken_back_and_its_traceback_kept(bench: Bench, script: Script) -> None:
    script.acts = {"b": [ZeroDivisionError("by zero")]}

    op = bench.run_all()

    assert (op.phase, script.made) == (Phase.FAILED, set())
    assert op.failure is not None
    assert (op.failure.code, op.failure.message) == ("ZeroDivisionError", "by zero")
    assert op.failure.traceback is not None
    assert "toys.py" in op.failure.traceback
    assert op.failure.traceback.rstrip().endswith("ZeroDivisionError: by zero")


def test_a_retryable_error_is_tried_again_after_a_pause(bench: Bench, script: Script) -> None:
    script.acts = {"b": [Retryable("later", delay_s=2.0), CannotAsk("libvirtd is down", delay_s=2.0)]}
    began_at = bench.fleet.clock.now()

    op = bench.run_all()

    assert (op.phase, script.effects) == (Phase.SUCCEEDED, ["a", "b", "b", "b", "c"])
    assert bench.fleet.clock.now() - began_at == 2.0 + 4.0
    assert [(entry.attempt, entry.outcome) for entry in op.timeline if entry.step == "b"] == [
        (1, "Retryable"),
        (2, "CannotAsk"),
        (3, "done"),
    ]


def test_a_retryable_error_is_tried_as_often_as_the_step_may(bench: Bench, script: Script) -> None:
    script.always = {"b": Retryable("later")}

    op = bench.run_all()

    assert (op.phase, script.effects) == (Phase.FAILED, ["a", "b", "b", "b", "-b", "-a"])
    assert op.failure is not None
    assert (op.failure.code, op.failure.message) == ("OutOfTries", "later (tried 3 times)")


def test_being_busy_costs_no_try_and_is_bounded_by_its_wait(open_bench: OpenBench, script: Script) -> None:
    script.acts = {"a": [Busy("the image is being fetched", delay_s=10.0)] * 5}
    bench = open_bench(toy_step("a", script, tries=1, wait_limit_s=50))

    assert bench.run_all().phase is Phase.SUCCEEDED
    assert script.effects == ["a"] * 6


def test_who_is_busy_for_ever_runs_out_of_tries(open_bench: OpenBench, script: Script) -> None:
    script.always = {"a": Busy("the image is being fetched", delay_s=10.0)}
    bench = open_bench(toy_step("a", script, tries=1, wait_limit_s=50))

    op = bench.run_all()

    assert (op.phase, script.effects) == (Phase.FAILED, [*["a"] * 6, "-a"])
    assert op.failure is not None
    assert op.failure.message == "the image is being fetched (waited 60 s, the limit is 50 s)"


def test_what_does_not_fit_is_taken_back_and_then_settled_elsewhere(open_bench: OpenBench, script: Script) -> None:
    script.acts = {"b": [DoesNotFit("no room on the disk")]}
    bench = open_bench(toy_step("a", script), toy_step("b", script), reschedules=True)
    bench.accept()
    bench.deliver(messages=3)

    following = bench.run("a", UNDO)

    assert (following.onward, following.operation and following.operation.phase) == (
        Onward.SEND,
        Phase.ROLLING_BACK,
    )
    assert bench.op().current_step is None
    assert bench.lease() is not None
    assert bench.claims() == 1


def test_what_does_not_fit_fails_a_flow_that_goes_nowhere_else(bench: Bench, script: Script) -> None:
    script.acts = {"b": [DoesNotFit("no room on the disk")]}

    assert bench.run_all().phase is Phase.FAILED


def test_a_contradiction_is_left_alone_with_claim_and_lease(bench: Bench, script: Script) -> None:
    script.acts = {"b": [Contradiction("tap belongs to another")]}

    op = bench.run_all()

    assert (op.phase, script.effects) == (Phase.STUCK, ["a", "b"])
    assert bench.lease() == Lease(operation_id=op.id, token=op.token)
    assert bench.claims() == 1
    assert [ended.phase for ended in bench.fleet.post.ended] == [Phase.STUCK]


def test_a_stuck_operation_goes_on_when_it_is_told_to(bench: Bench, script: Script) -> None:
    script.acts = {"b": [Contradiction("tap belongs to another")]}
    stuck = bench.run_all()

    going = transitions.resumed(stuck, bench.fleet.clock.now())
    bench.fleet.store.journal.commit(Change(before=stuck, after=going))
    bench.fleet.post.launch(going)
    bench.fleet.post.deliver_all()

    assert (bench.op().phase, script.effects) == (Phase.SUCCEEDED, ["a", "b", "b", "c"])


@pytest.mark.parametrize("error", [Refused("no"), Retryable("later"), KeyError("bug"), DoesNotFit("full")])
def test_an_undo_that_fails_is_tried_again_and_then_stuck_with_the_claim(
    bench: Bench, script: Script, error: Exception
) -> None:
    script.acts = {"b": [Refused("no")]}
    script.always = {"-b": error}

    op = bench.run_all()

    assert (op.phase, script.effects) == (Phase.STUCK, ["a", "b", "-b", "-b", "-b"])
    assert (bench.claims(), bench.lease()) == (1, Lease(operation_id=op.id, token=op.token))


def test_a_step_that_is_told_that_its_time_is_up_is_tried_again(bench: Bench, script: Script) -> None:
    script.acts = {"b": [TimeIsUp()]}

    op = bench.run_all()

    assert op.phase is Phase.SUCCEEDED
    (entry,) = (entry for entry in op.timeline if entry.outcome == "Retryable")
    assert entry.message == "b took longer than its limit of 60 s"


def test_an_instance_whose_record_is_gone_is_waited_for(bench: Bench, script: Script) -> None:
    bench.accept()
    bench.fleet.client.delete(KEYS.instance(bench.op().instance_id))

    following = bench.run("a")

    assert isinstance(following.error, Retryable)
    assert (script.effects, bench.op().phase) == ([], Phase.RUNNING)


@pytest.mark.parametrize(
    ("error", "onward"),
    [
        (Busy("wait"), Onward.SEND),
        (Retryable("later"), Onward.SEND),
        (Refused("no"), Onward.SEND),
        (Contradiction("no"), Onward.STOP),
        (KeyError("bug"), Onward.SEND),
    ],
)
def test_whoever_tells_of_a_step_is_given_its_error(
    bench: Bench, script: Script, error: Exception, onward: Onward
) -> None:
    script.acts = {"a": [error]}
    bench.accept()

    following = bench.run("a")

    assert (following.onward, following.error) == (onward, error)
