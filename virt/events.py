"""Listens to one libvirt and says what happens to its guests, a line each: `python -m virt.events URI`. A door to libvirt.

A process of its own, with a libvirt of its own: a node's parent forks its pool, and a process that has libvirt's threads
must not fork. It ends with who started it. A callback runs in libvirt's event loop, on which keep-alives depend, so all
that it does is to put the event into a queue with a limit; the lines are written by the main thread. A libvirtd that is
away, hangs or is restarted is told, and looked for as long as it takes, less and less often.

Nothing here knows what an event is good for. It asks libvirt for nothing but events (virConnectDomainEventRegisterAny,
VIR_DOMAIN_EVENT_ID_LIFECYCLE; a reboot from inside is no change of power, so VIR_DOMAIN_EVENT_ID_REBOOT is not asked for).
https://libvirt.org/html/libvirt-libvirt-domain.html#virConnectDomainEventRegisterAny
"""

import contextlib
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable

import libvirt
import structlog

from taskvisor.model.errors import TaskvisorError
from taskvisor.model.ids import InstanceId
from taskvisor.model.lifecycle import Deaf, GuestEvent, Hearing, Missed, Said
from virt.connection import LibvirtConnection
from virt.event_lines import line_for
from virt.event_words import guest_event_for

QUEUE_LIMIT = 10_000
"""Events that wait to be told; further ones are lost, and counted."""
LOOK_S = 1.0
"""How often it is looked whether the connection still lives: a look at a flag, nothing is sent."""
REOPEN_FIRST_S, REOPEN_LAST_S = 1.0, 30.0
"""Pauses between attempts to reach a libvirtd that is away."""


class LifecycleEvents:
    """Lifecycle events of one libvirt, from whichever connection lives. Making it opens nothing."""

    def __init__(self, uri: str, *, queue_limit: int = QUEUE_LIMIT) -> None:
        self._connection = LibvirtConnection(uri, before_close=self._deregister)
        self._queue: queue.Queue[GuestEvent] = queue.Queue(queue_limit)
        self._missed = 0
        self._missed_lock = threading.Lock()
        self._registered: tuple[libvirt.virConnect, int] | None = None

    def ensure_listening(self) -> bool:
        """Every event from now on is heard. True when that was not so before: events may have been missed.

        CannotAsk and its kin when libvirtd cannot be reached; bounded in time as `LibvirtConnection.run` is.
        """
        return self._connection.run("listen to what happens to guests", self._ensure_registered)

    def take(self, wait_s: float) -> tuple[GuestEvent, ...]:
        """What was heard since the last time; when that is nothing, what is heard first within `wait_s`."""
        taken: list[GuestEvent] = []
        with contextlib.suppress(queue.Empty):
            taken.append(self._queue.get(timeout=wait_s))
            while len(taken) < self._queue.maxsize:
                taken.append(self._queue.get_nowait())
        return tuple(taken)

    def take_missed(self) -> int:
        """How many events did not fit into the queue since the last time."""
        with self._missed_lock:
            missed, self._missed = self._missed, 0
        return missed

    def close(self) -> None:
        """Nothing is heard any more."""
        self._connection.close()

    def _ensure_registered(self, connection: libvirt.virConnect) -> bool:
        if self._registered is not None and self._registered[0] is connection:
            return False
        number = connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._hear, None)
        self._registered = connection, number
        return True

    def _deregister(self, connection: libvirt.virConnect) -> None:
        """A callback holds its connection: left there, each reconnect would leave a socket behind."""
        registered, self._registered = self._registered, None
        if registered is not None and registered[0] is connection:
            with contextlib.suppress(libvirt.libvirtError):  # on this side it is taken away, also when nobody answers
                connection.domainEventDeregisterAny(registered[1])

    def _hear(self, _: libvirt.virConnect, domain: libvirt.virDomain, event: int, detail: int, _opaque: None) -> None:
        """In libvirt's event loop: no call to libvirt that asks, nothing that waits."""
        heard = guest_event_for(InstanceId(domain.UUIDString()), event, detail)
        if heard is None:
            return
        try:
            self._queue.put_nowait(heard)
        except queue.Full:
            with self._missed_lock:
                self._missed += 1


class Listener:
    """Tells what it hears, and whether it hears at all. `tell` may block: what comes meanwhile is queued."""

    def __init__(self, events: LifecycleEvents, tell: Callable[[Said], None]) -> None:
        self._events = events
        self._tell = tell
        self._pause_s = REOPEN_FIRST_S
        self._look_at = 0.0

    def turn(self, now: float) -> None:
        """See to the connection when that is due, then tell what is heard within about LOOK_S."""
        if now >= self._look_at:
            self._look_at = now + self._ensure_listening()
        for event in self._events.take(LOOK_S):
            self._tell(event)
        missed = self._events.take_missed()
        if missed:
            self._tell(Missed(events=missed))

    def _ensure_listening(self) -> float:
        """How long until the connection is to be seen to again."""
        try:
            if self._events.ensure_listening():
                self._tell(Hearing())
        except TaskvisorError as silence:
            self._tell(Deaf(reason=str(silence)))
            pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, REOPEN_LAST_S)
            return pause_s
        self._pause_s = REOPEN_FIRST_S
        return LOOK_S


def main() -> None:
    """Until whoever reads the lines is gone."""
    # Lines are all that is written to standard output; what there is to log, whoever reads them logs.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    output = sys.stdout.buffer

    def tell(said: Said) -> None:
        output.write(line_for(said))
        output.flush()

    listener = Listener(LifecycleEvents(sys.argv[1]), tell)
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        while True:
            listener.turn(time.monotonic())


if __name__ == "__main__":
    main()
