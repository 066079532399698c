"""Redis servers, sentinels and a proxy with configurations of their own, on loopback ports that were free, ended by pid."""

import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.fixtures.machine import require_tool
from tests.system.nodes import wait_until

LIMIT_S = 60.0


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number: int = taken.getsockname()[1]
    return number


class Processes:
    """Programs of one test, each with a directory; all have ended when the test has."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *argv: str) -> None:
        require_tool(argv[0])
        with (self.directory / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(argv, cwd=self.directory, stdout=log, stderr=log)

    def kill(self, name: str) -> None:
        process = self._running.pop(name)
        process.kill()
        process.wait(timeout=LIMIT_S)

    def said(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()[-2000:]

    def end(self) -> None:
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            try:
                process.wait(timeout=LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=LIMIT_S)


@contextmanager
def open_processes() -> Iterator[Processes]:
    directory = Path(tempfile.mkdtemp(prefix="tvt-deploy-"))
    processes = Processes(directory)
    try:
        yield processes
    finally:
        processes.end()
        shutil.rmtree(directory)


def answers(url: str) -> bool:
    """Something there answers to PING, or says that it knows us not."""
    try:
        with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
            return bool(client.ping())
    except redis.AuthenticationError:
        return True
    except redis.RedisError:
        return False


def start_redis(processes: Processes, name: str, port: int, *options: str) -> None:
    """A server on that port answers."""
    directory = processes.directory / name
    directory.mkdir(exist_ok=True)
    words = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", "", "--appendonly", "yes")
    processes.start(name, "redis-server", *words, *options)
    wait_until(lambda: answers(f"redis://127.0.0.1:{port}/0"), f"{name} to answer: {processes.said(name)}", LIMIT_S)
