"""`taskvisor ticks`: what is done again and again, when it was done last, and what is late."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from taskvisor.cli.quantities import age_text, seconds_text, time_text
from taskvisor.cli.records import complete_host, open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, show_rows
from taskvisor.model.ids import HostName
from taskvisor.model.tick import DONE, Punctuality, Run, punctuality_for
from taskvisor.settings import Settings
from taskvisor.timetable import BY_TASK, LATE_PERIODS, ROWS, Row, Where, period_s_of


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of the timetable where it is done. `run` None: it was never done there."""

    row: Row
    host: str
    period_s: float
    run: Run | None
    punctuality: Punctuality


def ticks(
    host: Annotated[str | None, typer.Option(help="Only what this host does.", autocompletion=complete_host)] = None,
    task: Annotated[str | None, typer.Option(help="The last runs of this task, by its name: track, sweep, …")] = None,
    late: Annotated[bool, typer.Option("--late", help="Only what is late, has failed, or was never done.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show periodic tasks: when each was done last, how long it took and what came of it."""
    settings = settings_or_usage_error()
    with open_records(settings) as records:
        hosts = [name for name, alive in records.hosts.list_alive() if alive and host in (None, name)]
        if task is not None:
            found = [run for name in hosts for run in records.ticks.list_runs(name, _task_named(task))]
            _show_runs(found, form)
            return
        runs = records.ticks.list_last(hosts)
    lines = [line for line in _lines(settings, hosts, runs, time.time()) if not late or _is_bad(line)]
    views = [_line_view(line) for line in lines]
    columns = ("TASK", "HOST", "#PERIOD", "#LAST", "#TOOK", "OUTCOME", "COUNTED", "STATE")
    show_rows(
        form, columns, map(_cells, lines), views, empty="Nothing is late." if late else "No host lives: start one."
    )


def _task_named(name: str) -> str:
    return next((row.task for row in ROWS if row.name == name), name)


def _lines(settings: Settings, hosts: list[HostName], runs: tuple[Run, ...], now: float) -> Iterator[Line]:
    """By the settings of who asks: the nodes' own may be others, which is told by what is late."""
    for row in ROWS:
        period_s = period_s_of(row, settings)
        if period_s is None:
            continue
        here = [run for run in runs if run.task == row.task]
        if row.where is Where.FLEET:
            latest = max(here, key=lambda run: run.began_at, default=None)
            places = [(latest.host if latest else "-", latest)]
        else:
            places = [(host, next((run for run in here if run.host == host), None)) for host in hosts]
        for place, run in places:
            punctuality = punctuality_for(run, period_s=period_s, late_periods=LATE_PERIODS, now=now)
            yield Line(row=row, host=place, period_s=period_s, run=run, punctuality=punctuality)


def _is_bad(line: Line) -> bool:
    return line.punctuality is not Punctuality.ON_TIME or (line.run is not None and line.run.outcome != DONE)


def _cells(line: Line) -> tuple[str, ...]:
    run, period = line.run, seconds_text(line.period_s)
    if run is None:
        return (line.row.name, line.host, period, "-", "-", "-", "-", line.punctuality.value)
    state = line.punctuality.value
    if line.punctuality is Punctuality.LATE:
        state = f"late by {int((time.time() - run.began_at) / line.period_s)} periods"
    last = f"{age_text(time.time() - run.began_at)} ago"
    return (line.row.name, line.host, period, last, seconds_text(run.took_s), _outcome(run), _counted(run), state)


def _outcome(run: Run) -> str:
    return run.outcome if run.reason is None else f"{run.outcome}: {run.reason}"


def _counted(run: Run) -> str:
    return ", ".join(f"{number} {word.replace('_', ' ')}" for word, number in run.counts.items()) or "-"


def _line_view(line: Line) -> dict[str, object]:
    return {
        "name": line.row.name,
        "task": line.row.task,
        "host": None if line.host == "-" else line.host,
        "period_s": line.period_s,
        "state": line.punctuality.value,
        "last": None if line.run is None else asdict(line.run),
    }


def _show_runs(runs: list[Run], form: Format) -> None:
    views = [asdict(run) for run in runs]
    rows = (
        (
            BY_TASK[run.task].name,
            run.host,
            time_text(run.began_at),
            seconds_text(run.took_s),
            _outcome(run),
            _counted(run),
        )
        for run in runs
    )
    columns = ("TASK", "HOST", "BEGAN", "#TOOK", "OUTCOME", "COUNTED")
    show_rows(form, columns, rows, views, empty="No run of it is recorded; see `taskvisor ticks`.")
