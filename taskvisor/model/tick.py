"""A run of a periodic task, as it is recorded: what came of it, how long it took, and what it counted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from taskvisor.model.ids import HostName

Counts = Mapping[str, int]
"""What a run counted, by words of its own: how many hosts fell silent, how many records changed."""

DONE = "done"
"""The outcome of a run that raised nothing; of any other it is the class of what it raised."""


class Turn(StrEnum):
    """Whether a run may begin now."""

    TAKEN = "taken"
    RUNNING = "running"  # one has begun and has not ended
    TOO_SOON = "too_soon"  # one was begun less than half a period ago


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run. `host` is where it ran; `period_s` is None when it was asked for out of turn."""

    task: str
    host: HostName
    began_at: float
    took_s: float
    outcome: str
    counts: Counts = field(default_factory=dict)
    reason: str | None = None
    period_s: float | None = None


class Punctuality(StrEnum):
    """How the last run of a periodic task stands to its period."""

    ON_TIME = "on time"
    LATE = "late"
    NEVER = "never run"
    AHEAD = "ahead of this clock"


def punctuality_for(run: Run | None, *, period_s: float, late_periods: int, now: float) -> Punctuality:
    """Judged by one clock, and the run was written by another's: a run from the future tells of the clocks, not of the task."""
    if run is None:
        return Punctuality.NEVER
    age_s = now - run.began_at
    if age_s < -period_s:
        return Punctuality.AHEAD
    return Punctuality.LATE if age_s > late_periods * period_s else Punctuality.ON_TIME
