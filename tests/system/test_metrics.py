"""Metrics of a real node, as Prometheus would ask for them."""

import os
import signal
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.metrics.scraping import Samples, samples_in, value_of
from tests.system.nodes import Nodes, wait_until

pytestmark = pytest.mark.real

SMALL = {"vcpus": 1, "memory_mib": 64, "disk_gib": 1}
IMAGE = "simulated://debian?virtual_gib=1"


@contextmanager
def listening() -> Iterator[socket.socket]:
    """A socket on a loopback port that was free."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken


@pytest.fixture
def port() -> int:
    """A loopback port that was free a moment ago."""
    with listening() as taken:
        number: int = taken.getsockname()[1]
    return number


@contextmanager
def nodes_with_metrics(redis_url: str, state_dir: Path, port: int) -> Iterator[Nodes]:
    """Both nodes of a simulated host; the control node is to serve metrics at that port."""
    nodes = Nodes(redis_url, state_dir, host="kvm1", driver="simulated", TASKVISOR_METRICS_PORT=str(port))
    try:
        nodes.start("steps")
        nodes.start("control", concurrency=1)
        nodes.wait_until_up()
        yield nodes
    finally:
        nodes.stop()


def scrape(port: int) -> Samples:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return samples_in(answer.read().decode())


def listeners_at(port: int, pids: list[int]) -> list[int]:
    """Which of the processes listen at that port."""
    return [
        pid
        for pid in pids
        for one in psutil.Process(pid).net_connections("tcp")
        if one.status == psutil.CONN_LISTEN and one.laddr.port == port
    ]


def test_a_control_node_serves_metrics_and_its_pool_does_not_hold_the_port(
    redis_url: str, tmp_state_dir: Path, port: int
) -> None:
    with nodes_with_metrics(redis_url, tmp_state_dir, port) as nodes:
        nodes.ask("instance.build", name="web1", image=IMAGE, flavor=SMALL)
        told = scrape(port)
        assert value_of(told, "taskvisor_operations_total", flow="instance.build", outcome="succeeded") == 1
        assert value_of(told, "taskvisor_host_up", host="kvm1") == 1
        assert value_of(told, "taskvisor_host_takes_requests", host="kvm1") == 1
        assert value_of(told, "taskvisor_host_claimed_vcpus", host="kvm1") == 1

        for role in ("control", "steps"):
            victim = nodes.children(role)[0]
            os.kill(victim, signal.SIGKILL)
            size = {"control": 1, "steps": 2}[role]
            wait_until(
                lambda role=role, victim=victim, size=size: (  # type: ignore[misc]
                    victim not in nodes.children(role) and len(nodes.children(role)) == size
                ),
                f"the {role} node's pool to be whole again",
            )
        everyone = (
            [nodes.pid(role) for role in ("control", "steps")] + nodes.children("control") + nodes.children("steps")
        )
        assert listeners_at(port, everyone) == [nodes.pid("control")]
        wait_until(lambda: value_of(scrape(port), "taskvisor_pool_processes_died_total") == 1, "the dead to be counted")

        nodes.kill("control")
        nodes.start("control", concurrency=1)
        wait_until(lambda: "metrics_served" in nodes.log_tail("control"), "the port to be taken again")
        wait_until(lambda: _answers(port), "the next node to serve")


def _answers(port: int) -> bool:
    try:
        return value_of(scrape(port), "taskvisor_store_up") == 1
    except OSError:
        return False


def test_a_port_that_is_taken_costs_the_metrics_and_not_the_node(redis_url: str, tmp_state_dir: Path) -> None:
    with listening() as taken, nodes_with_metrics(redis_url, tmp_state_dir, taken.getsockname()[1]) as nodes:
        assert nodes.ask("instance.build", name="web1", image=IMAGE, flavor=SMALL)["vm_state"] == "active"

        assert "metrics_not_served" in nodes.log_tail("control")
        assert "choose another TASKVISOR_METRICS_PORT" in nodes.log_tail("control")
