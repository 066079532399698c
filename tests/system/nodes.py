"""A host with real Celery workers, as an operator would run it, and a producer that knows nothing but Celery and Redis."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery
from celery.result import AsyncResult

from taskvisor.model.finding import Code
from taskvisor.model.ids import HostName
from taskvisor.model.urls import celery_url_for
from taskvisor.state.catalog import Catalog
from taskvisor.state.connection import open_redis
from taskvisor.state.hosts import Hosts
from taskvisor.state.keys import Keys
from tests.fixtures.machine import ROOT
from tests.support.published import require_published_arguments, require_published_result
from tests.system.auditing import require_true_records

LIMIT_S = 60.0
START_LIMIT_S = 200.0
"""Of a node: two seconds of work for an idle machine, a minute and more for one that does much else."""
PREFIX = "taskvisor:"
QUEUES = {"steps": "host.{host}", "control": "host.{host}.control,compute"}


def wait_until(true: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Look again and again until it is true; fail in words when it is not within the limit."""
    deadline = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {limit_s} s for {what}")
        time.sleep(0.02)


class Nodes:
    """The two nodes of one host, each a process that can be killed and started again."""

    def __init__(
        self, redis_url: str, state_dir: Path, *, host: str, driver: str, libvirt_uri: str = "", **options: str
    ) -> None:
        """`options` are further variables of the nodes' environment."""
        self.redis_url = redis_url
        self.state_dir = state_dir
        self.host = host
        self.environment = {
            **os.environ,
            "TASKVISOR_REDIS_URL": redis_url,
            "TASKVISOR_STATE_DIR": str(state_dir),
            "TASKVISOR_HOST": host,
            "TASKVISOR_DRIVER": driver,
            "TASKVISOR_ALLOW_VOLATILE_REDIS": "true",  # a test's Redis need not outlive it
            "TASKVISOR_SWEEP_S": "2",
            "PYTHONPATH": str(ROOT),
            **({"TASKVISOR_LIBVIRT_URI": libvirt_uri} if libvirt_uri else {}),
            **options,
        }
        """Of the nodes, and of what else runs beside them."""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.leaves: set[Code] = set()
        """What the test leaves on purpose, so that the audit after it does not mind."""
        client = open_redis(redis_url, timeout_s=5)
        self.redis = client
        self.catalog = Catalog(client, Keys(PREFIX))
        self.hosts = Hosts(client, Keys(PREFIX))
        self.producer = self._new_producer()

    def _new_producer(self) -> Celery:
        url = celery_url_for(self.redis_url)
        return Celery("producer", broker=url, backend=url, set_as_current=False)

    def forget(self, operation_id: str) -> None:
        """The result under the id is gone. By another producer: Celery's may have a second copy of it under way to itself."""
        self.producer.backend.forget(operation_id)
        self.producer = self._new_producer()

    def start(self, role: str, *, concurrency: int = 2) -> None:
        """The node runs; it says when it is ready by answering (see `wait_until_up`)."""
        argv = ["-n", f"{role}@{self.host}", "-Q", QUEUES[role].format(host=self.host), "-c", str(concurrency)]
        log = (self.state_dir / f"{role}.log").open("ab")
        self._processes[role] = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "celery",
                "-A",
                "workers.app",
                "worker",
                *argv,
                "--without-gossip",
                "--without-mingle",
            ],
            env=self.environment,
            stdout=log,
            stderr=log,
            cwd=self.state_dir,
        )

    def pid(self, role: str) -> int:
        return self._processes[role].pid

    def runs(self, role: str) -> bool:
        """The node was started, and has not ended."""
        return role in self._processes and self._processes[role].poll() is None

    def children(self, role: str) -> list[int]:
        """The pool processes of a node."""
        tasks = Path(f"/proc/{self.pid(role)}/task/{self.pid(role)}/children")
        return [int(pid) for pid in tasks.read_text().split()]

    def kill(self, role: str) -> None:
        """SIGKILL, as of a power cut; its pool processes die with it."""
        process = self._processes.pop(role)
        process.kill()
        process.wait(timeout=10)

    def stop(self) -> None:
        """Warm shutdown of all nodes, then KILL for those that did not heed it."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=10)
        self._processes.clear()

    def wait_until_up(self) -> None:
        """The host is up and has reported what it has."""

        def is_up() -> bool:
            for role, process in self._processes.items():
                assert process.poll() is None, f"the {role} node has ended: {self.log_tail(role)}"
            return any(host.name == self.host and host.up and host.inventory for host in self.hosts.list_hosts())

        wait_until(is_up, f"host {self.host} to come up: {self.log_tail('control')}", START_LIMIT_S)

    def log_tail(self, role: str) -> str:
        path = self.state_dir / f"{role}.log"
        return path.read_text()[-3000:] if path.exists() else ""

    def send(self, task: str, operation_id: str | None = None, **fields: Any) -> AsyncResult:
        """Ask, as any producer does."""
        return self.producer.send_task(task, kwargs=fields, queue="compute", task_id=operation_id)

    def ask(self, task: str, operation_id: str | None = None, **fields: Any) -> Any:
        """Ask, and wait for the outcome; raises what the operation failed with. Both are as docs/schema says."""
        result = self.send(task, operation_id, **fields).get(timeout=LIMIT_S)
        require_published_arguments(task, fields)
        require_published_result(task, result)
        return result

    def incarnation(self) -> str | None:
        return self.hosts.read_incarnation(HostName(self.host))


@contextmanager
def running_nodes(
    redis_url: str,
    state_dir: Path,
    *,
    host: str = "kvm1",
    driver: str = "simulated",
    libvirt_uri: str = "",
    **options: str,
) -> Iterator[Nodes]:
    """Both nodes of a host, up; stopped when the block ends, after an audit. `options` are further variables of theirs."""
    nodes = Nodes(redis_url, state_dir, host=host, driver=driver, libvirt_uri=libvirt_uri, **options)
    try:
        nodes.start("steps")
        nodes.start("control", concurrency=1)
        nodes.wait_until_up()
        yield nodes
        require_true_records(nodes)
    finally:
        nodes.stop()
