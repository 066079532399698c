"""The one door to other programs: every subprocess of net is started here, with bounds. Knows nothing of what it runs.

A child is in a session of its own and gets no parent-death signal: dnsmasq puts itself into the background and has to
outlive the worker that started it. nft is one transaction, which the kernel takes whole or not at all, so one that is
orphaned in the middle does no harm either.
"""

import os
import selectors
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from taskvisor.model.errors import DoesNotFit, Retryable

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Fixed: what a worker runs must not depend on the environment somebody started it from."""
OUTPUT_LIMIT_BYTES = 4 << 20
TIME_LIMIT_S = 10.0
KILL_WAIT_S = 5.0
SHOWN_CHARS = 400
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a program ended, and what it wrote."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def ok(self) -> bool:
        return self.exit_code == 0

    def __str__(self) -> str:
        said = self.stderr.decode(errors="replace").strip()[-SHOWN_CHARS:] or "it wrote nothing to stderr"
        return f"`{shlex.join(self.argv)}` ended with exit code {self.exit_code}: {said}"


def run_command(
    argv: Sequence[str],
    *,
    stdin: str = "",
    time_limit_s: float = TIME_LIMIT_S,
    output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
) -> Ended:
    """Run a program to its end and say how that was. Never a shell; the environment is fixed, its messages in English.

    DoesNotFit when the program is not installed; Retryable when it exceeds its time or its output, and is then killed.
    """
    if find_program(argv[0]) is None:
        raise DoesNotFit(f"{argv[0]} is not installed on this host; install it, or use another host")
    with tempfile.TemporaryFile() as script:
        script.write(stdin.encode())
        script.seek(0)
        process = _started(argv, script)
        try:
            stdout, stderr = _collect(process, argv, time.monotonic() + time_limit_s, output_limit_bytes)
        finally:
            _end(process)
    return Ended(argv=tuple(argv), exit_code=process.returncode, stdout=stdout, stderr=stderr)


def find_program(name: str) -> str | None:
    """The path of a program on this host; None when it is not installed."""
    return shutil.which(name, path=SEARCH_PATH)


def _started(argv: Sequence[str], stdin: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        executable=find_program(argv[0]),  # argv[0] stays as it is: a daemon is known by its exact argv later
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": SEARCH_PATH, "LC_ALL": "C"},
        cwd="/",
        start_new_session=True,
    )


def _collect(
    process: subprocess.Popen[bytes], argv: Sequence[str], deadline: float, limit_bytes: int
) -> tuple[bytes, bytes]:
    """What the child wrote, once it has closed both pipes and ended."""
    assert process.stdout is not None  # noqa: S101 - for the type checker; both are PIPE
    assert process.stderr is not None  # noqa: S101
    written = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    with selectors.DefaultSelector() as selector:
        for fd in written:
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise Retryable(f"`{shlex.join(argv)}` did not end in time and was killed")
            for key, _ in ready:
                chunk = os.read(key.fd, _CHUNK_BYTES)
                written[key.fd] += chunk
                if not chunk:
                    selector.unregister(key.fd)
            if sum(map(len, written.values())) > limit_bytes:
                raise Retryable(f"`{shlex.join(argv)}` wrote more than {limit_bytes} bytes and was killed")
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise Retryable(f"`{shlex.join(argv)}` closed its output but did not end in time; it was killed") from error
    stdout, stderr = written.values()
    return bytes(stdout), bytes(stderr)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The child has ended and is reaped, its pipes are closed."""
    if process.poll() is None:
        process.kill()
        process.wait(KILL_WAIT_S)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
