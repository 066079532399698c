"""A host with its whole set of processes, started with the command lines that `taskvisor up` starts them with.

Redis, the steps node, the control node and beat; no Flower, which is a window and not a part. All in a directory of its
own with a short path, and all gone when the block ends, however it ends.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from taskvisor.cli import nodes
from taskvisor.cli.processes import kill_group, start_process
from taskvisor.settings import Settings
from taskvisor.state.catalog import Catalog
from taskvisor.state.connection import open_redis
from taskvisor.state.hosts import Hosts
from taskvisor.state.keys import Keys
from tests.fixtures.redis_servers import RedisServer

UP_LIMIT_S = 60.0
STOP_LIMIT_S = 20.0
LOG_TAIL_BYTES = 3000
HOST = "bench"


class NotMeasured(Exception):
    """Something did not do what was to be measured; the message says what."""


class BenchHost:
    """One host's processes, and the store as its Redis has it."""

    def __init__(self, directory: Path, settings: Settings, redis_server: RedisServer) -> None:
        self.directory = directory
        self.settings = settings
        self.redis_server = redis_server
        self.redis = open_redis(settings.redis_url, timeout_s=settings.redis_timeout_s)
        keys = Keys(settings.key_prefix)
        self.catalog = Catalog(self.redis, keys)
        self._hosts = Hosts(self.redis, keys)
        self._log = (directory / "nodes.log").open("ab")
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Both nodes and beat run, and the host has reported what it has."""
        for program in (*nodes.nodes_of(self.settings), nodes.beat_of(self.settings)):
            self._started[program.name] = start_process(program, ())
        deadline = time.monotonic() + UP_LIMIT_S
        while not self._is_up():
            for name, process in self._started.items():
                if process.poll() is not None:
                    raise NotMeasured(f"{name} ended with {process.returncode}")
            if time.monotonic() > deadline:
                raise NotMeasured(f"the host was not up within {UP_LIMIT_S:g} s")
            time.sleep(0.05)

    def _is_up(self) -> bool:
        return any(host.up and host.inventory is not None for host in self._hosts.list_hosts())

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Every process of the set, by the program that it belongs to."""
        roots = {name: process.pid for name, process in self._started.items()} | {nodes.REDIS: self.redis_server.pid}
        found = {name: psutil.Process(pid) for name, pid in roots.items()}
        return {name: [root, *root.children(recursive=True)] for name, root in found.items()}

    def stop(self) -> None:
        """Nothing of the set runs. The nodes are told all at once, then each is waited for."""
        for process in self._started.values():
            process.send_signal(signal.SIGTERM)
        for process in self._started.values():
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                kill_group(process.pid)
                process.wait()
        self._started.clear()
        self.redis.close()
        self.redis_server.stop()
        self._log.close()


@contextmanager
def running_host(**options: Any) -> Iterator[BenchHost]:
    directory = Path(tempfile.mkdtemp(prefix="tvb-"))
    directory.chmod(0o755)
    server = RedisServer(directory / "redis", appendonly="yes")
    (directory / "redis").mkdir()
    server.start()
    settings = Settings(redis_url=server.url(), state_dir=directory, host=HOST, **options)
    host = BenchHost(directory, settings, server)
    try:
        host.start()
        yield host
    finally:
        host.stop()
        shutil.rmtree(directory)
