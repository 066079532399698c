"""The command on a terminal that can be asked what it shows: a pseudo-terminal of any size, and pyte behind it."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import pyte

from tests.fixtures.machine import ROOT

LIMIT_S = 120.0


class Shown:
    """A program on a terminal. `lines` are what is on its screen now."""

    def __init__(self, environment: Mapping[str, str], argv: list[str], *, columns: int, rows: int) -> None:
        self.master, slave = pty.openpty()
        self._screen = pyte.HistoryScreen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self._resize(columns, rows)
        self.before = termios.tcgetattr(slave)
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        variables = {**kept, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **environment}
        self.process = subprocess.Popen(
            argv,
            env=variables,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - a system call only
        )
        self._slave = slave  # kept: what the terminal is set to can be asked after its program has ended
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def lines(self) -> list[str]:
        with self._lock:
            return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        with self._lock:
            self._screen.resize(rows, columns)
        self._resize(columns, rows)
        os.killpg(self.process.pid, signal.SIGWINCH)

    def wait_for(self, condition: Callable[[str], bool]) -> str:
        deadline = time.monotonic() + LIMIT_S
        while not condition(self.text):
            assert time.monotonic() < deadline, self.text
            time.sleep(0.02)
        return self.text

    def wait(self) -> int:
        return self.process.wait(LIMIT_S)

    def settings_now(self) -> object:
        """What the terminal is set to; see `before`."""
        return termios.tcgetattr(self._slave)

    def close(self) -> None:
        with_group_gone(self.process)
        os.close(self._slave)
        self._reader.join(LIMIT_S)
        os.close(self.master)

    def _resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self) -> None:
        while True:
            try:
                read = os.read(self.master, 65536)
            except OSError:  # EIO: the last writer has closed the terminal
                return
            with self._lock:
                self._stream.feed(read)


def with_group_gone(process: "subprocess.Popen[bytes]") -> None:
    """The process, and all of its session's group, has ended."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(LIMIT_S)


@contextmanager
def on_screen(
    environment: Mapping[str, str], *words: str, columns: int = 80, rows: int = 24, module: str = "taskvisor.cli"
) -> Iterator[Shown]:
    """`taskvisor WORDS` on a terminal of that size; gone when the block ends."""
    shown = Shown(environment, [sys.executable, "-m", module, *words], columns=columns, rows=rows)
    try:
        yield shown
    finally:
        shown.close()
