"""Runners that were taken over, answers that were lost, and a store that is silent."""

from collections.abc import Callable
from pathlib import Path

import pytest

from taskvisor.flow.ports import Exclusion, Journal
from taskvisor.flow.runner import COMMIT_PATIENCE_S, PROGRESS_PAUSE_S, STOP, Onward, StepMessage, StepRunner
from taskvisor.flow.step import StepContext
from taskvisor.model.change import Change, LeaseMove, Loaded
from taskvisor.model.errors import (
    CannotAsk,
    Retryable,
    StoreConflict,
)
from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.operation import Operation, Runner
from taskvisor.model.states import Direction, Mark, Phase
from tests.flow.toys import Bench, Script
from tests.support.fleet import KEYS
from tests.support.spies import Moment, watched
from workers.locks import InstanceLocks

DO, UNDO = Direction.DO, Direction.UNDO
H1 = HostName("h1")


def test_who_was_taken_over_while_its_step_ran_writes_nothing(bench: Bench, script: Script, tmp_path: Path) -> None:
    """Its locks are not where the other's are: as on a host whose lock directory was removed."""

    def take_over(_: StepContext) -> None:
        other = runner_of(bench, bench.fleet.store.journal, exclusion=InstanceLocks(tmp_path / "elsewhere"))
        assert other.run(message("a")).onward is Onward.CONTINUE

    script.acts = {"a": [take_over]}
    bench.accept()

    following = bench.run("a")

    op = bench.op()
    assert (following, script.effects) == (STOP, ["a", "a"])
    assert (op.token, op.step("a").tries, op.facts) == (2, 2, {"a": {"times": 2}})
    assert [entry.outcome for entry in op.timeline] == ["WorkerLost", "done"]


def test_who_lost_the_lease_to_another_operation_writes_nothing(bench: Bench, script: Script) -> None:
    script.acts = {
        "a": [
            lambda ctx: bench.fleet.client.hset(KEYS.lease(ctx.instance.id), "op", "another"),
        ]
    }
    bench.accept()

    assert bench.run("a") == STOP
    assert bench.op().step("a").do is Mark.STARTED


def test_who_may_not_begin_does_nothing(bench: Bench, script: Script) -> None:
    accepted = bench.accept()
    bench.fleet.client.hset(KEYS.lease(accepted.instance_id), "token", 9)

    assert bench.run("a") == STOP
    assert script.effects == []


def test_an_end_whose_answer_was_lost_is_not_written_twice(bench: Bench, script: Script) -> None:
    silence = Silence(bench.fleet.store.journal, after=lambda _: True, times=1)
    bench.accept()

    for step in "abc":
        silence.heard = 0
        following = runner_of(bench, silence).run(message(step))
        assert following.onward is (Onward.STOP if step == "c" else Onward.CONTINUE)

    op = bench.op()
    assert (op.phase, script.effects, len(op.timeline)) == (Phase.SUCCEEDED, ["a", "b", "c"], 3)


def test_an_end_whose_answer_was_lost_and_that_was_noted_on_since_is_let_go(bench: Bench, script: Script) -> None:
    def is_end(change: Change) -> bool:
        ended = change.after.step("a").do is Mark.DONE and change.lease is LeaseMove.KEEP
        if ended:
            bench.wish_away()
        return ended

    silence = Silence(bench.fleet.store.journal, after=is_end, times=1)
    bench.accept()

    assert runner_of(bench, silence).run(message("a")) == STOP
    assert (len(bench.op().timeline), bench.op().cancel_requested) == (1, True)


def test_a_store_that_moves_each_time_it_is_looked_at_is_tried_a_few_times(bench: Bench, script: Script) -> None:
    bench.accept()
    moving = Moving(bench.fleet.store.journal)

    with pytest.raises(Retryable, match="operation op changed 8 times while it was being read"):
        runner_of(bench, moving).run(message("a"))
    assert script.effects == []


def test_a_write_that_reaches_nobody_is_repeated_until_it_does(bench: Bench, script: Script) -> None:
    until = bench.fleet.clock.now() + COMMIT_PATIENCE_S - 1
    bench.fleet.watch(silent_until(bench, until))

    op = bench.run_all()

    assert (op.phase, script.effects) == (Phase.SUCCEEDED, ["a", "b", "c"])
    assert bench.fleet.clock.now() >= until


def test_patience_with_the_store_is_bounded_and_nothing_is_done_without_it(bench: Bench, script: Script) -> None:
    began_at = bench.fleet.clock.now()
    bench.fleet.watch(silent_until(bench, began_at + 10 * COMMIT_PATIENCE_S))
    bench.accept()

    with pytest.raises(CannotAsk):
        bench.run("a")

    assert script.effects == []
    assert bench.fleet.clock.now() - began_at == pytest.approx(COMMIT_PATIENCE_S, abs=1.0)


def test_a_step_whose_end_reached_nobody_is_done_again(bench: Bench, script: Script) -> None:
    silence, armed = silent_until(bench, 1e12), list[bool]()
    script.acts = {"a": [lambda _: armed.append(True)]}
    bench.accept()
    bench.fleet.watch(lambda name, moment: silence(name, moment) if armed else None)

    with pytest.raises(CannotAsk):
        bench.run("a")
    bench.fleet.restart()
    bench.fleet.post.deliver_all()

    assert (bench.op().phase, script.effects) == (Phase.SUCCEEDED, ["a", "a", "b", "c"])


def test_progress_that_cannot_be_told_costs_the_step_nothing(bench: Bench, script: Script) -> None:
    told: list[str] = []

    def tell(ctx: StepContext) -> None:
        for number in range(100):
            ctx.progress(number, 1000)

    def on_call(name: str, moment: Moment) -> None:
        if name == "journal.note_progress" and moment is Moment.BEFORE:
            told.append(name)
            raise CannotAsk("Redis did not answer")

    script.acts = {"a": [tell]}
    bench.fleet.watch(on_call)

    assert bench.run_all().phase is Phase.SUCCEEDED
    assert len(told) == 1


def test_progress_is_told_now_and_then_and_at_the_end(bench: Bench, script: Script) -> None:
    told: list[tuple[str, int, int | None] | None] = []

    def tell(ctx: StepContext) -> None:
        for number in range(11):
            ctx.progress(number, 10)
            told.append(bench.fleet.store.catalog.read_progress(ctx.operation.id))
            bench.fleet.clock.sleep(0.2)

    script.acts = {"a": [tell]}

    bench.run_all()

    assert told[0] == told[2] == ("a", 0, 10)
    assert told[3] == ("a", 3, 10)
    assert told[-1] == ("a", 10, 10)


def test_after_a_silence_progress_is_told_again_later(bench: Bench, script: Script) -> None:
    calls: list[int] = []

    def tell(ctx: StepContext) -> None:
        for number in range(4):
            ctx.progress(number, None)
            bench.fleet.clock.sleep(PROGRESS_PAUSE_S / 2)

    def on_call(name: str, moment: Moment) -> None:
        if name == "journal.note_progress" and moment is Moment.BEFORE:
            calls.append(1)
            if len(calls) == 1:
                raise CannotAsk("Redis did not answer")

    script.acts = {"a": [tell]}
    bench.fleet.watch(on_call)

    assert bench.run_all().phase is Phase.SUCCEEDED
    assert len(calls) == 3


def runner_of(bench: Bench, journal: Journal, *, exclusion: Exclusion | None = None) -> StepRunner:
    """Another runner of the bench's host, with a journal of its own."""
    host = bench.fleet.hosts[H1]
    return StepRunner(
        flows=bench.fleet.flows,
        journal=journal,
        ports=host.ports,
        exclusion=exclusion or InstanceLocks(host.root / "locks"),
        runner=Runner(host=H1, incarnation="first", pid=2),
    )


def message(step: str) -> StepMessage:
    return StepMessage(operation_id=OperationId("op"), step=step, direction=DO)


class Silence:
    """A journal whose answer is lost, so many times, after a write that was carried out."""

    def __init__(self, journal: Journal, *, after: Callable[[Change], bool], times: int) -> None:
        self._journal = journal
        self._after = after
        self._times = times
        self.heard = 0

    def load(self, operation_id: OperationId) -> Loaded | None:
        return self._journal.load(operation_id)

    def commit(self, change: Change) -> None:
        self._journal.commit(change)
        if self.heard < self._times and self._after(change):
            self.heard += 1
            raise CannotAsk("Redis did not answer")

    def note_progress(self, operation: Operation, step: str, done_bytes: int, total_bytes: int | None) -> bool:
        raise CannotAsk("Redis did not answer")


class Moving(Silence):
    """A journal that has always moved."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal, after=lambda _: False, times=0)

    def commit(self, change: Change) -> None:
        raise StoreConflict(f"operation {change.before.id} moved")


def silent_until(bench: Bench, when: float) -> Callable[[str, Moment], None]:
    """Writes reach nobody before that time."""

    def on_call(name: str, moment: Moment) -> None:
        if name == "journal.commit" and moment is Moment.BEFORE and bench.fleet.clock.now() < when:
            raise CannotAsk("Redis did not answer")

    return on_call


def test_a_spy_passes_everything_on(bench: Bench) -> None:
    """The tests above stand on it."""
    calls: list[tuple[str, Moment]] = []
    journal = watched(bench.fleet.store.journal, "journal", lambda name, moment: calls.append((name, moment)))

    assert journal.load(OperationId("x")) is None
    assert calls == [("journal.load", Moment.BEFORE), ("journal.load", Moment.AFTER)]
