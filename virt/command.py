"""The one door to other programs: every subprocess of virt is started here, with bounds. Knows nothing of what it runs.

A child never outlives its worker. A worker that is SIGKILLed in mid-conversion must not leave a qemu-img behind that
writes on while the next worker starts the same conversion, so the kernel is told to kill the child when its parent
dies: prctl(2), PR_SET_PDEATHSIG. "Parent" there is the *thread* that forked; it waits here until the child has ended.
"""

import contextlib
import ctypes
import os
import resource
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

import structlog

from taskvisor.model.errors import DoesNotFit, Retryable

log = structlog.get_logger(__name__)

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Fixed: what a worker runs must not depend on the environment somebody started it from."""
STDERR_TAIL_BYTES = 4096
OUTPUT_LIMIT_BYTES = 1 << 20
LINE_LIMIT_BYTES = 1 << 16
KILL_WAIT_S = 5.0
_CHUNK_BYTES = 1 << 16
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(
    None, use_errno=True
)  # bound before any fork: nothing may be imported or loaded between fork and exec


class CommandFailed(Retryable):
    """The program ended, but not with 0. `stderr` is its tail. Callers that know the exit code raise something better."""

    def __init__(self, message: str, *, exit_code: int, stderr: str) -> None:
        super().__init__(message, delay_s=2.0)
        self.exit_code = exit_code
        self.stderr = stderr


class _TooMuchOutput(Exception):
    """The child wrote more to stdout than anybody wants to hold."""


@dataclass(kw_only=True)
class _Output:
    """What a child has written so far: all of stdout within a limit, the tail of stderr."""

    limit_bytes: int
    watcher: Callable[[bytes], None] | None
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)

    def take_stdout(self, chunk: bytes) -> None:
        self.stdout += chunk
        if len(self.stdout) > self.limit_bytes:
            raise _TooMuchOutput
        if self.watcher is not None:
            self.watcher(chunk)

    def take_stderr(self, chunk: bytes) -> None:
        self.stderr += chunk
        del self.stderr[:-STDERR_TAIL_BYTES]


def run_command(
    argv: Sequence[str],
    *,
    time_limit_s: float,
    memory_limit_bytes: int | None = None,
    cpu_limit_s: int | None = None,
    file_limit_bytes: int | None = None,
    output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
    on_output: Callable[[bytes], None] | None = None,
) -> str:
    """Run a program to its end and return what it wrote to stdout. Never a shell; stdin is empty; messages in English.

    `memory_limit_bytes` bounds its address space (RLIMIT_AS), `cpu_limit_s` its CPU time (beyond: SIGXCPU),
    `file_limit_bytes` each file that it writes (beyond: SIGXFSZ). `on_output` sees stdout as it comes; if it raises, the
    child is killed and the exception passes through, as does any other that interrupts the wait.

    DoesNotFit when the program is not installed; CommandFailed (a Retryable) when it ends with anything but 0;
    Retryable when it exceeds its time or output.
    """
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_AS: memory_limit_bytes,
        resource.RLIMIT_CPU: cpu_limit_s,
        resource.RLIMIT_FSIZE: file_limit_bytes,
    }
    with _started([_found(argv[0]), *argv[1:]], limits) as process:
        output = _Output(limit_bytes=output_limit_bytes, watcher=on_output)
        deadline = time.monotonic() + time_limit_s
        try:
            _collect(process, output, deadline)
            exit_code = process.wait(max(0.0, deadline - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            raise Retryable(f"{_shown(argv)} was ended after {time_limit_s:g} s: {_tail(output)}") from error
        except _TooMuchOutput as error:
            raise Retryable(f"{_shown(argv)} was ended: it wrote more than {output_limit_bytes} bytes") from error
    if exit_code != 0:
        message = f"{_shown(argv)} {_ending(exit_code)}: {_tail(output)}"
        raise CommandFailed(message, exit_code=exit_code, stderr=_tail(output))
    return output.stdout.decode(errors="replace")


class LineProgram:
    """A program that runs for as long as it is wanted and tells things in lines. Read and closed by the thread that opened it.

    Its standard error is this process's, its environment the one that is given. It dies with the thread that opened it.
    """

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Starts it. Retryable when that can't be done."""
        parent = os.getpid()
        self._shown = _shown(argv)
        self._begun = b""
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                env=dict(environment),
                cwd="/",
                start_new_session=True,
                preexec_fn=lambda: _limit_child(parent, {}),  # noqa: PLW1509 - system calls only, see there
            )
        except OSError as error:
            raise Retryable(f"{self._shown} cannot be started: {error}") from error

    @property
    def pid(self) -> int:
        return self._process.pid

    def read_lines(self, wait_s: float) -> tuple[bytes, ...]:
        """What it has written since, line by line; none when that was nothing for `wait_s`.

        Retryable when it has ended, or writes a line longer than LINE_LIMIT_BYTES.
        """
        assert self._process.stdout is not None  # noqa: S101 - for the type checker; it is PIPE
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(wait_s):
                return ()
        chunk = os.read(self._process.stdout.fileno(), _CHUNK_BYTES)
        if not chunk:
            _end(self._process)
            raise Retryable(f"{self._shown} {_ending(self._process.returncode)}")
        *lines, self._begun = (self._begun + chunk).split(b"\n")
        if len(self._begun) > LINE_LIMIT_BYTES:
            raise Retryable(f"{self._shown} writes a line of more than {LINE_LIMIT_BYTES} bytes")
        return tuple(lines)

    def close(self) -> None:
        """It has ended, and its pipe is closed. Twice is once."""
        _end(self._process)


def find_program(name: str) -> str | None:
    """The path of a program on this host; None when it is not installed."""
    return shutil.which(name, path=SEARCH_PATH)


def _found(name: str) -> str:
    path = find_program(name)
    if path is None:
        raise DoesNotFit(f"{name} is not installed on this host; install it, or build on another host")
    return path


@contextlib.contextmanager
def _started(argv: Sequence[str], limits: Mapping[int, int | None]) -> Iterator[subprocess.Popen[bytes]]:
    """The running child; whatever ends the block, the child has ended too."""
    parent = os.getpid()
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": SEARCH_PATH, "LC_ALL": "C"},
        cwd="/",
        start_new_session=True,  # a Ctrl-C for the worker is the worker's business
        preexec_fn=lambda: _limit_child(parent, limits),  # noqa: PLW1509 - system calls only, see there
    )
    try:
        yield process
    finally:
        _end(process)


def _limit_child(parent: int, limits: Mapping[int, int | None]) -> None:
    """Between fork and exec. System calls only: another thread may have held any lock at the moment of the fork."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before prctl: its signal will never come
        os._exit(1)
    for kind, limit in limits.items():
        if limit is not None:  # at the hard limit of CPU time the kernel kills without a word, so it lies above
            resource.setrlimit(kind, (limit, limit + 1 if kind == resource.RLIMIT_CPU else limit))


def _collect(process: subprocess.Popen[bytes], output: _Output, deadline: float) -> None:
    """Read both pipes until both are closed; TimeoutError at the deadline."""
    assert process.stdout is not None  # noqa: S101 - for the type checker; both are PIPE
    assert process.stderr is not None  # noqa: S101
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, output.take_stdout)
        selector.register(process.stderr, selectors.EVENT_READ, output.take_stderr)
        while selector.get_map():
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise TimeoutError
            for key, _ in selector.select(remaining_s):
                chunk = os.read(key.fd, _CHUNK_BYTES)
                if chunk:
                    key.data(chunk)
                else:
                    selector.unregister(key.fileobj)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The child is dead and reaped, its pipes closed. A child that cannot die (uninterruptible I/O) is left with a log line."""
    if process.poll() is None:
        process.kill()
        try:
            process.wait(KILL_WAIT_S)
        except subprocess.TimeoutExpired:
            log.exception("child_would_not_die", pid=process.pid, waited_s=KILL_WAIT_S)
    pipes: tuple[IO[bytes] | None, ...] = (process.stdout, process.stderr)
    for pipe in pipes:
        if pipe is not None:
            pipe.close()


def _shown(argv: Sequence[str]) -> str:
    return shlex.join(argv)


def _ending(exit_code: int) -> str:
    if exit_code < 0:
        return f"was ended by {signal.Signals(-exit_code).name}"
    return f"failed with exit code {exit_code}"


def _tail(output: _Output) -> str:
    return output.stderr.decode(errors="replace").strip() or "it wrote nothing to stderr"
