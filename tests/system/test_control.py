"""`taskvisor control`: requests are taken, and metrics told, on a machine that is no host."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.redis_processes import free_port
from tests.fixtures.machine import ROOT
from tests.metrics.scraping import value_of
from tests.system.nodes import Nodes, running_nodes, wait_until
from tests.system.test_flower import IMAGE, LIMIT_S, SMALL, status_of
from tests.system.test_metrics import scrape

pytestmark = pytest.mark.real


@contextmanager
def central(nodes: Nodes, state_dir: Path, port: int) -> Iterator[Path]:
    """The node, and its log."""
    environment = {
        **os.environ,
        "TASKVISOR_REDIS_URL": nodes.redis_url,
        "TASKVISOR_STATE_DIR": str(state_dir),
        "TASKVISOR_HOST": "central",
        "TASKVISOR_METRICS_PORT": str(port),
        "TASKVISOR_ALLOW_VOLATILE_REDIS": "true",
        "PYTHONPATH": str(ROOT),
    }
    log = state_dir / "central.log"
    with log.open("ab") as file:
        argv = [sys.executable, "-m", "taskvisor.cli", "control"]
        process = subprocess.Popen(argv, env=environment, stdout=file, stderr=file)
    try:
        yield log
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_requests_are_taken_where_no_host_is(redis_url: str, tmp_state_dir: Path) -> None:
    (tmp_state_dir / "central").mkdir()
    port = free_port()
    with running_nodes(redis_url, tmp_state_dir) as nodes:
        nodes.kill("control")
        with central(nodes, tmp_state_dir / "central", port) as log:
            wait_until(lambda: status_of(f"http://127.0.0.1:{port}/metrics") == 200, f"{log.read_text()}", LIMIT_S)

            built = nodes.send("instance.build", name="web1", image=IMAGE, flavor=SMALL).get(timeout=LIMIT_S)

            assert built["host"] == "kvm1"
            assert [host.name for host in nodes.hosts.list_hosts()] == ["kvm1"]
            told = scrape(port)
            assert value_of(told, "taskvisor_operations_total", flow="instance.build", outcome="succeeded") == 1
        nodes.start("control", concurrency=1)  # whoever audits the host asks it
        wait_until(lambda: "control@kvm1 ready" in nodes.log_tail("control"), "the control node", LIMIT_S)
