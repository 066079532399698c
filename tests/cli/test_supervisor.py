"""The supervisor over small scripts: a real process, real signals."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskvisor.cli.supervisor import BACKOFF_LAST_S
from tests.fixtures.machine import ROOT

LIMIT_S = 15.0


class Supervised:
    """A running supervisor, and the files that its scripts write into its directory."""

    def __init__(self, directory: Path, *scripts: str) -> None:
        self.directory = directory
        self.log = directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.supervised", str(directory), *scripts], cwd=ROOT, stderr=log
            )
        self.wait_for(lambda: "started" in self.said())

    def said(self) -> str:
        return self.log.read_text()

    def lines_of(self, name: str) -> list[str]:
        """What a script wrote to its file."""
        path = self.directory / name
        return path.read_text().splitlines() if path.exists() else []

    def wait_for(self, condition: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.01)

    def wait_for_lines(self, name: str, count: int) -> list[str]:
        self.wait_for(lambda: len(self.lines_of(name)) >= count)
        return self.lines_of(name)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(LIMIT_S)


Supervise = Callable[..., Supervised]
LIVES = "echo $$ >>a; exec sleep 1000"


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Supervise]:
    made: list[Supervised] = []

    def start(*scripts: str) -> Supervised:
        made.append(Supervised(tmp_path, *scripts))
        return made[-1]

    yield start
    for one in made:
        one.process.kill()
        one.process.wait(LIMIT_S)


def is_gone(pid: int) -> bool:
    """Whether no process of that pid runs; one that nobody has reaped does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_program_that_dies_is_started_again_later_each_time(supervise: Supervise) -> None:
    running = supervise("a=echo $$ >>a; exit 7")
    running.wait_for_lines("a", 4)
    waits = [
        float(wait) for wait in re.findall(r"a ended with exit code 7 after .* again in ([0-9.]+) s", running.said())
    ]
    assert waits[:3] == [0.2, 0.4, 0.8]
    assert max(waits) <= BACKOFF_LAST_S
    assert running.end() == 0


def test_how_a_program_died_is_said(supervise: Supervise) -> None:
    running = supervise("a=kill -KILL $$")
    running.wait_for(lambda: running.said().count("a was ended by SIGKILL") >= 2)
    assert running.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_all_in_good_order(supervise: Supervise, number: signal.Signals) -> None:
    script = "trap 'echo term >>{0}; exit 0' TERM; echo $$ >>{0}; while :; do sleep 0.05; done"
    running = supervise("a=" + script.format("a"), "b=" + script.format("b"))
    pids = [int(running.wait_for_lines(name, 1)[0]) for name in ("a", "b")]
    assert running.end(number) == 0
    assert [running.lines_of(name)[1:] for name in ("a", "b")] == [["term"], ["term"]]
    assert all(is_gone(pid) for pid in pids)


def test_what_ignores_its_first_signal_gets_the_next_and_in_the_end_is_killed(supervise: Supervise) -> None:
    running = supervise(
        "a=trap '' TERM; trap 'echo quit >>a; exit 0' QUIT; echo $$ >>a; while :; do sleep 0.05; done",
        "b=trap '' TERM QUIT; echo $$ >>b; while :; do sleep 0.05; done",
    )
    pid = int(running.wait_for_lines("b", 1)[0])
    running.wait_for_lines("a", 1)
    assert running.end() == 1
    assert running.lines_of("a")[1:] == ["quit"]
    assert "b is still there; sent SIGKILL" in running.said()
    assert is_gone(pid)


def test_a_second_signal_cuts_the_wait_short(supervise: Supervise) -> None:
    deaf = "trap '' TERM; trap 'echo quit >>a; exit 0' QUIT; echo $$ >>a; while :; do sleep 0.01; done"
    running = supervise(f"patient={deaf}")
    running.wait_for_lines("a", 1)
    running.process.send_signal(signal.SIGINT)
    running.wait_for(lambda: "stopping" in running.said())
    assert running.end(signal.SIGINT) == 0  # which waits a moment, and the first stage an hour
    assert running.lines_of("a")[1:] == ["quit"]


def test_what_a_dead_program_leaves_behind_is_ended_before_it_is_started_again(supervise: Supervise) -> None:
    running = supervise("a=sleep 1000 & echo $! >>left; echo $$ >>a; wait")
    first = int(running.wait_for_lines("a", 1)[0])
    left = int(running.wait_for_lines("left", 1)[0])
    os.kill(first, signal.SIGKILL)
    running.wait_for_lines("a", 2)
    assert is_gone(left)
    assert running.end() == 0


def test_nothing_outlives_a_supervisor_that_is_killed(supervise: Supervise) -> None:
    running = supervise("a=trap '' TERM HUP; echo $$ >>a; while :; do sleep 0.05; done")
    pid = int(running.wait_for_lines("a", 1)[0])
    running.end(signal.SIGKILL)
    running.wait_for(lambda: is_gone(pid), limit_s=3)


def test_a_program_that_is_waiting_to_be_started_again_is_stopped_too(supervise: Supervise) -> None:
    running = supervise("a=echo $$ >>a; exit 1")
    running.wait_for_lines("a", 3)
    assert running.end() == 0


def test_programs_get_the_signals_that_are_for_them_and_no_mask(supervise: Supervise) -> None:
    look = "while read -r line; do case $line in SigBlk*) echo $line >>a;; esac; done </proc/$$/status"
    running = supervise(f"a=trap 'echo usr1 >>a' USR1; {look}; while :; do sleep 0.02; done")
    mask = running.wait_for_lines("a", 1)[0]
    running.process.send_signal(signal.SIGUSR1)
    assert running.wait_for_lines("a", 2)[1] == "usr1"
    assert int(mask.split()[1], 16) == 0
    assert running.end() == 0


def test_a_program_is_in_a_session_of_its_own_and_writes_to_stderr(supervise: Supervise) -> None:
    running = supervise("a=echo on stdout; echo on stderr >&2; " + LIVES)
    pid = int(running.wait_for_lines("a", 1)[0])
    assert os.getsid(pid) == pid
    running.wait_for(lambda: "on stdout" in running.said() and "on stderr" in running.said())
    assert running.end() == 0
