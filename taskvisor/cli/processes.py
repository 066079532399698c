"""Child processes: started in a session of their own, bound to this process's life, and ended with all they started.

Knows nothing of what they are. The only subprocess of the command line.
"""

import ctypes
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
STANDARD_ERROR = 2


@dataclass(frozen=True, kw_only=True)
class StopStage:
    """A signal, and how long to wait for its effect."""

    signal: signal.Signals
    limit_s: float


WARM_STOP = (
    StopStage(signal=signal.SIGTERM, limit_s=60.0),  # Celery: finish what runs
    StopStage(signal=signal.SIGQUIT, limit_s=10.0),  # Celery: cut it off; a second SIGTERM would do nothing
    StopStage(signal=signal.SIGKILL, limit_s=5.0),
)
PLAIN_STOP = (StopStage(signal=signal.SIGTERM, limit_s=15.0), StopStage(signal=signal.SIGKILL, limit_s=5.0))


@dataclass(frozen=True, kw_only=True)
class Program:
    """What is to run. `orphaned` is what the kernel sends it when this process dies, however that comes about."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    stop: tuple[StopStage, ...] = PLAIN_STOP
    orphaned: signal.Signals = signal.SIGKILL


def start_process(program: Program, inherited_mask: Collection[int]) -> "subprocess.Popen[bytes]":
    """The program runs; what it writes goes to our standard error. OSError when it can't be started.

    In a session of its own: a ctrl-C of the terminal is for us, who pass it on in the right order.
    """
    return subprocess.Popen(
        program.argv,
        env=dict(program.environment),
        cwd=program.directory,
        stdin=subprocess.DEVNULL,
        stdout=STANDARD_ERROR,
        stderr=STANDARD_ERROR,
        start_new_session=True,
        preexec_fn=_bound_to_us(program.orphaned, inherited_mask),  # noqa: PLW1509 - there are no threads here
    )


def run_briefly(program: Program, inherited_mask: Collection[int], *, limit_s: float) -> tuple[int, str]:
    """Exit code and standard output of a program that ends by itself. TimeoutError when it has not within the limit."""
    process = subprocess.Popen(
        program.argv,
        env=dict(program.environment),
        cwd=program.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=STANDARD_ERROR,
        start_new_session=True,
        preexec_fn=_bound_to_us(program.orphaned, inherited_mask),  # noqa: PLW1509
    )
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{program.name} did not end within {limit_s:g} s") from None
    finally:
        kill_group(process.pid)
        process.wait()
    return process.returncode, output.decode(errors="replace")


def become(argv: list[str]) -> NoReturn:
    """This process is that program from now on, on the same terminal. OSError when it can't be run."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvp(argv[0], argv)  # noqa: S606 - never a shell


def run_on_terminal(program: Program, inherited_mask: Collection[int]) -> int:
    """The return code of a program that has our terminal meanwhile. The terminal is as it was before, however that program ends.

    It is of our session and process group, so that it may read the keys; ctrl-C is its business alone. It ends with us.
    """
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = subprocess.Popen(
            program.argv,
            env=dict(program.environment),
            cwd=program.directory,
            preexec_fn=_bound_to_us(program.orphaned, inherited_mask),  # noqa: PLW1509 - there are no threads here
        )
        try:
            return process.wait()
        finally:
            process.terminate()
            process.wait()
    finally:
        signal.signal(signal.SIGINT, former)
        termios.tcsetattr(keyboard, termios.TCSANOW, before)


def has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """Whether it has ended. It is not reaped, so that its process group is certainly still its own."""
    if process.returncode is not None:
        return True
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def reap(process: "subprocess.Popen[bytes]") -> int:
    """The return code of a process that has ended. Whatever it left in its group is killed first.

    A node killed by SIGKILL may leave pool processes in the middle of a step; its successor must not run beside them.
    """
    kill_group(process.pid)
    return process.wait()


def kill_group(pid: int) -> None:
    """All that is left of that process's group is killed."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def send(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """The process gets the signal, if it has not ended; SIGKILL goes to all of its group."""
    if number is signal.SIGKILL:
        kill_group(process.pid)
    else:
        process.send_signal(number)


def ending_text(returncode: int) -> str:
    """How it ended, in words."""
    if returncode < 0:
        return f"was ended by {signal.Signals(-returncode).name}"
    return f"ended with exit code {returncode}"


def _bound_to_us(orphaned: signal.Signals, inherited_mask: Collection[int]) -> "_InChild":
    return _InChild(parent=os.getpid(), orphaned=orphaned, mask=frozenset(inherited_mask))


@dataclass(frozen=True, kw_only=True)
class _InChild:
    """Runs in the child between fork(2) and execve(2). prctl(2): the parent whose death is noticed is the thread that forked."""

    parent: int
    orphaned: signal.Signals
    mask: frozenset[int]

    def __call__(self) -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(self.orphaned))
        if os.getppid() != self.parent:
            os._exit(1)  # it died before we asked to be told
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
