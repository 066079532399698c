"""Services as a service manager starts them: their own command and environment, nothing inherited, perhaps on a read-only root.

Knows neither units nor compose files: who reads those says what is to run. The program is the one of this checkout.
"""

import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.fixtures.machine import ROOT, require_tool

START_LIMIT_S = 200.0
STOP_LIMIT_S = 200.0
"""Of a machine that does much else; what a service manager waits is in its files."""
PROGRAM = (sys.executable, "-m", "taskvisor.cli")
PLAIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
READ_ONLY_BUT = (
    'mount --bind "$0" "$0" && mount -o remount,bind,ro / && mount -o remount,bind,rw "$0" && cd "$0" && exec "$@"'
)
"""mount(8): all but the directory $0, /dev, /proc and /sys is read-only, as by ProtectSystem=strict and compose's read_only."""


class Service:
    """One that runs, and its log."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name = name
        self.process = process
        self._log = log

    def says(self, words: str) -> bool:
        """Whether its log has the words. Fails when it has ended."""
        said = self._log.read_text()
        assert self.process.poll() is None, f"{self.name} has ended with {self.process.returncode}: {said[-3000:]}"
        return words in said

    def stop(self) -> int:
        """Its exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} did not end within {STOP_LIMIT_S} s: {self._log.read_text()[-3000:]}"
            ) from None


@contextmanager
def running(
    name: str, words: Sequence[str], environment: Mapping[str, str], directory: Path, *confined: str
) -> Iterator[Service]:
    """`taskvisor` with those words runs in the directory, and is gone after the block. `confined`: READ_ONLY_BUT, or nothing."""
    argv = [*PROGRAM, *words]
    if confined:
        argv = [
            require_tool("unshare"),
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            *confined,
            str(directory),
            *argv,
        ]
    log = directory.parent / f"{name}.log"
    ours = {"PATH": PLAIN_PATH, "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
    with ExitStack() as stack:
        output = stack.enter_context(log.open("ab"))
        process = subprocess.Popen(
            argv, env={**ours, **environment}, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        stack.callback(_end, process)
        yield Service(name, process, log)


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.kill()
    process.wait()


def words_of(command: str | Sequence[str]) -> list[str]:
    """A command as a unit or a compose file has it, word by word."""
    return shlex.split(command) if isinstance(command, str) else list(command)


def environment_of(text: str) -> dict[str, str]:
    """The assignments of an EnvironmentFile (systemd.exec(5)); comments and empty lines are none."""
    lines = (line.strip() for line in text.splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
