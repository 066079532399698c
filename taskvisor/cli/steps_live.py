"""What is seen of operations, drawn anew each round on a terminal: steps with a mark and their time, a bar for long ones."""

import time
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from taskvisor.cli.quantities import bytes_text, seconds_text
from taskvisor.cli.safe_text import safe_line
from taskvisor.cli.views import step_seconds
from taskvisor.cli.watch import Progress, Seen
from taskvisor.model.operation import Operation, StepRecord
from taskvisor.model.states import Mark, Phase

WORKER_IS_LATE_S = 3.0
BAR_WIDTH = 24
REFRESHES_PER_SECOND = 10
STEPS_SHOWN_FOR = 1
"""Of one operation every step is shown; of several, a line each."""


class LiveSteps:
    """Use it with `with`; what was drawn last stays."""

    def __init__(self, console: Console) -> None:
        ascii_only = not console.encoding.lower().startswith("utf")
        self._marks = {"done": "+", "undone": "<", "failed": "x", "waiting": "."} if ascii_only else UNICODE_MARKS
        self._spinner = Spinner("line" if ascii_only else "dots", style="cyan")
        self._live = Live(console=console, refresh_per_second=REFRESHES_PER_SECOND, transient=False)
        self._began = time.monotonic()

    def __enter__(self) -> "LiveSteps":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, seen: Sequence[Seen]) -> None:
        """Draw what is seen now."""
        if len(seen) == STEPS_SHOWN_FOR:
            self._live.update(self._steps_of(seen[0]))
            return
        grid = _grid()
        for one in seen:
            grid.add_row(*self._line_of(one))
        self._live.update(grid)

    def _steps_of(self, seen: Seen) -> RenderableType:
        operation = seen.operation
        if operation is None:
            return self._not_let_in(seen)
        grid = _grid()
        for step in operation.steps:
            grid.add_row(*self._row_of(operation, step, seen.progress))
        return Group(_heading(seen, operation), grid)

    def _not_let_in(self, seen: Seen) -> RenderableType:
        if seen.ending is not None:
            return Text("")
        text = f"{seen.request.verb} {seen.request.subject}: waiting for a worker to take it"
        if seen.held is not None:
            text = f"{seen.request.verb} {seen.request.subject}: waiting for its turn: {seen.held}"
        elif time.monotonic() - self._began > WORKER_IS_LATE_S:
            text += " (is one up? see `taskvisor hosts`)"
        grid = _grid()
        grid.add_row(self._spinner, safe_line(text), "", "")
        return grid

    def _row_of(
        self, operation: Operation, step: StepRecord, progress: Progress | None
    ) -> tuple[RenderableType, RenderableType, RenderableType, RenderableType]:
        took_s = step_seconds(operation, step, time.time())
        took = "" if took_s is None else seconds_text(took_s)
        current = operation.current_step == step.name and not operation.phase.settled
        if current:
            what = _bar(progress) if progress is not None and progress.step == step.name else _trouble(operation, step)
            return self._spinner, Text(step.name, style="cyan"), took, what
        undone = Text("undone" if step.undo is Mark.DONE else "", style="yellow")
        if operation.failure is not None and operation.failure.step == step.name:
            return Text(self._marks["failed"], style="red"), step.name, took, undone
        if step.undo is Mark.DONE:
            return Text(self._marks["undone"], style="yellow"), step.name, took, undone
        if step.do is Mark.DONE:
            return Text(self._marks["done"], style="green"), step.name, took, ""
        return Text(self._marks["waiting"], style="dim"), Text(step.name, style="dim"), took, ""

    def _line_of(self, seen: Seen) -> tuple[RenderableType, RenderableType, RenderableType, RenderableType]:
        operation, subject = seen.operation, safe_line(seen.request.subject)
        if seen.ending is not None:
            failed = seen.ending.error is not None
            mark = Text(self._marks["failed"], "red") if failed else Text(self._marks["done"], "green")
            took = seconds_text(operation.updated_at - operation.created_at) if operation else ""
            return mark, subject, took, "already so" if not failed and operation is None else ""
        if operation is None:
            return self._spinner, subject, "", "waiting for a worker"
        took = seconds_text(time.time() - operation.created_at)
        return self._spinner, subject, took, _where(operation)


UNICODE_MARKS = {"done": "✓", "undone": "↶", "failed": "✗", "waiting": "·"}


def _grid() -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=1)
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True, min_width=6)
    grid.add_column(overflow="fold")
    return grid


def _heading(seen: Seen, operation: Operation) -> Text:
    heading = Text(f"{seen.request.verb} {safe_line(seen.request.subject)}", style="bold")
    heading.append(f" on {operation.host}, operation {operation.id}", style="dim")
    if operation.phase is Phase.ROLLING_BACK and operation.failure is not None:
        heading.append(f"\nrolling back: {safe_line(operation.failure.message)}", style="yellow")
    if operation.phase is Phase.WAITING:
        heading.append("\nwaiting for the operation that holds the instance to stop", style="yellow")
    return heading


def _bar(progress: Progress) -> RenderableType:
    done, total = progress.done_bytes, progress.total_bytes
    if not total:
        return Text(bytes_text(done), style="dim")
    row = Table.grid(padding=(0, 1, 0, 0))
    bar = ProgressBar(total=total, completed=min(done, total), width=BAR_WIDTH)
    row.add_row(bar, Text(f"{min(done, total) * 100 // total} % of {bytes_text(total)}", style="dim"))
    return row


def _trouble(operation: Operation, step: StepRecord) -> Text:
    """What the last try of this step said, if there was one and it failed."""
    last = operation.timeline[-1] if operation.timeline else None
    if last is None or last.step != step.name or last.message is None or last.direction is not operation.direction:
        return Text("")
    return Text(f"try {last.attempt}: {safe_line(last.message)}", style="yellow")


def _where(operation: Operation) -> str:
    step = operation.current_step
    if step is None:
        return "ending"
    undoing = "undoing " if operation.phase is Phase.ROLLING_BACK else ""
    return f"{undoing}{step} ({operation.number_of(step)} of {len(operation.steps)})"
