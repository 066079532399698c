"""The examples of producers that are not ours (examples/producers), each as a process that is asked and answers."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures.machine import ROOT, require_tool
from tests.fixtures.redis_servers import RedisServer
from tests.system.nodes import Nodes, wait_until

EXAMPLES = ROOT / "examples" / "producers"
ASK_LIMIT_S = 120
"""Of one call. What it waits for itself is its TIMEOUT_S."""
INSTALL_LIMIT_S = 300
CREDENTIALS = "lab:secret"


@dataclass(frozen=True, kw_only=True)
class Said:
    """How a producer's process ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, kw_only=True)
class Producer:
    """A command that takes a verb (ask, send, wait, show) and its words."""

    argv: tuple[str, ...]
    environment: dict[str, str]

    def run(self, *words: str, **environment: str) -> Said:
        """`environment` is beside its own."""
        done = subprocess.run(
            (*self.argv, *words),
            env={**os.environ, "TIMEOUT_S": "60", **self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=ASK_LIMIT_S,
            check=False,
        )
        return Said(code=done.returncode, out=done.stdout.strip(), err=done.stderr.strip())


def redis_cli(server: RedisServer, db: int) -> Producer:
    """The shell script that knows only redis-cli."""
    require_tool("redis-cli")
    command = f"redis-cli -s {server.socket} -n {db}"
    return Producer(argv=(str(EXAMPLES / "redis-cli.sh"),), environment={"REDIS_CLI": command})


def celery_node(server: RedisServer, db: int) -> Producer:
    """Node.js with the npm package celery-node, from a copy that is kept for as long as its lock file is the same."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("celery-node is NOT TESTED: Node.js and npm are not installed here")
    node = require_tool("node")
    script = _installed() / "producer.js"
    return Producer(argv=(node, str(script)), environment={"REDIS_URL": f"redis:///{db}?path={server.socket}"})


@contextmanager
def flower(nodes: Nodes, directory: Path) -> Iterator[Producer]:
    """A Flower on a socket, with a password, and curl."""
    require_tool("curl")
    socket, log = directory / "flower.sock", directory / "flower.log"
    argv = (sys.executable, "-m", "celery", "-A", "workers.app", "flower", f"--unix_socket={socket}")
    with log.open("wb") as output:
        process = subprocess.Popen(
            (*argv, f"--basic_auth={CREDENTIALS}"),
            env=nodes.environment,
            cwd=nodes.state_dir,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: socket.exists() or process.poll() is not None, "Flower's socket")
        assert process.poll() is None, log.read_text()
        environment = {
            "CURL": f"curl --unix-socket {socket}",
            "FLOWER_URL": "http://flower",
            "FLOWER_AUTH": CREDENTIALS,
        }
        yield Producer(argv=(str(EXAMPLES / "flower.sh"),), environment=environment)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _installed() -> Path:
    source = EXAMPLES / "celery-node"
    lock = hashlib.sha256((source / "package-lock.json").read_bytes()).hexdigest()[:16]
    target = ROOT / ".cache" / f"celery-node-{lock}"
    if not target.exists():
        _install(source, target)
    shutil.copy(source / "producer.js", target)
    return target


def _install(source: Path, target: Path) -> None:
    """Whole or not at all: another test run may do the same."""
    fresh = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.copytree(source, fresh)
    argv = (require_tool("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    try:
        done = subprocess.run(argv, cwd=fresh, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False)
        if done.returncode != 0:
            pytest.skip(f"celery-node is NOT TESTED: npm can't install it here: {done.stderr.strip()[-500:]}")
        if not target.exists():
            fresh.rename(target)
    except subprocess.TimeoutExpired:
        pytest.skip(f"celery-node is NOT TESTED: npm did not install it within {INSTALL_LIMIT_S} s")
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
