"""A guest that has a CPU of its host for itself, with everything real; and what a host tells of itself meanwhile."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskvisor.model.cpu_list import parse_cpu_list
from taskvisor.model.records import Inventory
from tests.fixtures.hosts import Libvirtd
from tests.fixtures.machine import run_or_fail
from tests.system.nodes import PREFIX, Nodes, running_nodes

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(900),  # QEMU without KVM, maybe on a crowded machine
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one CPU is for the host, and one for the guest"),
]
PINNED = {"vcpus": 1, "memory_mib": 64, "disk_gib": 1, "extra_specs": {"hw:cpu_policy": "dedicated"}}
SMALL = {"vcpus": 1, "memory_mib": 64, "disk_gib": 1}


@pytest.fixture
def nodes(libvirtd: Libvirtd, host_namespace: str, redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    """The host's CPU 1 is for pinned guests."""
    options = {"TASKVISOR_DEDICATED_CPUS": "1", "TASKVISOR_GUEST_OVERHEAD_MIB": "50"}
    with running_nodes(redis_url, tmp_state_dir, driver="libvirt", libvirt_uri=libvirtd.uri, **options) as running:
        yield running
        for name in running.redis.hkeys(f"{PREFIX}names"):
            running.ask("instance.delete", instance=name)


def inventory_of(nodes: Nodes) -> Inventory:
    (host,) = nodes.hosts.list_hosts()
    assert host.inventory is not None
    return host.inventory


def cpus_allowed(libvirtd: Libvirtd, instance_id: str) -> str:
    """Where the kernel lets the guest's first CPU run."""
    said = run_or_fail(["virsh", "-c", libvirtd.uri, "vcpuinfo", "--pretty", instance_id], limit_s=60)
    found = re.search(r"^CPU Affinity:\s+(\S+)", said, re.MULTILINE)
    assert found is not None, said
    return found[1]


def test_a_pinned_guest_alone_runs_on_its_cpu(nodes: Nodes, libvirtd: Libvirtd, guest_image: Path) -> None:
    told = inventory_of(nodes)
    assert (told.things["cpu"], told.limits.others["pcpus"], told.problems) == (("cpu:1",), 1, ())
    assert told.cpu_model
    assert "HW_CPU_X86_SSE2" in told.traits

    pinned = nodes.ask("instance.build", name="pinned", image=str(guest_image), flavor=PINNED)
    plain = nodes.ask("instance.build", name="plain", image=str(guest_image), flavor=SMALL)
    with pytest.raises(Exception, match="pcpus 1 asked, 0 of 1 free"):
        nodes.ask("instance.build", name="late", image=str(guest_image), flavor=PINNED)

    assert cpus_allowed(libvirtd, pinned["id"]) == "1"
    assert 1 not in parse_cpu_list(cpus_allowed(libvirtd, plain["id"]))
    assert nodes.redis.hgetall(f"{PREFIX}held:{nodes.host}") == {"cpu:1": pinned["id"]}
    assert nodes.hosts.list_hosts()[0].used.memory_mib == 2 * (64 + 50)

    nodes.ask("instance.delete", instance="pinned")
    again = nodes.ask("instance.build", name="again", image=str(guest_image), flavor=PINNED)
    assert cpus_allowed(libvirtd, again["id"]) == "1"
