"""Processes are signalled only when they are what they are taken for."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from net.services import process
from net.services.process import list_pids_with, open_process

WAITING = ("sh", "-c", "echo up; read _")


@contextmanager
def _child(argument: str, *, script: str = WAITING[2]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs: in the midst of execve(2) it has no command line yet."""
    argv = ("sh", "-c", script, argument)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"up\n"
            yield child
        finally:
            child.kill()


def test_a_running_process_is_held_with_its_command_line() -> None:
    with _child("61.25") as child, open_process(child.pid) as held:
        assert held is not None
        assert held.argv == (*WAITING, "61.25")


def test_a_process_is_found_by_an_argument_of_its_own() -> None:
    with _child("61.75") as child:
        assert list_pids_with("61.75") == (child.pid,)
    assert list_pids_with("61.75") == ()


def test_nothing_is_held_for_a_pid_that_is_gone_a_zombies_a_threads_or_none() -> None:
    zombie = os.fork()
    if zombie == 0:
        os._exit(0)
    os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)  # it has ended and is not reaped
    tids: list[int] = []
    release, started = threading.Event(), threading.Event()

    def linger() -> None:
        tids.append(threading.get_native_id())
        started.set()
        release.wait(10)

    thread = threading.Thread(target=linger)
    thread.start()
    started.wait(10)
    try:
        for pid in (zombie, tids[0], 2**22 + 1, 0):
            with open_process(pid) as held:
                assert held is None, pid
    finally:
        release.set()
        thread.join()
        os.waitpid(zombie, 0)


def test_a_process_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "TERM_WAIT_S", 0.1)
    with _child("deaf", script="trap '' TERM; echo up; while :; do sleep 1; done") as child:
        with open_process(child.pid) as held:
            assert held is not None
            held.ensure_ended()
            held.ensure_ended()
            held.send(signal.SIGHUP)  # of no effect, and no error
        assert child.wait(5) == -signal.SIGKILL
