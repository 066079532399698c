"""Placement with real workers whose guests are simulated: told why, tried out, several at once; and wrong rules refused."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskvisor.model.errors import NoCapacity
from tests.fixtures.machine import ROOT
from tests.fixtures.redis_servers import RedisServer
from tests.system.nodes import Nodes, running_nodes, wait_until
from tests.system.test_requests import IMAGE, SMALL, held

pytestmark = pytest.mark.real

DATABASE = 13
COMMAND_LIMIT_S = 120


@pytest.fixture(scope="module")
def nodes(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Two hosts; either takes requests."""
    redis_server.flush(DATABASE)
    url = redis_server.url(DATABASE)
    with (
        running_nodes(url, tmp_path_factory.mktemp("kvm1"), host="kvm1") as first,
        running_nodes(url, tmp_path_factory.mktemp("kvm2"), host="kvm2"),
    ):
        yield first


@pytest.fixture(autouse=True)
def everything_is_deleted(nodes: Nodes) -> Iterator[None]:
    """After each test its guests are deleted, and nothing of them is held."""
    yield
    for name in nodes.redis.hkeys("taskvisor:names"):
        nodes.ask("instance.delete", instance=name)
    assert held(nodes) == []


def taskvisor(nodes: Nodes, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, as an operator runs it."""
    environment = {**os.environ, "TASKVISOR_REDIS_URL": nodes.redis_url, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", "from taskvisor.cli import main; main()", *words]
    return subprocess.run(
        argv, env=environment, cwd=nodes.state_dir, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False
    )


def told(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_why_tells_what_placement_saw(nodes: Nodes) -> None:
    assert taskvisor(nodes, "host", "label", "kvm2", "gpu=a100").returncode in (0, 3)
    nodes.ask("instance.build", "why-op", name="web", image=IMAGE, flavor=SMALL, require_labels=["gpu=a100"])

    why = told(taskvisor(nodes, "why", "web", "-f", "json"))

    assert why["host"] == "kvm2"
    assert [(row["host"], row["reason"], row["remedy"]) for row in why["refusals"]] == [
        ("kvm1", "it lacks label gpu=a100", "taskvisor host label kvm1 gpu=a100")
    ]
    with pytest.raises(NoCapacity, match="no host fits"):
        nodes.ask("instance.build", "why-not", name="db", image=IMAGE, flavor=SMALL, require_labels=["tape"])
    assert {row["host"] for row in told(taskvisor(nodes, "why", "why-not", "-f", "json"))["refusals"]} == {
        "kvm1",
        "kvm2",
    }


def test_a_dry_run_is_answered_by_the_host_that_would_be_chosen(nodes: Nodes) -> None:
    words = ("launch", IMAGE, "-n", "dry", "-t", "c1-m64-d1", "--host", "kvm2", "--dry-run", "-f", "json")

    plan = told(taskvisor(nodes, *words))

    assert plan["host"] == "kvm2"
    assert [disk["role"] for disk in plan["disks"]] == ["root", "seed"]
    assert plan["nics"][0]["mac"] in plan["xml"]
    assert nodes.catalog.find_instance("dry") is None


def test_several_are_launched_spread_over_both_hosts(nodes: Nodes) -> None:
    done = told(taskvisor(nodes, "launch", IMAGE, "-n", "web", "-t", "c1-m64-d1", "--count", "4", "-f", "json"))

    assert sorted((one["name"], one["vm_state"]) for one in done) == [
        (f"web-{number}", "active") for number in range(1, 5)
    ]
    assert sorted(one["host"] for one in done) == ["kvm1", "kvm1", "kvm2", "kvm2"]


def test_a_host_that_is_disabled_is_passed_over_by_every_node(nodes: Nodes) -> None:
    taskvisor(nodes, "host", "disable", "kvm1", "--reason", "new disks")
    try:
        built = [nodes.ask("instance.build", name=f"d{number}", image=IMAGE, flavor=SMALL) for number in range(4)]
    finally:
        assert taskvisor(nodes, "host", "enable", "kvm1").returncode == 0

    assert {one["host"] for one in built} == {"kvm2"}


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"TASKVISOR_FILTERS": "up,upp"}, "'upp': there is no filter of that name; known: "),
        ({"TASKVISOR_WEIGHTS": "ram=1"}, "'ram': there is no weigher of that name; known: "),
    ],
)
def test_a_node_whose_rules_nobody_has_does_not_start(
    redis_server: RedisServer, tmp_path: Path, setting: dict[str, str], sentence: str
) -> None:
    redis_server.flush(12)
    nodes = Nodes(redis_server.url(12), tmp_path, host="kvm9", driver="simulated", **setting)
    try:
        nodes.start("control", concurrency=1)
        wait_until(lambda: sentence in nodes.log_tail("control"), "the control node to say what is wrong")
        wait_until(lambda: not Path(f"/proc/{nodes.pid('control')}/cmdline").read_bytes(), "the control node to end")
    finally:
        nodes.stop()
