"""README's way to the first VM, typed as it stands there: line by line, in two terminals, with guests that are small files.

What would change this machine (apt-get, modprobe, make setup) and ssh to a guest are programs of the test that note how they were
called; every `taskvisor` is the real one, with a Redis, nodes and a beat of its own.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.machine import ROOT
from tests.support.pages import blocks_of

pytestmark = pytest.mark.real
LIMIT_S = 200
README = (ROOT / "README.md").read_text()
SECTION = README[README.index("## The first VM") : README.index("## From a program")]
NOTED = ("apt-get", "modprobe", "make", "ssh")
STATE_DIR = "/var/lib/taskvisor"


class Desk:
    """A directory to work in, as a checkout is, and what is typed there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state_dir = directory / "s"
        self.called = directory / "called"
        self.said = directory / "said"
        programs = directory / "bin"
        programs.mkdir()
        for name in NOTED:
            self._write_program(programs / name, f'echo "{name} $*" >> {self.called}')
        (directory / ".venv" / "bin").mkdir(parents=True)
        self._write_program(directory / ".venv/bin/taskvisor", f'exec {sys.executable} -m taskvisor.cli "$@"')
        (directory / ".ssh").mkdir()
        (directory / ".ssh/id_ed25519.pub").write_text(f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 43} me\n")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASKVISOR_")}
        self.environment = {
            **inherited,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(directory),
            "PYTHONPATH": str(ROOT),
        }

    def _write_program(self, path: Path, line: str) -> None:
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def open_first_terminal(self, typed: str) -> "subprocess.Popen[bytes]":
        """A shell in which the lines are run; the last one stays."""
        simulated = {
            "TASKVISOR_DRIVER": "simulated",
            "TASKVISOR_FLOWER_PORT": "0",
            "TASKVISOR_STATE_DIR": str(self.state_dir),
        }
        with self.said.open("wb") as said:
            return subprocess.Popen(
                ["bash", "-e", "-c", typed],
                cwd=self.directory,
                env=self.environment | simulated,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def wait_until_it_is_up(self, terminal: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + LIMIT_S
        while "everything is up" not in self.said.read_text():
            assert terminal.poll() is None, self.said.read_text()
            assert time.monotonic() < deadline, self.said.read_text()
            time.sleep(0.1)

    def type_in_second_terminal(self, typed: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", "-e", "-c", typed.replace(STATE_DIR, str(self.state_dir))],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )


@pytest.fixture
def desk() -> Iterator[Desk]:
    directory = Path(tempfile.mkdtemp(prefix="tvt-first-"))  # short: the paths of sockets end at 107 bytes
    yield Desk(directory)
    shutil.rmtree(directory)


@pytest.fixture
def second_terminal(desk: Desk) -> Iterator[Desk]:
    """The first terminal's lines were typed, and everything is up; it ends by ctrl-C."""
    terminal = desk.open_first_terminal(blocks_of(SECTION, "sh")[0])
    try:
        desk.wait_until_it_is_up(terminal)
        yield desk
        os.killpg(terminal.pid, signal.SIGINT)
        assert terminal.wait(LIMIT_S) in (0, 130, -signal.SIGINT), desk.said.read_text()
    finally:
        if terminal.poll() is None:
            os.killpg(terminal.pid, signal.SIGKILL)  # what `taskvisor up` started ends with it
            terminal.wait(LIMIT_S)


@pytest.mark.timeout(600)
def test_the_first_vm_comes_and_goes_as_the_readme_says(second_terminal: Desk) -> None:
    done = second_terminal.type_in_second_terminal(blocks_of(SECTION, "sh")[1])

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^web1 is running on .+, 10\.152\.0\.\d+ ", done.stdout, re.M)
    assert re.search(r"^web1 is deleted", done.stdout, re.M)
    called = second_terminal.called.read_text().splitlines()
    assert called[:3] == ["apt-get install -y make libvirt-daemon-system", "modprobe br_netfilter", "make setup"]
    assert [line for line in called[3:] if re.fullmatch(r"ssh -l debian 10\.152\.0\.\d+", line)] == called[3:] != []


def test_it_takes_ten_lines() -> None:
    first, second, *_ = blocks_of(SECTION, "sh")

    assert len(first.splitlines()) + len(second.splitlines()) <= 10
