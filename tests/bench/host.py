"""A host with its whole set of processes, by the very command lines of `taskvisor up`: Redis, both nodes, beat.

Flower is left out: it is a window, not a part. What the processes say goes to a file, shown when something fails.
"""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import psutil

from taskvisor.cli.nodes import REDIS, beat_of, nodes_of
from taskvisor.cli.processes import Program, kill_group
from taskvisor.settings import Settings
from taskvisor.state.catalog import Catalog
from taskvisor.state.connection import open_redis
from taskvisor.state.hosts import Hosts
from taskvisor.state.keys import Keys
from tests.fixtures.redis_servers import RedisServer

UP_LIMIT_S = 60.0
STOP_LIMIT_S = 10.0
LOG_TAIL_BYTES = 3000
HOST = "bench"
LOG = "processes.log"


class NotMeasured(Exception):
    """What was to be measured did not happen; the message says what did."""


class BenchHost:
    """One host's processes, and the store behind them."""

    def __init__(self, settings: Settings, server: RedisServer) -> None:
        self.settings = settings
        self._server = server
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self.redis = open_redis(settings.redis_url, timeout_s=settings.redis_timeout_s)
        self.catalog = Catalog(self.redis, Keys(settings.key_prefix))
        self._hosts = Hosts(self.redis, Keys(settings.key_prefix))

    def start(self) -> None:
        """Both nodes and beat run, and the host has reported what it has."""
        with (self.settings.state_dir / LOG).open("ab") as log:
            for program in (*nodes_of(self.settings), beat_of(self.settings)):
                self._started[program.name] = _start(program, log)
        deadline = time.monotonic() + UP_LIMIT_S
        while not self._is_up():
            if time.monotonic() > deadline:
                raise NotMeasured(f"the host was not up within {UP_LIMIT_S:g} s")
            time.sleep(0.05)

    def _is_up(self) -> bool:
        for name, process in self._started.items():
            if process.poll() is not None:
                raise NotMeasured(f"{name} ended with {process.returncode} while it was started")
        return any(host.up and host.inventory is not None for host in self._hosts.list_hosts())

    def processes(self) -> Mapping[str, tuple[psutil.Process, ...]]:
        """Every process of the set, by the program that it belongs to."""
        pids = {name: process.pid for name, process in self._started.items()}
        roots = {name: psutil.Process(pid) for name, pid in {**pids, REDIS: self._server.pid}.items()}
        return {name: (root, *root.children(recursive=True)) for name, root in roots.items()}

    def count_instances(self) -> int:
        """How many there are on the host."""
        return len(self.catalog.list_instances())

    def stop(self) -> None:
        """Neither node runs, nor beat. All are told at once, then each is waited for."""
        for process in self._started.values():
            process.send_signal(signal.SIGTERM)
        for process in self._started.values():
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                kill_group(process.pid)
                process.wait()
        self.redis.close()


@contextmanager
def running_host(driver: Literal["libvirt", "simulated"], **options: Any) -> Iterator[BenchHost]:
    """The host is up; when the block ends, nothing of it is left. `options` are settings."""
    directory = Path(tempfile.mkdtemp(prefix="tvb-"))  # short: a socket's path has at most 107 bytes
    directory.chmod(0o755)  # dnsmasq reads its hosts as nobody
    server = RedisServer(directory / "redis", appendonly="yes")
    try:
        server.start()
        settings = Settings(redis_url=server.url(), state_dir=directory, host=HOST, driver=driver, **options)
        host = BenchHost(settings, server)
        try:
            host.start()
            yield host
        finally:
            host.stop()
    except Exception:
        _show_log(directory)
        raise
    finally:
        server.stop()
        shutil.rmtree(directory)


def _start(program: Program, log: Any) -> "subprocess.Popen[bytes]":
    """In a session of its own: a ctrl-C is for us, who stop it in good order."""
    return subprocess.Popen(
        program.argv,
        env=dict(program.environment),
        cwd=program.directory,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _show_log(directory: Path) -> None:
    log = directory / LOG
    if log.exists():
        sys.stderr.write(log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace"))
