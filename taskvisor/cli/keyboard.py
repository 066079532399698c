"""Single keys of a terminal, as they are pressed, and its changes of size. The terminal is as it was when the block ends."""

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

ENDING = (signal.SIGTERM, signal.SIGHUP)


class Keyboard:
    """Made by `open_keyboard`."""

    def __init__(self, descriptor: int, woken: int) -> None:
        self._descriptor = descriptor
        self._woken = woken

    def wait(self, limit_s: float) -> str | None:
        """The next key; "" when the terminal has changed its size; None when there was neither for so long.

        EOFError when the terminal is gone.
        """
        ready, _, _ = select.select([self._descriptor, self._woken], [], [], max(0.0, limit_s))
        if self._woken in ready:
            with suppress(BlockingIOError):
                os.read(self._woken, 512)
            return ""
        if not ready:
            return None
        typed = os.read(self._descriptor, 1)
        if not typed:
            raise EOFError
        return typed.decode("ascii", errors="replace")


@contextmanager
def open_keyboard() -> Iterator[Keyboard]:
    """Keys come without Enter and are not shown; ctrl-C is still KeyboardInterrupt. SIGTERM and SIGHUP end by SystemExit."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    former = {number: signal.signal(number, _end_for) for number in ENDING}
    former[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, lambda *_: None)
    former_wake = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    try:
        tty.setcbreak(descriptor)
        yield Keyboard(descriptor, woken)
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
        signal.set_wakeup_fd(former_wake)
        for number, handler in former.items():
            signal.signal(number, handler)
        os.close(woken)
        os.close(wake)


def _end_for(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
