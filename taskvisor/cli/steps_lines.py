"""What is seen of operations, as plain lines with the time: for logs and pipes, where nothing can be drawn over."""

import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from taskvisor.cli.quantities import bytes_text, clock_text, seconds_text
from taskvisor.cli.safe_text import safe_line
from taskvisor.cli.watch import Seen
from taskvisor.model.operation import Operation, TimelineEntry
from taskvisor.model.states import Direction, Phase

WORKER_IS_LATE_S = 3.0
PROGRESS_EVERY_S = 10.0


class Lines:
    """A line for each thing that is new since the last round. Use it with `with`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._told: set[tuple[object, ...]] = set()
        self._progress_told_at = time.monotonic()

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, seen: Sequence[Seen]) -> None:
        """Tell what is new."""
        for one in seen:
            for at, key, text in _news(one):
                self._tell(one, at, key, text)
            self._tell_lateness(one)
            self._tell_progress(one)

    def _tell(self, seen: Seen, at: float, key: tuple[object, ...], text: str) -> None:
        if (seen.request.operation_id, *key) in self._told:
            return
        self._told.add((seen.request.operation_id, *key))
        self._console.print(Text(f"{clock_text(at)}  {safe_line(seen.request.subject)}  {safe_line(text)}"))

    def _tell_lateness(self, seen: Seen) -> None:
        if seen.operation is not None or seen.ending is not None:
            return
        if seen.held is not None:
            self._tell(seen, time.time(), ("held", seen.held), f"waiting for its turn: {seen.held}")
        elif time.monotonic() - self._began > WORKER_IS_LATE_S:
            self._tell(seen, time.time(), ("late",), "no worker has taken it yet; is one up? see `taskvisor hosts`")

    def _tell_progress(self, seen: Seen) -> None:
        progress, now = seen.progress, time.monotonic()
        if progress is None or now - self._progress_told_at < PROGRESS_EVERY_S:
            return
        self._progress_told_at = now
        total = f" of {bytes_text(progress.total_bytes)}" if progress.total_bytes else ""
        text = f"{progress.step}: {bytes_text(progress.done_bytes)}{total}"
        self._tell(seen, time.time(), ("progress", progress.done_bytes), text)


News = tuple[float, tuple[object, ...], str]
"""When, what makes it different from others, and what to tell."""


def _news(seen: Seen) -> Iterator[News]:
    operation = seen.operation
    if operation is None:
        return
    yield operation.created_at, ("accepted", operation.host), f"{seen.request.verb} on {operation.host}: {operation.id}"
    began = operation.created_at
    for entry in operation.timeline[seen.request.known_tries :]:
        yield from _entry_news(entry)
        began = entry.ended_at
    if operation.phase is Phase.ROLLING_BACK and operation.failure is not None:
        failure = operation.failure
        yield began, ("turned", failure.step, failure.message), f"rolling back: {failure.step}: {failure.message}"
    if operation.phase is Phase.WAITING:
        yield operation.updated_at, ("waiting",), "waiting for the operation that holds the instance to stop"
    if operation.runner is not None:
        yield from _running_news(operation)
    if operation.phase.settled:
        took = seconds_text(operation.updated_at - operation.created_at)
        yield operation.updated_at, ("ended", operation.revision), f"{operation.phase.value} after {took}"


def _entry_news(entry: TimelineEntry) -> Iterator[News]:
    name = f"undo of {entry.step}" if entry.direction is Direction.UNDO else entry.step
    if entry.message is None:
        text = f"{name} {entry.outcome} in {seconds_text(entry.ended_at - entry.started_at)}"
    else:
        text = f"{name}, try {entry.attempt}: {entry.outcome}: {entry.message}"
    waits = entry.outcome == "Busy"  # again and again, of the same: it is told once
    key = ("entry", name, entry.outcome, entry.message if waits else entry.started_at)
    yield entry.ended_at, key, text


def _running_news(operation: Operation) -> Iterator[News]:
    name = operation.current_step
    if name is None:
        return
    step = operation.step(name)
    undo = operation.direction is Direction.UNDO
    attempt = step.undo_tries if undo else step.tries
    text = f"{'undo of ' if undo else ''}{name} started"
    if attempt > 1:
        text += f", try {attempt}"
    yield operation.updated_at, ("running", name, undo, attempt, operation.host), text
