"""The control node's ear: a thread that runs `virt/events.py`, holds stops back, and asks for looks at guests.

An event is only ever a reason to look: what is asked for is the ordinary power sync of one instance (`host.sync_power_state`),
by a message to this host's control queue, where a fresh look decides. So whatever is lost here (an event, a message, the
listener's process, this thread) costs the wait for the next periodic sync and nothing else, and whatever comes twice is
one look too many. Must never import libvirt: this process forks its pool.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import redis
import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from tasks.edge import SYNC_ONE
from tasks.tick_tasks import SYNC_ALL
from taskvisor.compute.hold_back import HOLD_S, HoldBack
from taskvisor.model.errors import TaskvisorError
from taskvisor.model.ids import HostName
from taskvisor.model.lifecycle import Deaf, GuestEvent, Hearing, Missed, Said
from taskvisor.model.queues import control_queue
from taskvisor.settings import Settings, environment_for
from taskvisor.state.counters import CounterName
from virt.command import LineProgram
from virt.event_lines import parse_line
from workers.node import OpenNode

log = structlog.get_logger(__name__)

TURN_S = 1.0
"""The thread looks up at least so often: at its clock, and whether it is to end."""
LOOKS_AT_ONCE = 20
"""More guests than this at a time, as when a host is shut down, are one look at all: a call instead of hundreds."""
RESTART_FIRST_S, RESTART_LAST_S = 1.0, 60.0
"""Pauses between starts of a listener that dies."""
STEADY_S = 60.0
"""One that has lived for so long is started again quickly."""
END_LIMIT_S = 10.0


class Program(Protocol):
    """What `LineProgram` does."""

    def read_lines(self, wait_s: float) -> tuple[bytes, ...]: ...
    def close(self) -> None: ...


class Ear:
    """What is made of what the listener says. Single-threaded, and has no clock of its own.

    `ask` sends a task of this host with its fields, or raises an error of the broker's, of which `silence` are the classes.
    """

    def __init__(
        self,
        ask: Callable[[str, dict[str, str]], None],
        count: Callable[[CounterName, int], None],
        *silence: type[Exception],
        hold_s: float = HOLD_S,
    ) -> None:
        self._ask = ask
        self._count = count
        self._silence = silence
        self._hold_back = HoldBack(hold_s=hold_s)
        self._told_held = self._told_dropped = 0
        self.hears = False
        """Whether the listener said last that it hears."""

    def take(self, said: Sequence[Said], now: float) -> None:
        """All that was said since the last time, and the time that has gone by: ask for the looks that follow."""
        events = [one for one in said if isinstance(one, GuestEvent)]
        looks = dict.fromkeys(self._hold_back.take(events, now) + self._hold_back.take_due(now))
        for event in events:
            log.info("guest_event_heard", instance=event.instance_id, change=event.change.value, detail=event.detail)
        missed = [self._take_state(one) for one in said]
        if any(missed) or len(looks) > LOOKS_AT_ONCE:
            self._look([(SYNC_ALL, {})])
        else:
            self._look([(SYNC_ONE, {"instance": instance_id}) for instance_id in looks])
        self._count_events(len(events))

    def due_in_s(self, now: float) -> float | None:
        """How soon `take` is to be called though nothing is said; None: no matter."""
        return self._hold_back.due_in_s(now)

    def _take_state(self, said: Said) -> bool:
        """Note what was said of the listening itself. True when events may have been missed before."""
        match said:
            case Hearing():
                self.hears = True
                log.info("guest_events_heard_from_now")
            case Deaf():
                self.hears = False
                log.warning("guest_events_not_heard", reason=said.reason)
                return False
            case Missed():
                self._count(CounterName.GUEST_EVENTS_LOST, said.events)
                log.warning("guest_events_lost", events=said.events)
            case GuestEvent():
                return False
        return True

    def _look(self, looks: Sequence[tuple[str, dict[str, str]]]) -> None:
        asked = 0
        try:
            for task, fields in looks:
                self._ask(task, fields)
                asked += 1
        except self._silence as silence:  # the periodic sync will look, when there is a broker again
            log.warning("looks_not_asked_for", looks=len(looks) - asked, reason=str(silence))
        if asked:
            self._count(CounterName.GUEST_LOOKS, asked)

    def _count_events(self, events: int) -> None:
        held, dropped = self._hold_back.stops_held, self._hold_back.stops_dropped
        counts = (
            (CounterName.GUEST_EVENTS, events),
            (CounterName.GUEST_STOPS_HELD, held - self._told_held),
            (CounterName.GUEST_STOPS_DROPPED, dropped - self._told_dropped),
        )
        self._told_held, self._told_dropped = held, dropped
        for name, amount in counts:
            if amount:
                self._count(name, amount)


class ListenerThread(threading.Thread):
    """Keeps a listener running, within bounds, and lets an `Ear` hear it, until it is stopped."""

    def __init__(
        self,
        ear: Ear,
        open_program: Callable[[], Program],
        note: Callable[[bool], None],
        count: Callable[[CounterName, int], None],
        *,
        note_every_s: float,
    ) -> None:
        """`note` is told whether events are heard, each time that changes and every `note_every_s`."""
        super().__init__(name="listener", daemon=True)
        self._ear = ear
        self._open_program = open_program
        self._note = note
        self._count = count
        self._note_every_s = note_every_s
        self._stopped = threading.Event()
        self._noted: tuple[bool, float] | None = None

    def run(self) -> None:
        pause_s = RESTART_FIRST_S
        while not self._stopped.is_set():
            began_at = time.monotonic()
            try:
                self._listen()
            except Exception as end:
                if not isinstance(end, TaskvisorError):  # ours to mend, but no reason to hear nothing from now on
                    log.exception("listening_failed")
                self._ear.take([Deaf(reason=str(end) or type(end).__name__)], time.monotonic())
                self._count(CounterName.GUEST_LISTENERS_DIED, 1)
            if time.monotonic() - began_at >= STEADY_S:
                pause_s = RESTART_FIRST_S
            self._wait(pause_s)
            pause_s = min(2 * pause_s, RESTART_LAST_S)

    def stop(self) -> None:
        """No listener runs."""
        self._stopped.set()
        if self.is_alive():
            self.join(timeout=END_LIMIT_S)

    def _listen(self) -> None:
        program = self._open_program()
        try:
            while not self._stopped.is_set():
                lines = program.read_lines(self._turn_s())
                self._ear.take([parse_line(line) for line in lines], time.monotonic())
                self._note_if_due()
        finally:
            program.close()

    def _wait(self, pause_s: float) -> None:
        """Until the listener is to be started again. What is held goes on becoming due."""
        until = time.monotonic() + pause_s
        while (left_s := until - time.monotonic()) > 0 and not self._stopped.wait(min(left_s, self._turn_s())):
            self._ear.take([], time.monotonic())
            self._note_if_due()

    def _turn_s(self) -> float:
        due_in_s = self._ear.due_in_s(time.monotonic())
        return TURN_S if due_in_s is None else min(TURN_S, due_in_s)

    def _note_if_due(self) -> None:
        hears, now = self._ear.hears, time.monotonic()
        if self._noted is not None and self._noted[0] is hears and now - self._noted[1] < self._note_every_s:
            return
        self._noted = hears, now
        try:
            self._note(hears)
        except TaskvisorError as silence:
            log.warning("listening_not_noted", reason=str(silence))


def listener_for(app: Celery, node: OpenNode) -> ListenerThread:
    """The listener of this host's libvirt. It asks and notes over connections that it makes itself, when it first does."""
    settings, host = node.settings, HostName(node.settings.host)
    counters, hosts = node.store.counters, node.store.hosts

    def ask(task: str, fields: dict[str, str]) -> None:
        queue = control_queue(host)
        app.send_task(task, kwargs=fields, queue=queue, expires=settings.power_sync_s, ignore_result=True, retry=False)

    def note(hears: bool) -> None:
        hosts.note_listening(host, hears=hears, keep_s=settings.host_down_s)

    # The last for a Redis that answers "out of memory" or "read only", of which kombu makes nothing.
    silence = (OperationalError, *app.connection_for_write().connection_errors, redis.RedisError)
    return ListenerThread(
        Ear(ask, counters.add, *silence),
        lambda: LineProgram(listener_argv(settings), listener_environment(settings)),
        note,
        counters.add,
        note_every_s=settings.heartbeat_s,
    )


def listener_argv(settings: Settings) -> tuple[str, ...]:
    """The listener's command line."""
    return (sys.executable, "-m", "virt.events", settings.libvirt_uri)


def listener_environment(settings: Settings) -> dict[str, str]:
    """The node's own, and its import path: whatever code this process runs, the listener runs too."""
    return {**environment_for(settings), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
