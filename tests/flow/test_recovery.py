"""Which operations have lost their message: a table over the journal alone."""

from dataclasses import replace
from typing import Any

import pytest

from taskvisor.flow.recovery import PAUSES_LIMIT, is_overdue, wants_settling, was_run_by
from taskvisor.model.ids import HostName
from taskvisor.model.operation import Failure, Operation, Runner, StepRecord
from taskvisor.model.states import Mark, Phase
from tests.support.records import instance, operation

PERIOD_S = 15.0
NOW = 1000.0
LIVING = Runner(host=HostName("h1"), incarnation="second", pid=5)
DEAD = Runner(host=HostName("h1"), incarnation="first", pid=5)


def op(idle_s: float, **fields: Any) -> Operation:
    """An operation that was last written so long ago."""
    return operation("op", instance(ports=()), updated_at=NOW - idle_s, **fields)


CASES: tuple[tuple[str, Operation, str | None, bool], ...] = (
    ("just written", op(0.0), "second", False),
    ("idle for less than a period", op(14.9), "second", False),
    ("idle for a period", op(15.0), "second", True),
    ("idle on a host that is silent", op(9999.0), None, False),
    *((f"ended: {phase}", op(9999.0, phase=phase), "second", False) for phase in Phase if phase.settled),
    ("rolling back", op(15.0, phase=Phase.ROLLING_BACK), "second", True),
    ("sent again once, idle for a period", op(15.0, relaunches=1), "second", False),
    ("sent again once, idle for two", op(30.0, relaunches=1), "second", True),
    ("sent again often, idle for 64", op(64 * 15.0, relaunches=50), "second", True),
    ("sent again often, idle for 63", op(63 * 15.0, relaunches=50), "second", False),
    ("to be tried later", op(100.0, not_before=NOW + 1), "second", False),
    ("to have been tried just now", op(100.0, not_before=NOW - 14.9), "second", False),
    ("to have been tried a period ago", op(100.0, not_before=NOW - 15.0), "second", True),
    ("run by a process of a former node", op(0.0, runner=DEAD, runner_until=NOW + 50), "second", True),
    ("run by a process of this node, in time", op(59.0, runner=LIVING, runner_until=NOW + 1), "second", False),
    ("run by a process of this node, past its time", op(61.0, runner=LIVING, runner_until=NOW - 1), "second", True),
    ("run on a host that is silent", op(9999.0, runner=DEAD, runner_until=1.0), None, False),
)


@pytest.mark.parametrize(
    ("operation", "incarnation", "overdue"), [pytest.param(*rest, id=what) for what, *rest in CASES]
)
def test_an_operation_is_overdue_when_nobody_seems_to_carry_it_on(
    operation: Operation, incarnation: str | None, *, overdue: bool
) -> None:
    assert is_overdue(operation, incarnation=incarnation, period_s=PERIOD_S, now=NOW) is overdue


def test_the_pause_between_two_relaunches_doubles_to_64_periods() -> None:
    pauses_s = []
    for relaunches in range(PAUSES_LIMIT + 3):
        idle_s = 0.0
        while not is_overdue(op(idle_s, relaunches=relaunches), incarnation="second", period_s=PERIOD_S, now=NOW):
            idle_s += PERIOD_S
        pauses_s.append(idle_s / PERIOD_S)

    assert pauses_s == [1, 2, 4, 8, 16, 32, 64, 64, 64]


@pytest.mark.parametrize(
    ("runner", "was"),
    [
        (LIVING, True),
        (replace(LIVING, pid=6), False),
        (DEAD, False),
        (None, False),
    ],
)
def test_only_what_the_dead_processes_of_this_node_ran_was_run_by_them(runner: Runner | None, *, was: bool) -> None:
    assert was_run_by(op(0.0, runner=runner), incarnation="second", dead_pids=frozenset({5, 7})) is was


@pytest.mark.parametrize(
    ("phase", "do", "undo", "wants"),
    [
        (Phase.ROLLING_BACK, Mark.DONE, Mark.DONE, True),
        (Phase.ROLLING_BACK, Mark.PENDING, Mark.PENDING, True),
        (Phase.ROLLING_BACK, Mark.DONE, Mark.STARTED, False),
        (Phase.RUNNING, Mark.DONE, Mark.PENDING, False),
        (Phase.FAILED, Mark.DONE, Mark.DONE, False),
    ],
)
def test_what_is_rolled_back_completely_wants_its_end(phase: Phase, do: Mark, undo: Mark, *, wants: bool) -> None:
    failure = Failure(code="DoesNotFit", message="full", step="only")
    step = StepRecord(name="only", do=do, undo=undo)

    assert wants_settling(op(0.0, phase=phase, steps=(step,), failure=failure)) is wants
