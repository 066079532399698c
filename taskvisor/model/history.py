"""How an instance came to be in the state that it is in: each move of its states, when, by whom and why.

Pure. Where the moves are kept, and that each is written with the record that it is about, is the store's business.
"""

from dataclasses import dataclass
from typing import TypedDict

from taskvisor.model.operation import Operation
from taskvisor.model.records import Instance
from taskvisor.model.states import PowerState, TaskState, VmState

MOVES_KEPT = 100
"""Of one instance; the oldest go first."""
REASON_LIMIT_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True)
class States:
    """The three states of an instance at one time."""

    vm_state: VmState
    task_state: TaskState | None
    power_state: PowerState


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Who writes an instance's record, and why. `by`: an operation's id, or what no operation does (`power_sync`, …).

    `flow` and `step` are the operation's.
    """

    by: str
    at: float
    reason: str
    flow: str | None = None
    step: str | None = None


@dataclass(frozen=True, kw_only=True)
class Move:
    """One move. `former` is None for the first that was recorded."""

    former: States | None
    states: States
    cause: Cause


def states_of(instance: Instance) -> States:
    """The three, as they are recorded."""
    return States(vm_state=instance.vm_state, task_state=instance.task_state, power_state=instance.power_state)


def cause_of(operation: Operation) -> Cause:
    """What is written with this record of an operation is written by it, for what it is doing."""
    failure, phase = operation.failure, operation.phase.value
    reason = phase if failure is None else f"{phase}: {failure.code}: {failure.message}"
    step = failure.step if failure is not None and operation.phase.settled else operation.current_step
    return Cause(
        by=operation.id,
        at=operation.updated_at,
        reason=_short(reason),
        flow=operation.flow,
        step=step,
    )


def _short(text: str) -> str:
    return text if len(text) <= REASON_LIMIT_CHARACTERS else text[: REASON_LIMIT_CHARACTERS - 1] + "…"


class StatesView(TypedDict):
    vm_state: str
    task_state: str | None
    power_state: str


class MoveView(TypedDict):
    """`by`: an operation's id, or what no operation does: power_sync, guest_event. `former` None: the first recorded."""

    at: float
    former: StatesView | None
    states: StatesView
    by: str
    flow: str | None
    step: str | None
    reason: str


def move_view(move: Move) -> MoveView:
    """The move for its reader."""
    cause = move.cause
    return {
        "at": cause.at,
        "former": None if move.former is None else _states_view(move.former),
        "states": _states_view(move.states),
        "by": cause.by,
        "flow": cause.flow,
        "step": cause.step,
        "reason": cause.reason,
    }


def _states_view(states: States) -> StatesView:
    return {
        "vm_state": states.vm_state.value,
        "task_state": states.task_state.value if states.task_state else None,
        "power_state": states.power_state.label,
    }
