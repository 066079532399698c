"""Watching operations: what is seen of each, round by round, until all have ended. Shows nothing and asks for nothing.

The stream of events says when to look; that records are read again every POLL_S as well makes a missed event cost a moment.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from taskvisor.cli.exits import ExitCode, code_for
from taskvisor.cli.records import Records
from taskvisor.client import Taskvisor
from taskvisor.client.handle import Outcome
from taskvisor.model import errors
from taskvisor.model.errors import CannotAsk, TaskvisorError
from taskvisor.model.ids import OperationId
from taskvisor.model.operation import Failure, Operation
from taskvisor.model.states import Phase

ROUND_S = 0.2
LEAST_ROUND_S = 0.05
"""A busy fleet has an event each millisecond; nobody looks that quickly."""
POLL_S = 0.6
SILENCE_LIMIT_S = 30.0
CLOCKS_DIFFER_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is watched. `verb` and `subject` are what people call it: delete web-1.

    `known_tries` of its timeline are of before, and no news.
    """

    verb: str
    subject: str
    operation_id: str
    known_tries: int = 0


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How it ended. Either `result` or `error` is there."""

    code: ExitCode
    result: Mapping[str, Any] | None = None
    error: TaskvisorError | None = None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a long step has come."""

    step: str
    done_bytes: int
    total_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One operation, as it was seen last. `operation` is None until a worker has let it in (some never are: see the door).

    Until then `held` says which other operation it waits for, if it does.
    """

    request: Request
    operation: Operation | None = None
    held: str | None = None
    progress: Progress | None = None
    ending: Ending | None = None
    read_at: float = -math.inf


@dataclass
class Watch:
    """Looks at several operations at once. Bears a silent Redis for SILENCE_LIMIT_S, then raises CannotAsk."""

    records: Records
    client: Taskvisor
    requests: Sequence[Request]
    silent_since: float | None = None
    _seen: dict[str, Seen] = field(default_factory=dict)
    _cursor: str = ""

    def rounds(self, *, limit_s: float) -> Iterator[tuple[Seen, ...]]:
        """What is seen of all of them, again and again, until all have ended or the time is up."""
        deadline = time.monotonic() + limit_s
        self._seen = {request.operation_id: Seen(request=request) for request in self.requests}
        self._cursor = f"{int((time.time() - CLOCKS_DIFFER_S) * 1000)}-0"
        while True:
            self._look()
            seen = tuple(self._seen[request.operation_id] for request in self.requests)
            yield seen
            if all(one.ending for one in seen) or time.monotonic() > deadline:
                return

    def _look(self) -> None:
        began = time.monotonic()
        try:
            for operation_id, seen in self._seen.items():
                if seen.ending is None and time.monotonic() - seen.read_at > POLL_S:
                    self._seen[operation_id] = self._read(seen)
            for operation_id in self._wait_for_events():
                self._seen[operation_id] = self._read(self._seen[operation_id])
            self.silent_since = None
            time.sleep(max(0.0, LEAST_ROUND_S - (time.monotonic() - began)))
        except CannotAsk:
            self.silent_since = self.silent_since or began
            if time.monotonic() - self.silent_since > SILENCE_LIMIT_S:
                raise
            time.sleep(ROUND_S)

    def _wait_for_events(self) -> frozenset[str]:
        """Those of ours to read again; waits for at most one round, and not when all has ended."""
        open_ones = {operation_id for operation_id, seen in self._seen.items() if seen.ending is None}
        if not open_ones:
            return frozenset()
        events = self.records.events.read_after(self._cursor, wait_s=min(ROUND_S, self.records.event_wait_limit_s))
        if events:
            self._cursor = events[-1].cursor
        at_work = {operation_id for operation_id in open_ones if self._seen[operation_id].progress is not None}
        undecided = {operation_id for operation_id in open_ones if self._seen[operation_id].operation is None}
        return frozenset({event.operation_id for event in events} & open_ones | at_work | undecided)

    def _read(self, seen: Seen) -> Seen:
        operation_id = OperationId(seen.request.operation_id)
        operation = self.records.catalog.read_operation(operation_id)
        read_at = time.monotonic()
        if operation is None:
            outcome = self.client.handle(operation_id).look()
            if outcome.ended:  # it may have become an operation, and ended, between the two looks
                operation = self.records.catalog.read_operation(operation_id)
        if operation is None:
            return replace(seen, held=outcome.held, ending=_ending_at_the_door(outcome), read_at=read_at)
        progress = self._progress_of(operation) if operation.runner is not None else None
        return replace(seen, operation=operation, progress=progress, ending=ending_of(operation), read_at=read_at)

    def _progress_of(self, operation: Operation) -> Progress | None:
        found = self.records.catalog.read_progress(operation.id)
        if found is None or found[0] != operation.current_step:
            return None
        step, done_bytes, total_bytes = found
        return Progress(step=step, done_bytes=done_bytes, total_bytes=total_bytes)


def _ending_at_the_door(outcome: Outcome[Any]) -> Ending | None:
    """Requests that are refused, or whose wish is true already, never become operations: only Celery knows of them."""
    if outcome.error is not None:
        return Ending(code=code_for(outcome.error), error=outcome.error)
    return _success(outcome.result) if outcome.ended else None


def ending_of(operation: Operation) -> Ending | None:
    """How the operation ended; None while it has not."""
    if not operation.phase.settled:
        return None
    if operation.phase is Phase.SUCCEEDED:
        return _success(operation.result or {})
    error = _error_of(operation.failure)
    return Ending(code=code_for(error), error=error)


def _success(result: Mapping[str, Any] | None) -> Ending:
    result = result or {}
    return Ending(code=ExitCode.ALREADY if result.get("already") else ExitCode.DONE, result=result)


def _error_of(failure: Failure | None) -> TaskvisorError:
    if failure is None:
        return TaskvisorError("it ended without a reason")
    kind = getattr(errors, failure.code, None)
    if isinstance(kind, type) and issubclass(kind, TaskvisorError):
        return kind(failure.message)
    return TaskvisorError(f"{failure.code}: {failure.message}")
