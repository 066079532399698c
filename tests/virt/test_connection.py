"""One connection per process: bounded, reopened, never shared across a fork."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import libvirt
import pytest

from taskvisor.model.errors import CannotAsk, DoesNotFit, Refused, Retryable, TaskvisorError
from tests.fixtures.hosts import Libvirtd
from tests.fixtures.machine import ROOT
from virt import connection as connection_module
from virt.connection import LibvirtConnection
from virt.libvirt_errors import model_error_for

TEST_URI = "test:///default"
CHILD_LIMIT_S = 20.0


def ask(connection: "libvirt.virConnect") -> str:
    connection.numOfDomains()  # a call that goes all the way; the type alone is known on this side
    answer: str = connection.getType()
    return answer


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process stands still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def kill(libvirtd: Libvirtd) -> None:
    pid = libvirtd.pid
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + CHILD_LIMIT_S
    while os.path.exists(f"/proc/{pid}/root/etc") and time.monotonic() < deadline:
        time.sleep(0.02)


def test_making_a_connection_opens_nothing() -> None:
    LibvirtConnection("qemu+unix:///system?socket=/nonexistent").close()


def test_the_same_connection_serves_every_call() -> None:
    connection = LibvirtConnection(TEST_URI)
    assert connection.run("ask", lambda opened: opened) is connection.run("ask", lambda opened: opened)


def test_after_a_close_another_one_is_opened() -> None:
    connection = LibvirtConnection(TEST_URI)
    first = connection.run("ask", lambda opened: opened)
    connection.close()
    connection.close()
    assert connection.run("ask", lambda opened: opened) is not first
    assert connection.run("ask", ask) == "TEST"


def test_a_libvirtd_that_is_not_there_cannot_be_asked() -> None:
    connection = LibvirtConnection("qemu+unix:///system?socket=/nonexistent/socket")
    for _ in range(2):
        with pytest.raises(CannotAsk, match=r"cannot look: libvirtd does not answer at .*nonexistent"):
            connection.run("look", ask)


def test_libvirt_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TaskvisorError):
        LibvirtConnection(TEST_URI).run("look", lambda opened: opened.lookupByName("nobody"))
    assert "libvirt:" not in capfd.readouterr().err


def test_an_actions_own_error_passes_through() -> None:
    def refuse(_connection: "libvirt.virConnect") -> None:
        raise Refused("not so")

    with pytest.raises(Refused, match="not so"):
        LibvirtConnection(TEST_URI).run("act", refuse)


FORKS = f"""
import os
from virt.connection import LibvirtConnection

connection = LibvirtConnection({TEST_URI!r})
parents = connection.run("ask", lambda opened: opened)
pid = os.fork()
if pid == 0:
    os._exit(0 if connection.run("ask", lambda opened: opened is not parents) else 1)
ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
raise SystemExit(ended or (0 if connection.run("ask", lambda opened: opened) is parents else 2))
"""
"""In a process of its own: a thread that another test left in libvirt may hold one of its locks at the time of the fork."""


def test_a_child_of_a_process_that_had_libvirt_open_opens_its_own() -> None:
    forking = subprocess.run([sys.executable, "-c", FORKS], cwd=ROOT, timeout=CHILD_LIMIT_S, check=False)
    assert forking.returncode == 0


@pytest.mark.parametrize(
    ("code", "domain", "message", "expected"),
    [
        (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC, "End of file", CannotAsk),
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_RPC, "keepalive timeout", CannotAsk),
        (libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_FROM_NONE, "no", CannotAsk),
        (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_QEMU, "No such file", Retryable),
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, "process exited", Retryable),
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, "pc.ram: Cannot allocate memory", DoesNotFit),
        (libvirt.VIR_ERR_NO_MEMORY, libvirt.VIR_FROM_QEMU, "out of memory", DoesNotFit),
        (libvirt.VIR_ERR_XML_ERROR, libvirt.VIR_FROM_DOMAIN, "bad", Refused),
        (libvirt.VIR_ERR_CONFIG_UNSUPPORTED, libvirt.VIR_FROM_QEMU, "no such video", Refused),
        (libvirt.VIR_ERR_OPERATION_TIMEOUT, libvirt.VIR_FROM_QEMU, "state change lock", Retryable),
        (libvirt.VIR_ERR_OPERATION_FAILED, libvirt.VIR_FROM_QEMU, "failed", Retryable),
        (987654, libvirt.VIR_FROM_QEMU, "from the future", Retryable),
    ],
)
def test_each_code_becomes_the_error_whose_reaction_we_want(
    code: int, domain: int, message: str, expected: type[TaskvisorError]
) -> None:
    error = libvirt.libvirtError(message)
    error.err = (code, domain, message, 2, None, None, None, 0, 0)
    translated = model_error_for(error, "do it")
    assert type(translated) is expected
    assert str(translated).startswith("cannot do it")
    assert message in str(translated)


@pytest.mark.real
def test_a_libvirtd_that_was_killed_and_started_again_is_found_by_the_same_object(libvirtd: Libvirtd) -> None:
    connection = LibvirtConnection(libvirtd.uri)
    assert connection.run("ask", ask) == "QEMU"
    kill(libvirtd)
    try:
        with pytest.raises(CannotAsk):
            connection.run("ask", ask)
    finally:
        libvirtd.start()
    assert connection.run("ask", ask) == "QEMU"
    connection.close()


@pytest.mark.real
def test_a_call_is_made_again_when_the_connection_breaks_under_it(libvirtd: Libvirtd) -> None:
    connection = LibvirtConnection(libvirtd.uri)
    connection.run("ask", ask)
    calls = []

    def break_once(opened: "libvirt.virConnect") -> str:
        calls.append(opened)
        if len(calls) == 1:
            kill(libvirtd)
            libvirtd.start()
        return ask(opened)

    assert connection.run("ask", break_once) == "QEMU"
    assert len(calls) == 2
    assert calls[0] is not calls[1]
    connection.close()


@pytest.mark.real
def test_a_hung_libvirtd_is_given_up_on_and_found_again(libvirtd: Libvirtd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "KEEPALIVE_INTERVAL_S", 1)
    monkeypatch.setattr(connection_module, "KEEPALIVE_COUNT", 1)
    monkeypatch.setattr(connection_module, "OPEN_LIMIT_S", 0.5)
    connection = LibvirtConnection(libvirtd.uri)
    connection.run("ask", ask)
    with stopped(libvirtd.pid):
        started = time.monotonic()
        for _ in range(3):  # a call on an open connection, then attempts to open another
            with pytest.raises(CannotAsk):
                connection.run("ask", ask)
        assert time.monotonic() - started < 120.0  # it would hang for ever
    assert connection.run("ask", ask) == "QEMU"
    connection.close()


BOTH_TALK = """
import os
import sys
from virt.connection import LibvirtConnection

connection = LibvirtConnection(sys.argv[1])


def talk() -> bool:
    return {connection.run("ask", lambda opened: opened.getType()) for _ in range(100)} == {"QEMU"}


talk()
pid = os.fork()
if pid == 0:
    os._exit(0 if talk() else 1)
parents_answers_are_right = talk()
ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
raise SystemExit(ended or (0 if parents_answers_are_right and talk() else 2))
"""


@pytest.mark.real
def test_parent_and_child_talk_to_libvirtd_without_disturbing_each_other(libvirtd: Libvirtd) -> None:
    talking = subprocess.run(
        [sys.executable, "-c", BOTH_TALK, libvirtd.uri], cwd=ROOT, timeout=CHILD_LIMIT_S, check=False
    )
    assert talking.returncode == 0
