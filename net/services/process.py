"""Daemons that outlive us: found by their exact command line, signalled through a pidfd. Knows nothing of what they do.

A pid in a file may be somebody else's by now. So a process is first held by a pidfd (pidfd_open(2)), which never comes
to mean another process, then its command line is read from /proc and compared, and only then is it signalled.
"""

import contextlib
import errno
import os
import select
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from taskvisor.model.errors import CannotAsk, Retryable

TERM_WAIT_S = 5.0
KILL_WAIT_S = 5.0
PROC = Path("/proc")
_NO_PROCESS = (errno.ESRCH, errno.EINVAL, errno.ENOENT)
"""The last two: the number is a thread's by now, or was never one (pidfd_open(2))."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """A running process, held: `pidfd` means this one for as long as the block that opened it lasts."""

    pid: int
    pidfd: int
    argv: tuple[str, ...]

    def send(self, number: signal.Signals) -> None:
        """The process gets the signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def ensure_ended(self) -> None:
        """The process has ended, asked first (SIGTERM), then killed. Retryable when it can't die."""
        self.send(signal.SIGTERM)
        if not self._ended_within(TERM_WAIT_S):
            self.send(signal.SIGKILL)
            if not self._ended_within(KILL_WAIT_S):
                raise Retryable(f"process {self.pid} ({self.argv[0]}) did not end within {KILL_WAIT_S:g} s of SIGKILL")

    def _ended_within(self, limit_s: float) -> bool:
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(limit_s * 1000))


@contextlib.contextmanager
def open_process(pid: int) -> Iterator[Process | None]:
    """The process of that pid, held; None when there is none, or it is dead and only not yet reaped."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        if error.errno in _NO_PROCESS:
            yield None
            return
        raise CannotAsk(f"can't ask whether process {pid} runs: {error}") from error
    try:
        argv = _read_argv(pid)
        yield Process(pid=pid, pidfd=pidfd, argv=argv) if argv else None
    finally:
        os.close(pidfd)


@contextlib.contextmanager
def open_daemon(pid_file: Path, argument: str) -> Iterator[Process | None]:
    """The process that the pid file names, held, when its command line has that argument; else None."""
    try:
        pid = int(pid_file.read_text())
    except (FileNotFoundError, ValueError):  # none, or not yet written out
        yield None
        return
    with open_process(pid) as process:
        yield process if process is not None and argument in process.argv else None


def ensure_none_with(argument: str) -> tuple[int, ...]:
    """No process runs whose command line has that argument, whatever a pid file says. Returns those that were ended."""
    ended = []
    for pid in list_pids_with(argument):
        with open_process(pid) as process:
            if process is not None and argument in process.argv:
                process.ensure_ended()
                ended.append(pid)
    return tuple(ended)


def list_pids_with(argument: str) -> tuple[int, ...]:
    """The processes whose command line has that very argument. Reads all of /proc: about 10 ms per 1000 processes."""
    pids = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
    return tuple(pid for pid in pids if argument in _read_argv(pid))


def _read_argv(pid: int) -> tuple[str, ...]:
    """The command line; empty for a process that is gone, a zombie, or a kernel thread."""
    try:
        raw = (PROC / str(pid) / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return ()
    return tuple(part.decode(errors="surrogateescape") for part in raw.split(b"\0")[:-1])
