"""What beat sends, and how often: the timetable (`taskvisor/timetable.py`) in Celery's words, and as a page for people.

    python -m beat_schedule > docs/timetable.md

What is for hosts is sent in slices: `SLICES` fan-outs in each period, each to the hosts whose names fall into the next slice.
So hosts don't move in step, and no message waits in a worker's memory for its time, where a clock that is wrong could keep it.
The sending is harmless to repeat and to lose: who takes a tick up decides whether it is due (`tasks/ticking.py`).
"""

from datetime import timedelta
from typing import Any

from taskvisor.settings import Settings
from taskvisor.timetable import ROWS, Row, Where, period_s_of

SLICES = 4
KEEP_PERIODS, KEEP_AT_LEAST_S = 10, 3600.0
"""A message that nobody takes is gone after so many periods, but not before the clocks of two machines can be that far apart: by
its own clock a node drops what seems to have expired, and one that is fast would drop every tick."""

HEAD = """# The timetable

Made by `python -m beat_schedule` from `taskvisor/timetable.py`; do not edit. `taskvisor ticks` shows when each was done last, how
long it took and what came of it; the metrics `taskvisor_tick_…` tell the same. A period of 0 turns a task off.

| name | task | done by | setting | period | why |
|---|---|---|---|---|---|
"""
TAIL = """
What is for hosts is sent to those whose node lives, a quarter of them at a time, spread over the period by their names. A task
that is still running is not begun again, nor one that was begun less than half a period ago, however many messages say so.

Time-outs of rescue, of resize and of migrations have no row: there is nothing yet that they could end.

## When a clock jumps

Ages that end in something being taken away (a build's time-out, the reclaim of what was deleted softly) are not read off a
clock. They are counted: each look adds the time since the last one, and never more than two periods. So a clock that jumps ahead
ends nothing early, time in which nobody looked does not count, and one that jumps back stops nothing. Beat notices when a task
would be due only after more than a period, and does it now. A message that nobody took lives for ten periods, and an
hour at least, so that nodes whose clocks are minutes apart drop none of each other's.

What goes by the clock is what can be had again: an image in the cache, by when it was last asked for; but never one that a
disk stands on.
"""


def schedule_for(settings: Settings) -> dict[str, dict[str, Any]]:
    """The `beat_schedule` of these settings."""
    periods = {row: period_s_of(row, settings) for row in ROWS}
    return {row.name: _entry_for(row, period_s) for row, period_s in periods.items() if period_s is not None}


def _entry_for(row: Row, period_s: float) -> dict[str, Any]:
    if row.where is Where.FLEET:
        return _entry(row.task, period_s, period_s, {"period_s": period_s})
    return _entry("host.fan_out", period_s / SLICES, period_s, {"task": row.task, "period_s": period_s})


def _entry(task: str, every_s: float, period_s: float, kwargs: dict[str, Any]) -> dict[str, Any]:
    options = {"queue": "compute", "expires": expires_s_for(period_s), "ignore_result": True}
    return {"task": task, "schedule": timedelta(seconds=every_s), "kwargs": kwargs, "options": options}


def expires_s_for(period_s: float) -> float:
    """How long a message of a task with that period may wait to be taken."""
    return max(KEEP_AT_LEAST_S, KEEP_PERIODS * period_s)


def timetable_page() -> str:
    """The page, in Markdown."""
    return HEAD + "".join(map(_line, ROWS)) + TAIL


def _line(row: Row) -> str:
    settings = Settings.model_fields
    period = f"{settings[row.period].default:g} s" if settings[row.period].default else "off"
    needs = "" if row.needs is None else f" (needs `TASKVISOR_{row.needs.upper()}`)"
    cells = (row.name, f"`{row.task}`", row.where.value, f"`TASKVISOR_{row.period.upper()}`{needs}", period, row.reason)
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    print(timetable_page(), end="")
