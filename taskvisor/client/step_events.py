"""An operation as a row of events: each try of each step, as it begins and as it ends, and last how the operation ended.

Pure. They follow from the operation's record, not from the stream of events: a stream that was trimmed, or a Redis that was
away, leaves none out. What can't be told any more is what the record has let go: of more than 500 tries the first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskvisor.model.operation import Operation, TimelineEntry

FROM_START = ""
"""The cursor before the first event."""


class EventState(StrEnum):
    """What an event says. The last four are of the operation itself, and no step is named."""

    STARTED = "started"  # a try of a step began
    ENDED = "ended"  # it ended: `outcome` says how
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STUCK = "stuck"


@dataclass(frozen=True, kw_only=True)
class StepEvent:
    """One thing that happened.

    `cursor`: where to go on from after it. `step`: its name, the `number`th `of` so many; `way` is `do`, or `undo` while the
    operation is rolled back; `attempt` counts its tries from 1. `outcome`: `done`, or the class of the error; empty of what has
    only begun, and of a success. `message`: the error's. `at`: seconds since the epoch, by the clock of the host that did it.
    """

    cursor: str
    step: str
    number: int
    of: int
    way: str
    attempt: int
    host: str
    state: EventState
    outcome: str
    message: str
    at: float

    @property
    def is_end(self) -> bool:
        """The operation has ended; nothing follows, unless somebody retries it."""
        return self.state not in (EventState.STARTED, EventState.ENDED)


def events_after(cursor: str, operation: "Operation") -> tuple[StepEvent, ...]:
    """What happened after the cursor's event, and the end if it has ended, each time.

    All that is known when the cursor is of no event that is kept: one may be told twice, and none is left out.
    """
    events = tuple(_step_events(operation))
    seen = next((number for number, event in enumerate(events, 1) if event.cursor == cursor), 0)
    return (*events[seen:], *_ends(operation, events))


def end_at_the_door(cursor: str, state: EventState, *, outcome: str, message: str, at: float) -> StepEvent:
    """The one event of a request that became no operation: it was refused, or answered at once."""
    return _end(cursor, state, outcome=outcome, message=message, host="", of=0, at=at)


def _step_events(operation: "Operation") -> Iterator[StepEvent]:
    for entry in operation.timeline:
        yield from _of_try(operation, entry)
    runner, since, name = operation.runner, operation.runner_since, operation.current_step
    if runner is None or since is None or name is None:
        return
    record = operation.step(name)
    undo = operation.direction.value == "undo"
    yield StepEvent(
        cursor=_cursor(since, EventState.STARTED),
        step=name,
        number=operation.number_of(name),
        of=len(operation.steps),
        way=operation.direction.value,
        attempt=record.undo_tries if undo else record.tries,
        host=runner.host,
        state=EventState.STARTED,
        outcome="",
        message="",
        at=since,
    )


def _of_try(operation: "Operation", entry: "TimelineEntry") -> Iterator[StepEvent]:
    for state, at in ((EventState.STARTED, entry.started_at), (EventState.ENDED, entry.ended_at)):
        ended = state is EventState.ENDED
        yield StepEvent(
            cursor=_cursor(entry.started_at, state),
            step=entry.step,
            number=_number_of(operation, entry.step),
            of=len(operation.steps),
            way=entry.direction.value,
            attempt=entry.attempt,
            host=entry.host,
            state=state,
            outcome=entry.outcome if ended else "",
            message=(entry.message or "") if ended else "",
            at=at,
        )


def _ends(operation: "Operation", events: Sequence[StepEvent]) -> Iterator[StepEvent]:
    """Under the cursor of what was last: whoever goes on from the end is told it again, or what a retry did since."""
    if not operation.phase.settled:
        return
    failure = operation.failure
    succeeded = operation.phase.value == EventState.SUCCEEDED
    yield _end(
        events[-1].cursor if events else FROM_START,
        EventState(operation.phase.value),
        outcome="" if failure is None or succeeded else failure.code,
        message="" if failure is None or succeeded else f"{failure.step}: {failure.message}",
        host=operation.host,
        of=len(operation.steps),
        at=operation.settled_at if operation.settled_at is not None else operation.updated_at,
    )


def _end(cursor: str, state: EventState, *, outcome: str, message: str, host: str, of: int, at: float) -> StepEvent:
    return StepEvent(
        cursor=cursor,
        step="",
        number=of,
        of=of,
        way="",
        attempt=0,
        host=host,
        state=state,
        outcome=outcome,
        message=message,
        at=at,
    )


def _cursor(started_at: float, state: EventState) -> str:
    """Of an operation no two tries begin at the same time: one runs at a time."""
    return f"{started_at!r}.{state.value}"


def _number_of(operation: "Operation", step: str) -> int:
    """0 for a step that a newer version's flow has no more."""
    return next((number for number, record in enumerate(operation.steps, 1) if record.name == step), 0)
