"""A guest whose NIC has a queue for each of its CPUs, with everything real but vhost, which this kernel has not."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.hosts import Libvirtd
from tests.fixtures.machine import run_or_fail
from tests.system.nodes import PREFIX, Nodes, running_nodes, wait_until

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]  # QEMU without KVM, maybe on a crowded machine

BOOT_LIMIT_S = 240.0
FLAVOR = {"vcpus": 2, "memory_mib": 256, "disk_gib": 1, "extra_specs": {"hw:vif_multiqueue_enabled": "true"}}
COUNT_QUEUES = "#!/bin/sh\nls -d /sys/class/net/eth0/queues/rx-* | wc -l | sed 's/^/receive queues: /'\n"
NIC_ANSWERS = "taskvisor-guest: ready"


@pytest.fixture
def nodes(libvirtd: Libvirtd, host_namespace: str, redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    with running_nodes(redis_url, tmp_state_dir, driver="libvirt", libvirt_uri=libvirtd.uri) as running:
        yield running
        for name in running.redis.hkeys(f"{PREFIX}names"):
            running.ask("instance.delete", instance=name)


def test_a_guest_uses_as_many_queues_of_its_tap_as_it_has_cpus(
    nodes: Nodes, libvirtd: Libvirtd, guest_image: Path
) -> None:
    guest = nodes.ask("instance.build", name="wide", image=str(guest_image), flavor=FLAVOR, user_data=COUNT_QUEUES)
    log = nodes.state_dir / "instances" / guest["id"] / "console.log"
    tap = tap_in(libvirtd.namespace, guest["ports"][0]["id"])
    assert tap["multi_queue"] is True
    assert tap["numqueues"] + tap["numdisabled"] == 2
    wait_until(lambda: NIC_ANSWERS in log.read_text(errors="replace"), NIC_ANSWERS, BOOT_LIMIT_S)
    words = "receive queues: 2"
    wait_until(lambda: words in log.read_text(errors="replace"), words, BOOT_LIMIT_S)

    nodes.ask("instance.reboot", instance="wide", type="hard")
    assert tap_in(libvirtd.namespace, guest["ports"][0]["id"])["multi_queue"] is True


def tap_in(namespace: str, port_id: str) -> dict[str, Any]:
    """What the kernel says of a port's TAP."""
    argv = ["ip", "-n", namespace, "-d", "-j", "link", "show", f"tap{port_id[:11]}"]
    (link,) = json.loads(run_or_fail(argv, limit_s=30))
    return dict(link["linkinfo"]["info_data"])
