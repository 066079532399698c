"""`taskvisor console`: who may have one; and the terminal is put back, whatever dies. Consoles of real guests: tests/virt."""

import os
import signal
import sys
import time
from pathlib import Path

from tests.cli.book import Book, instance
from tests.cli.conftest import Cli
from tests.cli.screens import LIMIT_S, Shown, on_screen
from tests.fixtures.machine import ROOT

ATTENDANT = """
import os, signal, sys, tty
tty.setraw(0)
print(f"raw {os.getpid()}", flush=True)
signal.pause()
"""
GUARD = """
import sys
from pathlib import Path
from taskvisor.cli.processes import Program, run_on_terminal
import os, signal
argv = (sys.executable, "-c", sys.argv[1])
program = Program(name="it", argv=argv, environment=dict(os.environ), directory=Path("/"), orphaned=signal.SIGTERM)
code = run_on_terminal(program, set())
print(f"ended {code}", flush=True)
"""


def _pid_in(text: str) -> int:
    return int(text.partition("raw ")[2].split()[0])


def test_the_terminal_is_put_back_when_its_program_is_killed() -> None:
    shown = Shown({"PYTHONPATH": str(ROOT)}, [sys.executable, "-c", GUARD, ATTENDANT], columns=80, rows=24)
    try:
        text = shown.wait_for(lambda text: "raw " in text and text.split("raw ")[1].strip().isdigit())
        assert shown.settings_now() != shown.before
        os.kill(_pid_in(text), signal.SIGKILL)
        shown.wait_for(lambda text: "ended -9" in text)
        assert shown.wait() == 0
        assert shown.settings_now() == shown.before
    finally:
        shown.close()


def test_the_program_goes_with_its_guard() -> None:
    shown = Shown({"PYTHONPATH": str(ROOT)}, [sys.executable, "-c", GUARD, ATTENDANT], columns=80, rows=24)
    try:
        text = shown.wait_for(lambda text: "raw " in text and text.split("raw ")[1].strip().isdigit())
        attendant = _pid_in(text)
        shown.process.kill()
        deadline = time.monotonic() + LIMIT_S
        while Path(f"/proc/{attendant}").exists() and "Z" not in Path(f"/proc/{attendant}/stat").read_text().split()[2]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        shown.close()


def test_without_a_terminal_it_names_the_log(cli: Cli, book: Book) -> None:
    result = cli("console", "web-1")
    assert result.exit_code == 2
    assert "console: needs a terminal; what the guest said is in: taskvisor console-log web-1" in result.stderr


def test_simulated_guests_have_none(environment: dict[str, str], book: Book) -> None:
    book.put_instance(instance("web-1"))
    with on_screen({**environment, "TASKVISOR_DRIVER": "simulated"}, "console", "web-1") as shown:
        assert shown.wait() == 1
        shown.wait_for(lambda text: "web-1 is simulated: it has neither console nor screen" in text)


def test_a_libvirt_that_is_away_is_one_sentence(environment: dict[str, str], book: Book) -> None:
    book.put_instance(instance("web-1"))
    away = {**environment, "TASKVISOR_LIBVIRT_URI": "qemu+unix:///system?socket=/nonesuch/libvirt-sock"}
    with on_screen(away, "console", "web-1", columns=160) as shown:
        assert shown.wait() == 1
        text = shown.wait_for(lambda text: "see whether it runs on this host" in text)
        assert "Traceback" not in text
        assert shown.settings_now() == shown.before


def test_logs_of_several_bear_their_names(cli: Cli, book: Book, tmp_path: Path) -> None:
    for name in ("web-1", "web-2"):
        made = instance(name)
        book.put_instance(made)
        log = tmp_path / "instances" / made.id / "console.log"
        log.parent.mkdir(parents=True)
        log.write_text(f"hello of {name}\n")
    said = cli("console-log", "web-1", "web-2").stdout
    assert said == "==> web-1 <==\nhello of web-1\n\n==> web-2 <==\nhello of web-2\n"
    assert cli("console-log", "web-1").stdout == "hello of web-1\n"
