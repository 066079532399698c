"""What a message that asks for a step deserves: a table over the journal alone."""

from dataclasses import replace

import pytest

from taskvisor.flow import transitions
from taskvisor.flow.transitions import EARLY_S, Verdict
from taskvisor.model.ids import OperationId
from taskvisor.model.operation import Operation
from taskvisor.model.states import Direction, Phase
from tests.flow.operations import (
    D0,
    DEAD,
    DO,
    DONE,
    FLOW,
    H2,
    ME,
    NOW,
    S0,
    STARTED,
    STUBBORN,
    UNDO,
    back,
    op,
)

RUN, PASS, DROP, TURN, YIELD, GIVE_UP = (
    Verdict.RUN,
    Verdict.PASS,
    Verdict.DROP,
    Verdict.TURN,
    Verdict.YIELD,
    Verdict.GIVE_UP,
)
TRIED = replace(op(S0).step("a"), tries=3)
UNDO_TRIED = replace(back(D0, S0).step("b"), undo=STARTED, undo_tries=3)

VERDICTS: tuple[tuple[str, Operation, str, Direction, Verdict], ...] = (
    ("the next step", op(), "a", DO, RUN),
    ("a step that died", op(S0, runner=DEAD), "a", DO, RUN),
    ("a step after a done one", op(D0), "b", DO, RUN),
    ("a double of a done step whose chain was lost", op(D0), "a", DO, PASS),
    ("a double of a done step when the next has begun", op(D0, S0), "a", DO, DROP),
    ("a double of a step long done", op(D0, D0, S0), "a", DO, DROP),
    ("a double of the one before the untouched next", op(D0, D0), "b", DO, PASS),
    ("a step that is not next", op(), "b", DO, DROP),
    ("the last step first", op(), "c", DO, DROP),
    ("an undo while it goes forward", op(D0, S0), "b", UNDO, DROP),
    ("a do while it goes back", back(D0, S0), "b", DO, DROP),
    ("the next undo", back(D0, S0), "b", UNDO, RUN),
    ("an undo out of order", back(D0, S0), "a", UNDO, DROP),
    ("an undo of what never began", back(D0, S0), "c", UNDO, DROP),
    ("a double of an undo whose chain was lost", back(D0, (STARTED, DONE)), "b", UNDO, PASS),
    ("a double of an undo when the next has begun", back((DONE, STARTED), (DONE, DONE)), "b", UNDO, DROP),
    ("a double of the last undo", back((DONE, DONE), (DONE, DONE)), "a", UNDO, DROP),
    *(
        (f"any step of one that is {phase}", op(phase=phase), "a", DO, DROP)
        for phase in Phase
        if phase is Phase.WAITING or phase.settled
    ),
    ("a step of another host", op(host=H2), "a", DO, DROP),
    ("a step before its time", op(not_before=NOW + EARLY_S + 0.01), "a", DO, DROP),
    ("a step hardly before its time", op(not_before=NOW + EARLY_S), "a", DO, RUN),
    ("a step after its time", op(not_before=NOW - 1), "a", DO, RUN),
    ("a step that began as often as it may", replace(op(S0), steps=(TRIED, *op().steps[1:])), "a", DO, GIVE_UP),
    (
        "an undo that began as often as it may",
        replace(back(D0, S0), steps=(back(D0).steps[0], UNDO_TRIED, back().steps[2])),
        "b",
        UNDO,
        GIVE_UP,
    ),
    ("a cancelled one", op(D0, cancel_requested=True), "b", DO, TURN),
    ("a cancelled one before its time", op(D0, cancel_requested=True, not_before=NOW + 50), "b", DO, TURN),
    ("a cancelled one that goes back already", back(D0, S0, cancel_requested=True), "b", UNDO, RUN),
    ("a pre-empted one", op(D0, preempted_by=OperationId("x")), "b", DO, YIELD),
    ("a pre-empted one that goes back", back(D0, S0, preempted_by=OperationId("x")), "b", UNDO, YIELD),
    ("one both cancelled and pre-empted", op(cancel_requested=True, preempted_by=OperationId("x")), "a", DO, YIELD),
    (
        "a double of a done step of a pre-empted one",
        op(D0, preempted_by=OperationId("x")),
        "a",
        DO,
        PASS,
    ),
)


@pytest.mark.parametrize(
    ("operation", "step", "direction", "verdict"),
    [pytest.param(*rest, id=what) for what, *rest in VERDICTS],
)
def test_a_message_is_judged_by_the_journal_alone(
    operation: Operation, step: str, direction: Direction, verdict: Verdict
) -> None:
    assert transitions.verdict_for(operation, FLOW, FLOW.step(step), direction, ME, NOW) is verdict


@pytest.mark.parametrize(
    ("operation", "direction", "verdict"),
    [
        (op(D0, preempted_by=OperationId("x")), DO, TURN),
        (back(D0, S0, preempted_by=OperationId("x")), UNDO, RUN),
    ],
)
def test_a_flow_that_does_not_yield_is_rolled_back_before_it_is_taken_over(
    operation: Operation, direction: Direction, verdict: Verdict
) -> None:
    assert transitions.verdict_for(operation, STUBBORN, STUBBORN.step("b"), direction, ME, NOW) is verdict
