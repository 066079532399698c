"""Keeps programs running: starts again what dies, passes signals on, and stops all in order, each within a bound.

Invariant: single-threaded, and nothing happens but in `attend` and `stop`; a program that is down is down until then.
"""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto

from taskvisor.cli.processes import Program, StopStage, ending_text, has_ended, reap, send, start_process
from taskvisor.cli.signals import PASSED_ON, STOPPING, Signals, receiving_signals

BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.2, 5.0
STEADY_S = 30.0
"""A program that has lived for so long is given a quick start again."""
LOOK_S = 0.1
"""How often a condition is looked at, and at least every ATTENTION_S otherwise."""
ATTENTION_S = 5.0


class Attended(Enum):
    """Why `attend` returned."""

    MET = auto()
    ASKED_TO_STOP = auto()
    TIMED_OUT = auto()


@dataclass
class _Child:
    program: Program
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    backoff_s: float = BACKOFF_FIRST_S
    due_at: float | None = None
    deaths: int = 0


class Supervisor:
    """Of the programs that were started through it. `say` tells people what happens, a sentence at a time."""

    def __init__(self, signals: Signals, say: Callable[[str], None]) -> None:
        self.signals = signals
        self._say = say
        self._children: dict[str, _Child] = {}
        self.killed = False
        """Whether something had to be killed while stopping."""

    def start(self, program: Program) -> None:
        """The program is kept running from now on."""
        self._children[program.name] = _Child(program=program)
        self._start(self._children[program.name])

    def deaths_of(self, name: str) -> int:
        """How often it has ended unasked."""
        return self._children[name].deaths

    def attend(self, until: Callable[[], bool] | None = None, *, limit_s: float | None = None) -> Attended:
        """Keep everything running until the condition is met, a signal asks to stop, or the time is up."""
        deadline = None if limit_s is None else time.monotonic() + limit_s
        while True:
            self._restart_what_is_due()
            if until is not None and until():
                return Attended.MET
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return Attended.TIMED_OUT
            received = self.signals.take(wait_s=self._wait_s(until is not None, now, deadline))
            if received in STOPPING:
                return Attended.ASKED_TO_STOP
            if received in PASSED_ON:
                self._pass_on(received)
            self._note_deaths()

    def stop(self, names: Sequence[str]) -> None:
        """These have ended: each is sent its signals, stage by stage. A further signal to us cuts the stage short."""
        children = [self._children.pop(name) for name in names if name in self._children]
        stages = max((len(child.program.stop) for child in children), default=0)
        for stage in range(stages):
            running = [child for child in children if child.process is not None]
            if not running:
                break
            self._stop_stage([child for child in running if stage < len(child.program.stop)], stage)
        for child in children:
            if child.process is not None:
                self.killed = True
                self._say(
                    f"{child.program.name} ({child.process.pid}) does not end, even when killed; it is left behind"
                )

    def stop_all(self) -> None:
        """Everything has ended, the last started first."""
        for name in reversed(list(self._children)):
            self.stop([name])

    def _stop_stage(self, children: Sequence[_Child], stage: int) -> None:
        limit_s = 0.0
        for child in children:
            step: StopStage = child.program.stop[stage]
            limit_s = max(limit_s, step.limit_s)
            if child.process is None:
                continue
            if stage > 0:
                self._say(f"{child.program.name} is still there; sent {step.signal.name}")
            self.killed = self.killed or step.signal is signal.SIGKILL
            send(child.process, step.signal)
        deadline = time.monotonic() + limit_s
        while any(child.process is not None for child in children) and time.monotonic() < deadline:
            for child in children:
                self._note_asked_end(child)
            if all(child.process is None for child in children):
                return
            if self.signals.take(wait_s=min(0.5, deadline - time.monotonic())) in STOPPING:
                return

    def _note_asked_end(self, child: _Child) -> None:
        if child.process is not None and has_ended(child.process):
            reap(child.process)
            child.process = None

    def _wait_s(self, looks: bool, now: float, deadline: float | None) -> float:
        waits = [LOOK_S if looks else ATTENTION_S]
        waits += [child.due_at - now for child in self._children.values() if child.due_at is not None]
        if deadline is not None:
            waits.append(deadline - now)
        return max(0.0, min(waits))

    def _start(self, child: _Child) -> None:
        child.due_at, child.started_at = None, time.monotonic()
        try:
            child.process = start_process(child.program, self.signals.inherited)
        except OSError as error:
            self._note_death(child, f"could not be started: {error}")

    def _restart_what_is_due(self) -> None:
        now = time.monotonic()
        for child in self._children.values():
            if child.due_at is not None and child.due_at <= now:
                self._start(child)

    def _pass_on(self, number: signal.Signals | None) -> None:
        for child in self._children.values():
            if number is not None and child.process is not None:
                send(child.process, number)

    def _note_deaths(self) -> None:
        self.signals.drain_children()
        for child in self._children.values():
            if child.process is not None and has_ended(child.process):
                returncode = reap(child.process)
                child.process = None
                self._note_death(child, ending_text(returncode))

    def _note_death(self, child: _Child, how: str) -> None:
        now = time.monotonic()
        lived_s = now - child.started_at
        if lived_s >= STEADY_S:
            child.backoff_s = BACKOFF_FIRST_S
        child.deaths += 1
        child.due_at = now + child.backoff_s
        self._say(f"{child.program.name} {how} after {lived_s:.1f} s; it is started again in {child.backoff_s:g} s")
        child.backoff_s = min(child.backoff_s * 2, BACKOFF_LAST_S)


@contextmanager
def open_supervisor(say: Callable[[str], None]) -> Iterator[Supervisor]:
    """A supervisor; at the end, however that comes, everything it started is stopped."""
    with receiving_signals() as signals:
        supervisor = Supervisor(signals, say)
        try:
            yield supervisor
        finally:
            supervisor.stop_all()
