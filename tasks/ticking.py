"""How a periodic task is run: in its turn, once at a time, and with what came of it recorded.

Invariant: a message is only ever a reason to begin. One that comes twice, late, or in a heap after a silence begins nothing while
a run goes on, nor within half a period of the last beginning. A task that is asked for without a period (a host's start, an
event) is wanted now: it is begun all the same. Proof that a run goes on is not a note: on a host it is a lock that the kernel
takes back from a dead process, for the fleet a key that expires when the task's time limit is over.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from math import isfinite
from typing import Protocol
from uuid import uuid4

import structlog

from taskvisor.model.errors import Refused, TaskvisorError
from taskvisor.model.ids import HostName
from taskvisor.model.tick import DONE, Counts, Run, Turn
from taskvisor.state.ticks import Ticks

log = structlog.get_logger(__name__)

SOON = 0.5
"""Of a period: a run that would begin sooner after the last one does not."""
MARGIN_S = 30.0
"""From a task's time limit to when its process is gone for certain."""
REASON_CHARACTERS = 300

Work = Callable[[], Counts]


class HostTurns(Protocol):
    """The turns of this host's periodic tasks, shared by all its processes."""

    def hold(self, task: str, *, soon_s: float) -> AbstractContextManager[Turn]:
        """Enter with TAKEN: no other process of this host runs the task until it leaves. Else why not. Never blocks.

        `soon_s` counts from the last beginning by a clock that nobody sets; 0: it never comes too soon.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Ticker:
    """Runs the periodic tasks of one host, and the fleet's when they come here."""

    ticks: Ticks
    host: HostName
    turns: HostTurns
    now: Callable[[], float]
    steady: Callable[[], float]
    """Seconds by a clock that nobody sets."""

    def run_here(self, task: str, work: Work, period_s: float | None = None) -> Turn:
        """The host's task was run, unless it was not its turn. What it raised is recorded, and raised."""
        if period_s is None:
            self._recorded(task, work, None)
            return Turn.TAKEN
        with self.turns.hold(task, soon_s=SOON * checked_period_s(period_s)) as turn:
            if turn is Turn.TAKEN:
                self._recorded(task, work, period_s)
        return self._told(task, turn)

    def run_for_fleet(self, task: str, work: Work, *, limit_s: float, period_s: float | None = None) -> Turn:
        """The fleet's task was run here, unless it was not its turn. `limit_s`: no run lives longer."""
        token, soon_s = uuid4().hex, 0.0 if period_s is None else SOON * checked_period_s(period_s)
        turn = self.ticks.take_turn(task, token, keep_s=limit_s + MARGIN_S, soon_s=soon_s)
        if turn is Turn.TAKEN:
            try:
                self._recorded(task, work, period_s)
            finally:
                with suppress(TaskvisorError):  # it expires
                    self.ticks.give_back_turn(task, token)
        return self._told(task, turn)

    def _recorded(self, task: str, work: Work, period_s: float | None) -> None:
        began_at, started = self.now(), self.steady()
        outcome, counts, reason = DONE, dict[str, int](), None
        try:
            counts = {word: number for word, number in work().items() if number}
        except Exception as error:
            outcome, reason = type(error).__name__, str(error)[:REASON_CHARACTERS]
            raise
        finally:
            run = Run(
                task=task,
                host=self.host,
                began_at=began_at,
                took_s=round(self.steady() - started, 6),
                outcome=outcome,
                counts=counts,
                reason=reason,
                period_s=period_s,
            )
            self._note(run)

    def _note(self, run: Run) -> None:
        """What it did is done: that it could not be recorded is logged, and no failure of its."""
        try:
            self.ticks.note(run)
        except TaskvisorError as silence:
            log.warning("tick_not_recorded", task=run.task, outcome=run.outcome, reason=str(silence))

    def _told(self, task: str, turn: Turn) -> Turn:
        if turn is not Turn.TAKEN:
            log.info("tick_skipped", task=task, turn=turn.value)
            with suppress(TaskvisorError):
                self.ticks.count_skipped(task, turn)
        return turn


def checked_period_s(period_s: float) -> float:
    """The period. Anyone can send a message: Refused, in words, when it is none."""
    if (
        isinstance(period_s, bool)
        or not isinstance(period_s, int | float)
        or not 0 < period_s < 1e9
        or not isfinite(period_s)
    ):
        raise Refused(f"period_s: {period_s!r}: must be a number of seconds, more than 0")
    return float(period_s)
