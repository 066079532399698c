"""An upgrade host by host: a worker of the previous version and one of this version side by side on one Redis.

The previous version is the commit that TASKVISOR_PREVIOUS names; else the last one before what is tested: HEAD when there are
changes that are not committed, else the one before it.
"""

import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskvisor.model.ids import OperationId
from taskvisor.model.operation import SCHEMA_VERSION
from tests.fixtures.machine import ROOT
from tests.system.nodes import Nodes, wait_until

pytestmark = pytest.mark.real

IMAGE = "simulated://debian?virtual_gib=1"
SMALL = {"vcpus": 1, "memory_mib": 64, "disk_gib": 1}
LIMIT_S = 120.0
BUILDS = 6


def git(*words: str) -> str:
    done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:  # an archive of the tree, or a clone without history
        pytest.skip(f"an upgrade is NOT TESTED: git {' '.join(words)}: {done.stderr.strip()}; see TASKVISOR_PREVIOUS")
    return done.stdout.strip()


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of the previous version."""
    changed = git("status", "--porcelain", "--", "taskvisor", "tasks", "workers", "virt", "net")
    commit = os.environ.get("TASKVISOR_PREVIOUS") or git("rev-parse", "HEAD" if changed else "HEAD~1")
    directory = tmp_path_factory.mktemp("previous")
    packed = directory / "previous.tar"
    git("archive", "--output", str(packed), commit)
    with tarfile.open(packed) as archive:
        archive.extractall(directory, filter="data")
    return directory


@pytest.fixture
def fleet(redis_url: str, tmp_state_dir: Path, previous: Path) -> Iterator[tuple[Nodes, Nodes]]:
    """Two hosts on one Redis: one of the previous version, one of this."""
    (tmp_state_dir / "old").mkdir()
    (tmp_state_dir / "new").mkdir()
    # Longer than one is stopped below; short enough that a start may wait until the heartbeat of a killed one lapses.
    patient = {"TASKVISOR_HOST_DOWN_S": "30"}
    old = Nodes(redis_url, tmp_state_dir / "old", host="old1", driver="simulated", PYTHONPATH=str(previous), **patient)
    new = Nodes(redis_url, tmp_state_dir / "new", host="new1", driver="simulated", **patient)
    try:
        for nodes in (old, new):
            start(nodes)
        yield old, new
    finally:
        old.stop()
        new.stop()


def start(nodes: Nodes) -> None:
    nodes.start("steps")
    nodes.start("control", concurrency=1)
    nodes.wait_until_up()


def test_each_version_serves_what_the_other_let_in(fleet: tuple[Nodes, Nodes]) -> None:
    _, new = fleet
    names = [(f"web{number}", host) for number in range(BUILDS) for host in ("old1", "new1")]
    asked = [
        new.send("instance.build", name=f"{name}-{host}", image=IMAGE, flavor=SMALL, host=host) for name, host in names
    ]
    built = [result.get(timeout=LIMIT_S) for result in asked]

    assert [instance["host"] for instance in built] == [host for _, host in names]
    doors = {line for nodes in fleet for line in nodes.log_tail("control").splitlines() if "record_unreadable" in line}
    assert doors == set()
    assert new.redis.get("taskvisor:schema") == str(SCHEMA_VERSION)
    for nodes in fleet:
        assert "Traceback" not in nodes.log_tail("steps") + nodes.log_tail("control")
    for name, host in names:
        new.send("instance.delete", instance=f"{name}-{host}").get(timeout=LIMIT_S)
    assert new.catalog.list_instances() == ()


def test_a_host_is_upgraded_in_the_midst_of_its_operations_and_loses_none(
    fleet: tuple[Nodes, Nodes], tmp_state_dir: Path
) -> None:
    old, new = fleet
    ids = [f"upgrade-{number}" for number in range(BUILDS)]
    os.kill(old.pid("steps"), signal.SIGSTOP)  # so that all are let in before the last of them is done
    for number, operation_id in enumerate(ids):
        new.send("instance.build", operation_id, name=f"web{number}", image=IMAGE, flavor=SMALL, host="old1")
    wait_until(lambda: all(new.catalog.read_operation(OperationId(one)) for one in ids), "all to be let in", LIMIT_S)
    os.kill(old.pid("steps"), signal.SIGCONT)
    old.stop()  # as `systemctl restart` does it: what runs is finished, what waits stays in the queue

    upgraded = Nodes(old.redis_url, tmp_state_dir / "old", host="old1", driver="simulated")
    try:
        start(upgraded)
        results = [upgraded.producer.AsyncResult(operation_id).get(timeout=LIMIT_S) for operation_id in ids]
        assert {(result["host"], result["vm_state"]) for result in results} == {("old1", "active")}
    finally:
        upgraded.stop()


def test_a_node_that_is_killed_is_carried_on_by_the_next_version(
    fleet: tuple[Nodes, Nodes], tmp_state_dir: Path
) -> None:
    old, new = fleet
    asked = [
        new.send("instance.build", name=f"web{number}", image=IMAGE, flavor=SMALL, host="old1")
        for number in range(BUILDS)
    ]
    wait_until(new.catalog.list_instances, "one to be let in", LIMIT_S)
    old.kill("steps")
    old.kill("control")

    upgraded = Nodes(old.redis_url, tmp_state_dir / "old", host="old1", driver="simulated")
    try:
        start(upgraded)
        assert {result.get(timeout=LIMIT_S)["vm_state"] for result in asked} == {"active"}
    finally:
        upgraded.stop()


def test_a_node_of_a_version_before_the_stores_does_not_start_and_says_so(
    redis_url: str, tmp_state_dir: Path, previous: Path
) -> None:
    old = Nodes(redis_url, tmp_state_dir, host="old1", driver="simulated", PYTHONPATH=str(previous))
    old.redis.set("taskvisor:schema", SCHEMA_VERSION + 1)
    try:
        old.start("control", concurrency=1)
        wait_until(lambda: not old.runs("control"), "the node to end", LIMIT_S)
        assert "was written by a newer Taskvisor" in old.log_tail("control")
        assert old.redis.get("taskvisor:schema") == str(SCHEMA_VERSION + 1)
    finally:
        old.stop()
