"""The users of deploy/redis/users.acl can do what they must, on a real Redis, and not what they must not."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis.exceptions

from taskvisor.client import Taskvisor
from taskvisor.model.errors import TaskvisorError
from tests.deploy.redis_processes import free_port, open_processes, start_redis
from tests.fixtures.machine import ROOT
from tests.system.nodes import Nodes, running_nodes, wait_until
from tests.system.test_beat import beating

pytestmark = pytest.mark.real

ACL = ROOT / "deploy" / "redis" / "users.acl"
IMAGE = "simulated://debian?virtual_gib=1"


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """A Redis with our users, and one of the test's own who may do anything."""

    port: int

    def url(self, user: str, password: str) -> str:
        return f"redis://{user}:{password}@127.0.0.1:{self.port}/0"

    @property
    def worker(self) -> str:
        return self.url("taskvisor", "CHANGE-ME-worker")

    @property
    def producer(self) -> str:
        return self.url("producer", "CHANGE-ME-producer")

    def refused(self) -> list[str]:
        """What was refused to whom since the last look."""
        with redis.Redis.from_url(self.url("tester", "x"), decode_responses=True) as client:
            entries = client.execute_command("ACL", "LOG", "100")
            client.execute_command("ACL", "LOG", "RESET")
        return sorted(f"{entry['username']}: {entry['reason']} {entry['object']}" for entry in entries)


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    with open_processes() as processes:
        file = processes.directory / "users.acl"
        file.write_text(ACL.read_text() + "user tester on >x ~* &* +@all\n")
        port = free_port()
        start_redis(processes, "redis", port, "--aclfile", str(file))
        yield Guarded(port=port)


def test_nodes_and_producers_work_under_the_acl_and_ask_for_nothing_else(guarded: Guarded, tmp_state_dir: Path) -> None:
    with running_nodes(guarded.worker, tmp_state_dir) as nodes:
        work(guarded, nodes)
        assert guarded.refused() == []
    assert guarded.refused() == []  # nor at their end


def work(guarded: Guarded, nodes: Nodes) -> None:
    """A life of an instance, asked for by the producer; commands that look; beat; and a worker's answer to an inspection."""
    with Taskvisor(guarded.producer) as client:
        client.build(name="web1", image=IMAGE, flavor="c1-m64-d1").wait(60)
        client.snapshot("web1", image="gold").wait(60)
        client.reboot("web1").wait(60)
        for words in (["list"], ["hosts"], ["ops", "list"], ["show", "web1", "--history"], ["ticks"]):
            run_command(guarded.producer, *words)
        run_command(guarded.worker, "verify")
        with pytest.raises(TaskvisorError):
            client.build(name="web1", image=IMAGE, flavor="c1-m64-d1").wait(60)
        client.delete("web1").wait(60)
    assert nodes.producer.control.inspect(timeout=20).ping()
    run_beat_for_a_moment(guarded, nodes)


def run_command(url: str, *words: str) -> None:
    environment = {"TASKVISOR_REDIS_URL": url, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "taskvisor.cli", *words]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"taskvisor {' '.join(words)}: {done.stdout} {done.stderr}"


def run_beat_for_a_moment(guarded: Guarded, nodes: Nodes) -> None:
    with redis.Redis.from_url(guarded.url("tester", "x")) as client, beating(guarded.worker, nodes.state_dir, "first"):
        wait_until(lambda: client.exists("taskvisor:tick:slices"), "a tick that beat sent")


FORBIDDEN = [
    ("producer", ["FLUSHALL"]),
    ("producer", ["CONFIG", "GET", "*"]),
    ("producer", ["KEYS", "*"]),
    ("producer", ["SET", "taskvisor:schema", "9"]),
    ("producer", ["DEL", "taskvisor:ops"]),
    ("producer", ["LPUSH", "host.kvm1", "a step of its own"]),
    ("producer", ["PUBLISH", "/0.celery.pidbox", "shutdown"]),
    ("producer", ["LRANGE", "other-programs-queue", "0", "-1"]),
    ("taskvisor", ["FLUSHDB"]),
    ("taskvisor", ["CONFIG", "SET", "appendonly", "no"]),
    ("taskvisor", ["ACL", "LIST"]),
    ("taskvisor", ["SHUTDOWN"]),
    ("taskvisor", ["SET", "other:key", "x"]),
]


@pytest.mark.parametrize(
    ("user", "command"), FORBIDDEN, ids=lambda value: value if isinstance(value, str) else value[0]
)
def test_what_a_user_has_no_use_for_is_refused(guarded: Guarded, user: str, command: list[str]) -> None:
    url = {"producer": guarded.producer, "taskvisor": guarded.worker}[user]
    with redis.Redis.from_url(url) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)


def test_nobody_comes_in_without_a_name(guarded: Guarded) -> None:
    with redis.Redis(port=guarded.port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
