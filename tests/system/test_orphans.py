"""An orphan quarantined and reaped on a host with real Celery workers: simulated first, then libvirt, QEMU and TAPs.

The hour between the looks is not waited for: what the quarantine says of the first look is moved into the past.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from taskvisor.model.ids import HostName
from taskvisor.model.observed import HostSeen
from taskvisor.state.keys import Keys
from taskvisor.state.orphans import Quarantines
from tests.fixtures.hosts import Libvirtd
from tests.fixtures.machine import ROOT
from tests.system.nodes import PREFIX, Nodes, running_nodes, wait_until

pytestmark = pytest.mark.real

KEYS = Keys(PREFIX)
CONFIRM_S = 3600.0
OPTIONS = {"TASKVISOR_ORPHAN_ACTION": "reap", "TASKVISOR_ORPHAN_CONFIRM_S": str(CONFIRM_S)}
SMALL = {"vcpus": 1, "memory_mib": 128, "disk_gib": 1}


def test_a_guest_of_a_simulated_host_without_a_record_is_reaped(redis_url: str, tmp_path: Path) -> None:
    with running_nodes(redis_url, tmp_path, **OPTIONS) as nodes:
        require_reaped(nodes, "simulated://debian?virtual_gib=1", tmp_path / "simulated")


@pytest.fixture
def real(libvirtd: Libvirtd, host_namespace: str, redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    """A real host of which nothing is left when the test ends."""
    del host_namespace
    with running_nodes(redis_url, tmp_state_dir, driver="libvirt", libvirt_uri=libvirtd.uri, **OPTIONS) as running:
        yield running
        for name in running.redis.hkeys("taskvisor:names"):
            running.ask("instance.delete", instance=name)


def test_a_real_guest_without_a_record_is_reaped_and_the_other_runs_on(real: Nodes, guest_image: Path) -> None:
    require_reaped(real, str(guest_image), real.state_dir)


def require_reaped(nodes: Nodes, image: str, root: Path) -> None:
    nodes.ask("instance.build", name="web", image=image, flavor=SMALL)
    look(nodes)
    lost = nodes.ask("instance.build", name="lost", image=image, flavor=SMALL)["id"]
    before = seen(nodes)
    lose_record(nodes, lost)

    look(nodes)
    assert {orphan.stray.kind.value for orphan in quarantine(nodes).values()} == {
        "domain",
        "link",
        "directory",
        "claim",
    }
    assert seen(nodes).domains == before.domains, "one look takes nothing away"
    assert "is taken away" in orphans_shown(nodes)
    let_an_hour_go_by(nodes)
    look(nodes)

    assert quarantine(nodes) == {}
    left = seen(nodes)
    assert left.domains == tuple(domain for domain in before.domains if domain.instance_id != lost)
    assert (lost not in left.directories, [link.instance_id for link in left.links].count(lost)) == (True, 0)
    (aside,) = (root / "quarantine").iterdir()
    assert {"owner.json", "domain.xml"} <= {path.name for path in aside.iterdir()}


def look(nodes: Nodes) -> None:
    """The host's tick, to its end."""
    task = nodes.producer.send_task("host.check_orphans", queue=f"host.{nodes.host}.control")
    done = nodes.producer.send_task("host.verify", queue=f"host.{nodes.host}.control")  # one process: it comes after
    done.get(timeout=120)
    assert task.id


def seen(nodes: Nodes) -> HostSeen:
    answer = nodes.producer.send_task("host.verify", queue=f"host.{nodes.host}.control").get(timeout=120)
    return msgspec.convert(answer, HostSeen)


def quarantine(nodes: Nodes) -> dict[str, Any]:
    return dict(Quarantines(nodes.redis, KEYS).read(HostName(nodes.host)).orphans)


def let_an_hour_go_by(nodes: Nodes) -> None:
    """What was seen first was seen an hour ago."""
    key = KEYS.orphans(nodes.host)
    for name, text in nodes.redis.hgetall(key).items():
        orphan = msgspec.json.decode(str(text))
        changed = {**orphan, "first_seen": orphan["first_seen"] - CONFIRM_S}
        nodes.redis.hset(key, str(name), msgspec.json.encode(changed).decode())


def lose_record(nodes: Nodes, instance_id: str) -> None:
    """The store knows nothing of the instance any more; what is claimed and given out for it stays."""
    instance = nodes.catalog.find_instance(instance_id)
    assert instance is not None
    nodes.redis.delete(KEYS.instance(instance.id), KEYS.nics(instance.id))
    nodes.redis.srem(KEYS.instances, instance.id)
    nodes.redis.srem(KEYS.instances_on(instance.host), instance.id)
    nodes.redis.hdel(KEYS.names, instance.name)
    for port in instance.ports:
        nodes.redis.hdel(KEYS.members(port.network_id), port.id)
        for group in port.security_groups:
            nodes.redis.hdel(KEYS.grouped(group), port.id)
    wait_until(lambda: nodes.catalog.read_instance(instance.id) is None, "the record to be lost")


def orphans_shown(nodes: Nodes) -> str:
    """What an operator sees."""
    environment = {
        **os.environ,
        **OPTIONS,
        "TASKVISOR_REDIS_URL": nodes.redis_url,
        "TASKVISOR_STATE_DIR": str(nodes.state_dir),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "300",
    }
    argv = [sys.executable, "-m", "taskvisor.cli", "orphans"]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=True).stdout
