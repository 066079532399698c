"""`taskvisor up` and `taskvisor worker`, with real nodes whose guests are simulated."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.machine import ROOT

pytestmark = pytest.mark.real
LIMIT_S = 60.0


class Installation:
    """A state directory, and the commands that are run over it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("TASKVISOR_")}
        self.environment |= {
            "TASKVISOR_DRIVER": "simulated",
            "TASKVISOR_HOST": "sim-1",
            "TASKVISOR_STEP_CONCURRENCY": "1",
            "TASKVISOR_FLOWER_PORT": "0",
            "TASKVISOR_STATE_DIR": str(directory),
            "PYTHONPATH": str(ROOT),
        }
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str, **more: str) -> "subprocess.Popen[bytes]":
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "taskvisor.cli", *words],
                env=self.environment | more,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """A command from another terminal, which knows no more than the panel told."""
        told = {
            "TASKVISOR_ENV_FILE": str(self.directory / "taskvisor.env"),
            "PYTHONPATH": str(ROOT),
            "PATH": os.environ["PATH"],
        }
        return subprocess.run(
            [sys.executable, "-m", "taskvisor.cli", *words],
            env=told,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    def said(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def processes(self) -> dict[int, str]:
        """What runs for this state directory, by pid. redis-server writes its title over its environment."""
        found: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit():
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if str(self.directory) in command or self._is_told_of_it(entry):
                        found[int(entry.name)] = command
            except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or not of our making
                continue
        return found

    def _is_told_of_it(self, entry: Path) -> bool:
        variables = (entry / "environ").read_bytes().split(b"\0")
        return f"TASKVISOR_STATE_DIR={self.directory}".encode() in variables

    def pid_of(self, part: str) -> int:
        return min(pid for pid, command in self.processes().items() if part in command)


@pytest.fixture
def installation() -> Iterator[Installation]:
    directory = Path(tempfile.mkdtemp(prefix="tvt-up-"))
    made = Installation(directory)
    yield made
    for process in made.started:
        process.kill()
        process.wait(LIMIT_S)
    made.wait_for(lambda: not made.processes())
    shutil.rmtree(directory)


@pytest.fixture
def up(installation: Installation) -> "subprocess.Popen[bytes]":
    process = installation.start("up")
    installation.wait_for(lambda: "everything is up" in installation.said())
    return process


def test_up_runs_all_of_it_and_leaves_nothing(installation: Installation, up: "subprocess.Popen[bytes]") -> None:
    assert "sim-1 is up: " in installation.said()
    launched = installation.run("launch", "simulated://cirros", "--name", "vm1", "-t", "c1-m128-d1")
    assert launched.returncode == 0, launched.stderr
    assert launched.stdout.startswith("vm1 is running on sim-1")
    (shown,) = json.loads(installation.run("list", "-f", "json").stdout)
    assert (shown["name"], shown["vm_state"], shown["power_state"]) == ("vm1", "active", "running")
    assert installation.run("stop", "vm1").returncode == 0
    assert installation.run("stop", "vm1").returncode == 3
    assert installation.run("launch", "simulated://cirros", "--name", "vm1").returncode == 1
    assert installation.run("delete", "vm1").returncode == 0
    assert installation.run("launch", "simulated://x", "--name", "vm2", "-t", "c1-m16000000-d1").returncode == 5
    port = re.search(r"http://127\.0\.0\.1:(\d+)/", installation.said())
    assert port is not None
    with socket.create_connection(("127.0.0.1", int(port[1])), timeout=5):
        pass
    up.send_signal(signal.SIGTERM)
    assert up.wait(LIMIT_S) == 0
    assert installation.processes() == {}
    assert installation.run("list").stderr.startswith("Error: Redis did not answer")


def test_what_was_there_is_there_again_after_the_next_up(
    installation: Installation, up: "subprocess.Popen[bytes]"
) -> None:
    assert installation.run("launch", "simulated://cirros", "--name", "vm1").returncode == 0
    os.killpg(up.pid, signal.SIGINT)
    assert up.wait(LIMIT_S) == 0
    (installation.directory / "log").unlink()
    again = installation.start("up", "--no-flower", TASKVISOR_ENV_FILE=str(installation.directory / "taskvisor.env"))
    installation.wait_for(lambda: "everything is up" in installation.said())
    assert "not started" in installation.said()
    assert installation.run("show", "vm1").returncode == 0
    again.terminate()
    assert again.wait(LIMIT_S) == 0


def test_nothing_outlives_an_up_that_is_killed(installation: Installation, up: "subprocess.Popen[bytes]") -> None:
    assert len(installation.processes()) >= 7
    up.kill()
    up.wait(LIMIT_S)
    installation.wait_for(lambda: not installation.processes())


def test_a_node_that_is_killed_comes_back(installation: Installation, up: "subprocess.Popen[bytes]") -> None:
    killed = installation.pid_of("steps@sim-1")
    os.kill(killed, signal.SIGKILL)
    installation.wait_for(lambda: "the steps node was ended by SIGKILL" in installation.said())
    launched = installation.run("launch", "simulated://cirros", "--name", "vm1")
    assert launched.returncode == 0, launched.stderr + installation.said()
    assert installation.pid_of("steps@sim-1") != killed


def test_a_second_up_over_the_same_directory_is_refused(
    installation: Installation, up: "subprocess.Popen[bytes]"
) -> None:
    second = installation.start("up")
    assert second.wait(LIMIT_S) == 2
    assert f"taskvisor up runs for {installation.directory} already (process {up.pid})" in installation.said()
    assert installation.run("hosts").returncode == 0


def test_a_machine_that_is_not_ready_is_told_why_and_nothing_stays(installation: Installation) -> None:
    process = installation.start(
        "up", TASKVISOR_DRIVER="libvirt", TASKVISOR_LIBVIRT_URI="qemu+unix:///system?socket=/nonesuch"
    )
    assert process.wait(LIMIT_S) == 1
    assert "taskvisor: - libvirt at qemu+unix:///system?socket=/nonesuch" in installation.said()
    assert "this machine is not ready" in installation.said()
    assert "Traceback" not in installation.said()
    assert installation.processes() == {}


def test_a_port_that_is_taken_is_not_insisted_on(installation: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = installation.start("up", TASKVISOR_FLOWER_PORT=str(port))
        installation.wait_for(lambda: "everything is up" in installation.said())
        assert re.search(rf"Flower gets port \d+: {port} is taken", installation.said())
        process.terminate()
        assert process.wait(LIMIT_S) == 0


def test_a_signal_while_it_starts_stops_what_has_started(installation: Installation) -> None:
    process = installation.start("up")
    installation.wait_for(lambda: any("redis-server" in command for command in installation.processes().values()))
    process.terminate()
    assert process.wait(LIMIT_S) == 0
    assert installation.processes() == {}


def test_a_path_too_long_for_a_socket_is_said(installation: Installation) -> None:
    long = installation.directory / ("x" * 100)
    process = installation.start("up", "--state-dir", str(long))
    assert process.wait(LIMIT_S) == 2
    assert "would be longer than 107 bytes" in installation.said()


def test_a_worker_alone_is_both_nodes_of_a_host(installation: Installation, redis_url: str) -> None:
    process = installation.start("worker", TASKVISOR_REDIS_URL=redis_url, TASKVISOR_ALLOW_VOLATILE_REDIS="true")
    installation.wait_for(lambda: installation.said().count(" ready.") == 2)
    process.terminate()
    assert process.wait(LIMIT_S) == 0
    assert installation.processes() == {}
    assert "taskvisor: stopped" in installation.said()


def test_a_state_directory_that_cannot_be_made_is_said(installation: Installation) -> None:
    process = installation.start("worker", TASKVISOR_STATE_DIR="/proc/nonesuch")
    assert process.wait(LIMIT_S) == 2
    assert "state directory /proc/nonesuch: No such file or directory" in installation.said()
