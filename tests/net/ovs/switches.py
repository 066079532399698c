"""A private Open vSwitch: its database and its daemon, in a directory, with bridges in user space (datapath_type=netdev).

This kernel has no module openvswitch. What differs is who moves the frames; the database, and what ovs-vswitchd does to the TAPs
(tc included), are the same.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures.machine import require_tool, run_or_fail

LIMIT_S = 60.0
SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")


@dataclass(frozen=True, kw_only=True)
class PrivateSwitch:
    """Both daemons run in the network namespace of who started them."""

    directory: Path

    @property
    def remote(self) -> str:
        return f"unix:{self.directory}/db.sock"

    def vsctl(self, *words: str) -> str:
        """What ovs-vsctl prints, without the line's end."""
        return run_or_fail(["ovs-vsctl", f"--db={self.remote}", "--timeout=50", *words], limit_s=LIMIT_S).strip()

    def add_bridge(self, name: str) -> None:
        self.vsctl("add-br", name, "--", "set", "bridge", name, "datapath_type=netdev")

    def stop(self, daemon: str) -> None:
        """The daemon has ended; nothing when it does not run."""
        pidfile = self.directory / f"{daemon}.pid"
        with suppress(FileNotFoundError, ProcessLookupError):
            pid = int(pidfile.read_text())
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGTERM)
            _wait_for_end(pid)

    def end(self) -> None:
        """Both have ended, and so have the links that ovs-vswitchd made for its bridges: a plain end leaves them."""
        with suppress(FileNotFoundError):
            pid = self.pid_of("ovs-vswitchd")
            run_or_fail(
                ["ovs-appctl", f"--target={self.directory}/ovs-vswitchd.ctl", "exit", "--cleanup"], limit_s=LIMIT_S
            )
            _wait_for_end(pid)
        self.stop("ovsdb-server")

    def pid_of(self, daemon: str) -> int:
        return int((self.directory / f"{daemon}.pid").read_text())

    def start_vswitchd(self) -> None:
        self._start("ovs-vswitchd", self.remote)

    def start_database(self) -> None:
        self._start("ovsdb-server", f"--remote=p{self.remote}", str(self.directory / "conf.db"))

    def _start(self, daemon: str, *words: str) -> None:
        require_tool(daemon)
        here = {"OVS_RUNDIR": str(self.directory), "OVS_LOGDIR": str(self.directory)}
        options = [
            "--detach",
            "--no-chdir",
            f"--pidfile={self.directory}/{daemon}.pid",
            "-vconsole:off",
            "-vsyslog:off",
        ]
        control = f"--unixctl={self.directory}/{daemon}.ctl"
        done = subprocess.run(
            [daemon, *words, *options, control, f"--log-file={self.directory}/{daemon}.log"],
            env=os.environ | here,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=LIMIT_S,
            check=False,
        )
        if done.returncode != 0:
            pytest.fail(
                f"{daemon} did not start: {(self.directory / f'{daemon}.log').read_text()[-2000:]}", pytrace=False
            )


@contextmanager
def open_private_switch(directory: Path) -> Iterator[PrivateSwitch]:
    """An Open vSwitch without bridges; both daemons have ended afterwards."""
    if not SCHEMA.exists():
        pytest.fail(f"{SCHEMA} is not there; run scripts/setup.sh", pytrace=False)
    run_or_fail(["ovsdb-tool", "create", directory / "conf.db", SCHEMA], limit_s=LIMIT_S)
    switch = PrivateSwitch(directory=directory)
    try:
        switch.start_database()
        switch.vsctl("--no-wait", "init")
        switch.start_vswitchd()
        yield switch
    finally:
        switch.end()


def _wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
