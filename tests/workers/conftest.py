"""A Redis of one's own on a private socket, and Celery workers as subprocesses, all ended by pid."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

DEADLINE_S = 30.0
HERE = Path(__file__).parent


def wait_until(holds: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Poll until `holds()` is true; fail with `what` after the deadline."""
    end = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > end:
            pytest.fail(f"not within {deadline_s} s: {what}")
        time.sleep(0.01)


class RedisServer:
    """A redis-server with an append-only file, so that a kill -9 loses nothing it has answered."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "redis.sock"
        self.url = f"redis+socket://{self.socket}?virtual_host=0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["redis-server", "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.directory)]
        command += ["--appendonly", "yes", "--save", "", "--logfile", str(self.directory / "redis.log")]
        self._process = subprocess.Popen(command)
        wait_until(self._answers, "redis-server answers")

    def _answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.RedisError:
            return False

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=10.0, retry=Retry(NoBackoff(), 0))

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None
        self.socket.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """One server for a module; a test that stops it starts it again."""
    directory = Path(tempfile.mkdtemp(prefix="tv-", dir="/tmp"))  # a socket's path may have 107 bytes
    server = RedisServer(directory)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(directory)


@pytest.fixture
def transport_redis(redis_server: RedisServer) -> RedisServer:
    """A Redis that is empty."""
    redis_server.client().flushall()
    return redis_server


class Worker:
    """A Celery worker process and what its tasks left behind."""

    def __init__(self, server: RedisServer, process: subprocess.Popen[bytes], directory: Path, log: Path) -> None:
        self._server = server
        self.process = process
        self.directory = directory
        self._log = log

    def traces(self) -> list[str]:
        path = self.directory / "ran"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for(self, *traces: str) -> None:
        wait_until(
            lambda: set(traces) <= set(self.traces()) or self._died(), f"traces {traces[:5]}\n{self.log()[-6000:]}"
        )

    def wait_for_more(self, count: int) -> None:
        """Wait until `count` more traces are there than now."""
        goal = len(self.traces()) + count
        wait_until(lambda: len(self.traces()) >= goal or self._died(), f"{count} more traces\n{self.log()[-6000:]}")

    def _died(self) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"the worker ended with {self.process.returncode}\n{self.log()[-6000:]}")
        return False

    def open_gate(self, name: str) -> None:
        (self.directory / f"open-{name}").touch()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_until_waiting(self, readers: int = 1) -> None:
        """Until it blocks on so many queues: then everything before is settled or running."""
        client = self._server.client()

        def waits() -> bool:
            waiting = [one for one in client.client_list() if one["cmd"] == "blmove" and "b" in one["flags"]]
            return len(waiting) >= readers or self._died()

        wait_until(waits, f"{readers} queues waited for\n{self.log()[-6000:]}")

    def kill(self) -> None:
        """As a power cut would; the pool's children die with their parent."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Warm shutdown; the exit code."""
        self.process.terminate()
        return self.process.wait(timeout=DEADLINE_S)


@contextmanager
def running_worker(
    server: RedisServer,
    directory: Path,
    *,
    queues: str = "host.a",
    pool: str = "prefork",
    concurrency: int = 2,
    transport: str = "reliable",
    log_level: str = "info",
) -> Iterator[Worker]:
    log = directory / f"worker-{uuid4()}.log"
    environment = os.environ | {
        "PROBE_REDIS_URL": server.url,
        "PROBE_DIR": str(directory),
        "PROBE_CONSUMER": "kvm07",
        "PROBE_TRANSPORT": transport,
        "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent.parent}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "celery", "-A", "probe_app", "worker", "-Q", queues, "-P", pool]
    command += ["-c", str(concurrency), "-n", "probe@kvm07", "-l", log_level]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=directory, stdout=output, stderr=subprocess.STDOUT)
    worker = Worker(server, process, directory, log)
    try:
        yield worker
    finally:
        if process.poll() is None:
            worker.kill()


def message(
    name: str = "one",
    *,
    task: str = "probe.note",
    args: list[object] | None = None,
    without: str = "",
    **changes: object,
) -> bytes:
    """A message of protocol 2 as a producer in any language would send it, with parts replaced or left out by path.

    `changes` name paths with `__` for a dot and `_` for a dash: `headers__id=7`; `without="headers.id"` leaves that out.
    """
    body = base64.b64encode(json.dumps([args if args is not None else [name], {}, {}]).encode()).decode()
    whole: dict[str, object] = {
        "body": body,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": task, "id": str(uuid4())},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
            "delivery_info": {"exchange": "", "routing_key": "host.a"},
        },
    }
    for path, value in changes.items():
        holder, last = _holder(whole, path.replace("__", ".").replace("content_", "content-"))
        holder[last] = value
    if without:
        holder, last = _holder(whole, without)
        del holder[last]
    return json.dumps(whole).encode()


def _holder(whole: dict[str, object], path: str) -> tuple[dict[str, object], str]:
    *parents, last = path.split(".")
    holder = whole
    for parent in parents:
        inner = holder[parent]
        assert isinstance(inner, dict)
        holder = inner
    return holder, last
