"""One request that was made: looked at, waited for, cancelled. Knows Celery's result by what it says, not who sends."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from taskvisor.client.step_events import FROM_START, EventState, StepEvent, end_at_the_door, events_after
from taskvisor.model import errors
from taskvisor.model.errors import CannotAsk, TaskvisorError, Unauthorised

if TYPE_CHECKING:
    from celery.result import AsyncResult

    from taskvisor.fields import Progress, WishView
    from taskvisor.model.operation import Operation

WAIT_LIMIT_S = 3600.0
"""How long `Handle.wait` waits unless told otherwise."""
SILENCE_LIMIT_S = 30.0
"""`Handle.wait` bears a Redis that does not answer for so long: restarts and fail-overs pass, an outage is told."""
LOOK_FIRST_S, LOOK_LAST_S, LOOK_GROWTH = 0.05, 0.5, 1.3
"""The result is looked at so soon, then less and less often. It is polled, not subscribed to: a look is safe in any thread,
inside a task and across a restart of Redis, where Celery's shared subscription is not."""
R = TypeVar("R")


class StillRunning(TaskvisorError, TimeoutError):
    """The operation has not ended yet. It goes on; nothing was cancelled."""


class Asker(Protocol):
    """Who made the request: the client."""

    def read_result(self, request_id: str) -> Mapping[str, Any]:
        """What Celery's back end has of it: `status` and `result`. CannotAsk."""
        ...

    def read_operation(self, request_id: str) -> "Operation | None":
        """Its record; None when it is no operation, or not yet, or one that has expired. CannotAsk."""
        ...

    def read_recorded_end(self, request_id: str) -> "Outcome[Any] | None":
        """How it ended, by its record; None when that does not say. CannotAsk."""
        ...

    def why_it_waits(self, request_id: str) -> str:
        """Why it may not go on by itself, and what to do; empty when nothing is known against it. CannotAsk."""
        ...

    def cancel(self, operation: str) -> "Handle[WishView]":
        """Ask an operation to stop and roll back."""
        ...

    def retry(self, operation: str) -> "Handle[WishView]":
        """Let an operation go on, or begin again."""
        ...


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[R]):
    """One look at an operation, as Celery tells it: state, how far it is, and how it ended if it has.

    `held` says which other operation it waits for, at which step, while the state is RETRY.
    """

    state: str
    progress: "Progress | None" = None
    held: str | None = None
    result: R | None = None
    error: TaskvisorError | None = None

    @property
    def ended(self) -> bool:
        return self.state == "SUCCESS" or self.error is not None


class Handle(Generic[R]):
    """One request. It outlives the process that made it: `Taskvisor.handle(id)` takes it up anywhere."""

    def __init__(self, async_result: "AsyncResult[Any]", client: Asker) -> None:
        self.async_result = async_result
        """Celery's own handle. Its blocking `get` shares one subscription between all threads, is refused inside a task of
        Celery, and does not survive a fork; prefer `wait`."""
        self._client = client
        self._end: Outcome[R] | None = None  # as it was seen last: results expire

    @property
    def id(self) -> str:
        """The operation's id."""
        return str(self.async_result.id)

    def look(self) -> Outcome[R]:
        """The operation as it is now, as often as you like. CannotAsk when Redis does not answer.

        A result that has expired is made from the operation's record, which is kept for longer; once that is gone too, this
        handle still knows an end that it has seen.
        """
        meta = self._client.read_result(self.id)
        seen: Outcome[R] = _outcome_from(str(meta["status"]), meta.get("result"))
        if seen.state == "PENDING":
            return self._recorded_end() or self._end or seen
        self._end = seen if seen.ended else None
        return seen

    def state(self) -> str:
        """PENDING (no worker has taken it, or the id is unknown), RETRY (it waits for its turn), PROGRESS, SUCCESS or FAILURE.

        CannotAsk as in `look`.
        """
        return self.look().state

    @property
    def result(self) -> R:
        """What the operation came to. Raises its error; StillRunning when it has not ended; CannotAsk as in `look`."""
        return self._result_of(self.look())

    def wait(self, timeout_s: float = WAIT_LIMIT_S) -> R:
        """The result, once there is one. Raises the operation's error with its message.

        StillRunning when it has not ended within `timeout_s`, with what is known of why: nobody takes requests, its host is
        down, nobody knows of it. CannotAsk when Redis was silent for SILENCE_LIMIT_S; Unauthorised at once.
        """
        deadline, silence = time.monotonic() + timeout_s, _Silence()
        pause_s, seen = LOOK_FIRST_S, Outcome[R](state="PENDING")
        while True:
            with silence.borne():
                seen = self.look()
            left_s = deadline - time.monotonic()
            if seen.ended or left_s <= 0:
                return self._result_of(seen)
            time.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * LOOK_GROWTH, LOOK_LAST_S)

    def follow(self, timeout_s: float = WAIT_LIMIT_S, *, after: str = FROM_START) -> Iterator[StepEvent]:
        """Each thing that happens, as it happens, from the operation's beginning or after the event whose `cursor` is given.

        The last one says how the operation ended (`is_end`); a failure is an event too, and raises nothing. A Redis that is
        away for less than SILENCE_LIMIT_S leaves nothing out. Raises as `wait` does, but for the operation's own error; its
        caller goes on later from the cursor of the last event.
        """
        deadline, silence, pause_s = time.monotonic() + timeout_s, _Silence(), LOOK_FIRST_S
        while True:
            fresh: tuple[StepEvent, ...] = ()
            with silence.borne():
                fresh = self._events_after(after)
            for event in fresh:
                after, pause_s = event.cursor, LOOK_FIRST_S
                yield event
                if event.is_end:
                    return
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise self._still_running(self.look())
            time.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * LOOK_GROWTH, LOOK_LAST_S)

    def cancel(self) -> "Handle[WishView]":
        """Ask the operation to stop and roll back; it does so at its next step boundary. The returned handle is of the wish."""
        return self._client.cancel(self.id)

    def retry(self) -> "Handle[WishView]":
        """Let the operation go on if it is stuck or kept, or begin again if it was rolled back. The returned handle is of the
        wish; this one is of the operation still: once the wish has been taken, `wait` waits for its new end."""
        self._end = None
        return self._client.retry(self.id)

    def _recorded_end(self) -> Outcome[R] | None:
        with suppress(Unauthorised):  # a producer needs no right to records
            return self._client.read_recorded_end(self.id)
        return None

    def _events_after(self, cursor: str) -> tuple[StepEvent, ...]:
        operation = self._client.read_operation(self.id)
        if operation is not None:
            return events_after(cursor, operation)
        seen = self.look()
        if not seen.ended:
            return ()
        if seen.error is None:
            return (end_at_the_door(cursor, EventState.SUCCEEDED, outcome="", message="", at=time.time()),)
        state = EventState.CANCELLED if isinstance(seen.error, errors.Cancelled) else EventState.FAILED
        return (end_at_the_door(cursor, state, outcome=seen.error.code, message=str(seen.error), at=time.time()),)

    def _result_of(self, seen: Outcome[R]) -> R:
        if seen.error is not None:
            raise seen.error
        if seen.state == "SUCCESS":
            return cast(R, seen.result)
        raise self._still_running(seen)

    def _still_running(self, seen: Outcome[R]) -> StillRunning:
        why = ""
        with suppress(CannotAsk):  # that its time is up is known without
            why = self._client.why_it_waits(self.id)
        return StillRunning(_still_running(self.id, seen) + (f": {why}" if why else ""))


class _Silence:
    """How long Redis has been silent. Restarts and fail-overs pass."""

    def __init__(self) -> None:
        self._since: float | None = None

    @contextmanager
    def borne(self) -> Iterator[None]:
        """CannotAsk in the block passes, until there was nothing else for SILENCE_LIMIT_S. Unauthorised does not: it stays so."""
        try:
            yield
            self._since = None
        except Unauthorised:
            raise
        except CannotAsk:
            self._since = self._since or time.monotonic()
            if time.monotonic() - self._since > SILENCE_LIMIT_S:
                raise


def _outcome_from(state: str, result: object) -> Outcome[Any]:
    if state == "SUCCESS":
        return Outcome(state=state, result=result)
    if state == "FAILURE":
        return Outcome(state=state, error=error_for(result))
    if state == "REVOKED":
        return Outcome(state=state, error=errors.Cancelled("the request was revoked before a worker took it"))
    if state == "RETRY":
        return Outcome(state=state, held=str(result))
    progress = cast("Progress", result) if state == "PROGRESS" and isinstance(result, dict) else None
    return Outcome(state=state, progress=progress)


def error_for(stored: object) -> TaskvisorError:
    """The error of `taskvisor.model.errors` that a result stands for; for one that is not ours, its name and its message."""
    if isinstance(stored, TaskvisorError):
        return stored
    return error_of(type(stored).__name__, str(stored))


def error_of(name: str, message: str) -> TaskvisorError:
    """The error of that name with that message; one of the base class that says the name where it is not ours."""
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, TaskvisorError):
        return kind(message)
    return TaskvisorError(": ".join(filter(None, (name, message))))


def _still_running(operation_id: str, seen: Outcome[Any]) -> str:
    progress = seen.progress
    if seen.held is not None:
        return f"operation {operation_id} waits for its turn: {seen.held}"
    if progress is None:
        return f"operation {operation_id} has not been taken by a worker yet (see `taskvisor hosts`)"
    at = f"at step {progress['step']} ({progress['number']} of {progress['of']})" if progress["step"] else "ending"
    return (
        f"operation {operation_id} is still {progress['phase']}, {at} on {progress['host']}; wait again, or cancel it"
    )
