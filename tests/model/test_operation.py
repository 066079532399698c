"""What an operation's record says of itself."""

from dataclasses import replace

import pytest

from taskvisor.model.ids import HostName, InstanceId, OperationId
from taskvisor.model.operation import Operation, StepRecord
from taskvisor.model.states import Direction, Mark, Phase, PowerState

A, B, C = StepRecord(name="a"), StepRecord(name="b"), StepRecord(name="c")


def done(step: StepRecord) -> StepRecord:
    return replace(step, do=Mark.DONE)


def started(step: StepRecord) -> StepRecord:
    return replace(step, do=Mark.STARTED)


def undone(step: StepRecord) -> StepRecord:
    return replace(step, undo=Mark.DONE)


def operation(phase: Phase, *steps: StepRecord, stuck_way: Direction | None = None) -> Operation:
    return Operation(
        id=OperationId("op"),
        flow="toy",
        instance_id=InstanceId("i"),
        instance_name="web",
        host=HostName("h1"),
        request={},
        phase=phase,
        steps=steps,
        created_at=1.0,
        updated_at=1.0,
        stuck_way=stuck_way,
    )


@pytest.mark.parametrize(
    ("phase", "steps", "current"),
    [
        (Phase.RUNNING, (A, B, C), "a"),
        (Phase.RUNNING, (started(A), B, C), "a"),
        (Phase.RUNNING, (done(A), B, C), "b"),
        (Phase.RUNNING, (done(A), done(B), done(C)), None),
        (Phase.WAITING, (A, B, C), "a"),
        (Phase.ROLLING_BACK, (A, B, C), None),
        (Phase.ROLLING_BACK, (done(A), started(B), C), "b"),
        (Phase.ROLLING_BACK, (done(A), undone(started(B)), C), "a"),
        (Phase.ROLLING_BACK, (undone(done(A)), undone(started(B)), C), None),
        (Phase.ROLLING_BACK, (done(A), undone(done(B)), done(C)), "c"),
    ],
)
def test_the_current_step_is_the_first_to_do_or_the_last_to_undo(
    phase: Phase, steps: tuple[StepRecord, ...], current: str | None
) -> None:
    assert operation(phase, *steps).current_step == current


@pytest.mark.parametrize(
    ("phase", "stuck_way", "direction"),
    [
        (Phase.WAITING, None, Direction.DO),
        (Phase.RUNNING, None, Direction.DO),
        (Phase.ROLLING_BACK, None, Direction.UNDO),
        (Phase.SUCCEEDED, None, Direction.DO),
        (Phase.STUCK, Direction.DO, Direction.DO),
        (Phase.STUCK, Direction.UNDO, Direction.UNDO),
    ],
)
def test_a_stuck_operation_keeps_the_way_it_went(
    phase: Phase, stuck_way: Direction | None, direction: Direction
) -> None:
    assert operation(phase, A, stuck_way=stuck_way).direction is direction


def test_the_step_at_which_it_is_stuck_is_its_current_one() -> None:
    steps = (done(A), started(B), C)

    assert operation(Phase.STUCK, *steps, stuck_way=Direction.DO).current_step == "b"
    assert operation(Phase.STUCK, undone(done(A)), started(B), C, stuck_way=Direction.UNDO).current_step == "b"


def test_steps_are_found_by_name_and_counted_from_one() -> None:
    op = operation(Phase.RUNNING, A, B)

    assert (op.step("b"), op.number_of("a"), op.number_of("b")) == (B, 1, 2)
    with pytest.raises(KeyError):
        op.step("elsewhere")


@pytest.mark.parametrize("phase", Phase)
def test_only_waiting_running_and_rolling_back_are_unsettled(phase: Phase) -> None:
    assert phase.settled is (phase.value not in ("waiting", "running", "rolling_back"))


def test_power_states_have_novas_numbers_and_words() -> None:
    assert {state.value: state.label for state in PowerState} == {
        0: "pending",
        1: "running",
        3: "paused",
        4: "shutdown",
        6: "crashed",
        7: "suspended",
    }
