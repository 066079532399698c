"""Signals as a queue: blocked while the supervisor lives, and taken one at a time where it is ready for them (sigtimedwait(2)).

So nothing is ever interrupted between two of its lines, and no handler runs. A blocked SIGCHLD is kept for us although its
default is to be ignored: Linux never discards a blocked signal.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

STOPPING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
PASSED_ON = frozenset({signal.SIGUSR1, signal.SIGUSR2})
"""Celery's own: SIGUSR1 makes a node log where each of its threads is."""


@dataclass(frozen=True, kw_only=True)
class Signals:
    """`inherited` is the mask that children must be given back: a mask outlives exec(2)."""

    inherited: frozenset[int]

    def take(self, *, wait_s: float) -> signal.Signals | None:
        """The next one, waited for; None when none came. SIGCHLD tells only that some child has ended."""
        found = signal.sigtimedwait(STOPPING | PASSED_ON | {signal.SIGCHLD}, max(0.0, wait_s))
        return None if found is None else signal.Signals(found.si_signo)

    def drain_children(self) -> None:
        """Forget that children have ended: it has been looked at."""
        deadline = time.monotonic() + 1.0
        while signal.sigtimedwait({signal.SIGCHLD}, 0) is not None and time.monotonic() < deadline:
            pass


@contextmanager
def receiving_signals() -> Iterator[Signals]:
    """From here on signals wait to be taken. To be used in the main thread, with no other thread running."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING | PASSED_ON | {signal.SIGCHLD})
    try:
        yield Signals(inherited=frozenset(before))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
