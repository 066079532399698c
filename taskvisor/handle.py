"""One request that was made: looked at, waited for, cancelled. Knows Celery's result by what it says, not who sends."""

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from taskvisor.fields import Progress, WishView
from taskvisor.model import errors
from taskvisor.model.errors import CannotAsk, TaskvisorError

if TYPE_CHECKING:
    from celery.result import AsyncResult

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

    def asking(self, what: str) -> AbstractContextManager[None]:
        """The silence of Redis in the block is CannotAsk."""
        ...

    def cancel(self, operation: str) -> "Handle[WishView]":
        """Ask an operation to stop and roll back."""
        ...


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[R]):
    """One look at an operation, as Celery tells it: state, how far it is, and how it ended if it has.

    `held` says which other operation it waits for, at which step, while the state is RETRY.
    """

    state: str
    progress: Progress | None = None
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
        """Celery's own handle. Its blocking `get` shares one subscription between all threads; prefer `wait`."""
        self._client = client

    @property
    def id(self) -> str:
        """The operation's id."""
        return str(self.async_result.id)

    def look(self) -> Outcome[R]:
        """The operation as it is now. CannotAsk when Redis does not answer."""
        with self._client.asking(f"read the result of operation {self.id}"):
            meta = self.async_result.backend.get_task_meta(self.id, cache=False)
        return _outcome_from(str(meta["status"]), meta.get("result"))

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

        StillRunning when it has not ended within `timeout_s`; CannotAsk when Redis was silent for SILENCE_LIMIT_S.
        """
        deadline = time.monotonic() + timeout_s
        pause_s, seen = LOOK_FIRST_S, Outcome[R](state="PENDING")
        silent_since: float | None = None
        while True:
            try:
                seen, silent_since = self.look(), None
            except CannotAsk:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > SILENCE_LIMIT_S:
                    raise
            left_s = deadline - time.monotonic()
            if seen.ended or left_s <= 0:
                return self._result_of(seen)
            time.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * LOOK_GROWTH, LOOK_LAST_S)

    def cancel(self) -> "Handle[WishView]":
        """Ask the operation to stop and roll back; it does so at its next step boundary."""
        return self._client.cancel(self.id)

    def _result_of(self, seen: Outcome[R]) -> R:
        if seen.error is not None:
            raise seen.error
        if seen.state == "SUCCESS":
            return cast(R, seen.result)
        raise StillRunning(_still_running(self.id, seen))


def _outcome_from(state: str, result: object) -> Outcome[Any]:
    if state == "SUCCESS":
        return Outcome(state=state, result=result)
    if state == "FAILURE":
        return Outcome(state=state, error=error_for(result))
    if state == "REVOKED":
        return Outcome(state=state, error=errors.Cancelled("the request was revoked before a worker took it"))
    if state == "RETRY":
        return Outcome(state=state, held=str(result))
    progress = cast(Progress, result) if state == "PROGRESS" and isinstance(result, dict) else None
    return Outcome(state=state, progress=progress)


def error_for(stored: object) -> TaskvisorError:
    """The error of `taskvisor.model.errors` that a result stands for; for one that is not ours, its name and its message."""
    if isinstance(stored, TaskvisorError):
        return stored
    name, message = type(stored).__name__, str(stored)
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, TaskvisorError):
        return kind(message)
    return TaskvisorError(f"{name}: {message}" if message else name)


def _still_running(operation_id: str, seen: Outcome[Any]) -> str:
    progress = seen.progress
    if seen.held is not None:
        return f"operation {operation_id} waits for its turn: {seen.held}"
    if progress is None:
        return f"operation {operation_id} has not been taken by a worker yet; is one up? see `taskvisor hosts`"
    at = f"at step {progress['step']} ({progress['number']} of {progress['of']})" if progress["step"] else "ending"
    return (
        f"operation {operation_id} is still {progress['phase']}, {at} on {progress['host']}; wait again, or cancel it"
    )
