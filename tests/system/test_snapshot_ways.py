"""Every way of taking a snapshot with everything real: libvirt, QEMU, its guest agent in a Linux that boots, Celery workers."""

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from taskvisor.model.states import VmState
from tests.fixtures.hosts import Libvirtd
from tests.fixtures.machine import run_or_fail
from tests.system.nodes import Nodes, wait_until

pytestmark = pytest.mark.real

SMALL = {"vcpus": 1, "memory_mib": 192, "disk_gib": 1}
BOOT_LIMIT_S = 240.0
ASK_LIMIT_S = 240
RESTORED = [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_RESTORED]
"""How libvirt says that a domain runs, and that it was not booted for that but had its memory back."""


def ask(nodes: Nodes, task: str, **fields: Any) -> Any:
    """Ask, and wait for the outcome, longer than a busy machine takes to boot a guest."""
    return nodes.send(task, **fields).get(timeout=ASK_LIMIT_S)


def is_up(nodes: Nodes) -> bool:
    return any(host.up and host.inventory for host in nodes.hosts.list_hosts())


@pytest.fixture
def nodes(libvirtd: Libvirtd, host_namespace: str, redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    """A host on which nothing of a guest is left when it has been deleted, nor of a snapshot but its image."""
    running = Nodes(redis_url, tmp_state_dir, host="kvm1", driver="libvirt", libvirt_uri=libvirtd.uri)
    try:
        running.start("steps")
        running.start("control", concurrency=1)
        wait_until(lambda: is_up(running), "the host to come up", BOOT_LIMIT_S)
        yield running
        for name in running.redis.hkeys("taskvisor:names"):
            ask(running, "instance.delete", instance=name)
        assert list(tmp_state_dir.glob("instances/*")) == []
        assert {path.suffix for path in tmp_state_dir.glob("images/*")} <= {".json", ".qcow2", ".raw"}
    finally:
        running.stop()


@pytest.fixture
def backdoor(libvirtd: Libvirtd) -> Iterator["libvirt.virConnect"]:
    connection = libvirt.open(libvirtd.uri)
    yield connection
    connection.close()


@pytest.fixture
def bare(nodes: Nodes, tmp_path: Path) -> dict[str, Any]:
    """A guest that runs, of a disk with nothing on it."""
    blank = tmp_path / "blank.qcow2"
    run_or_fail(["qemu-img", "create", "-q", "-f", "qcow2", blank, "16M"], limit_s=60)
    built: dict[str, Any] = nodes.send("instance.build", name="web1", image=str(blank), flavor=SMALL).get(
        timeout=ASK_LIMIT_S
    )
    return built


def says_that_it_is_ready(nodes: Nodes, instance_id: str) -> bool:
    log = nodes.state_dir / "instances" / instance_id / "console.log"
    return "taskvisor-guest: ready" in log.read_text(errors="replace")


def test_a_guest_with_an_agent_is_quiesced_whatever_the_image_is_to_be(nodes: Nodes, agent_image: Path) -> None:
    properties = {"os_require_quiesce": "yes", "hw_disk_bus": "sata"}
    built = ask(nodes, "instance.build", name="web1", image=str(agent_image), image_properties=properties, flavor=SMALL)
    wait_until(lambda: says_that_it_is_ready(nodes, built["id"]), "the guest to be ready", BOOT_LIMIT_S)

    sizes = {}
    for kind, compression in (("qcow2", "none"), ("qcow2", "zlib"), ("qcow2", "zstd"), ("raw", "none")):
        name = f"gold-{kind}-{compression}"
        taken = ask(nodes, "instance.snapshot", instance="web1", image=name, format=kind, compression=compression)
        said = taken["snapshot"]
        assert (said["method"], said["quiesced"], said["format"]) == ("live", True, kind)
        assert said["properties"]["hw_disk_bus"] == "sata"
        path = Path(said["url"].removeprefix("file://"))
        assert (path.suffix, path.stat().st_uid, path.stat().st_mode & 0o777) == (f".{kind}", os.geteuid(), 0o444)
        run_or_fail(["qemu-img", "info", "-f", kind, path], limit_s=60)
        sizes[name] = path.stat().st_blocks * 512
    assert sizes["gold-qcow2-zlib"] <= sizes["gold-qcow2-none"]

    with pytest.raises(Exception, match="its image says os_require_quiesce"):
        ask(nodes, "instance.snapshot", instance="web1", image="no", quiesce="never")
    cloned = ask(nodes, "instance.build", name="web2", image="gold-raw-none", flavor=SMALL)
    wait_until(lambda: says_that_it_is_ready(nodes, cloned["id"]), "its clone to be ready", BOOT_LIMIT_S)


def test_a_guest_whose_agent_does_not_answer_is_not_quiesced_and_the_caller_is_told(
    nodes: Nodes, bare: dict[str, Any]
) -> None:
    said = ask(nodes, "instance.snapshot", instance="web1", image="gold")["snapshot"]
    with pytest.raises(Exception, match=r"cannot quiesce domain .*see that qemu-guest-agent runs in the guest"):
        ask(nodes, "instance.snapshot", instance="web1", image="silver", quiesce="required")

    assert said["base_image"] == bare["image"]
    assert (said["method"], said["quiesced"]) == ("live", False)
    assert "not connected" in said["why_not_quiesced"]


def test_a_cold_snapshot_of_a_guest_that_runs_interrupts_it_and_it_goes_on(
    nodes: Nodes, bare: dict[str, Any], backdoor: "libvirt.virConnect"
) -> None:
    taken = ask(nodes, "instance.snapshot", instance="web1", image="gold", method="cold")

    assert (taken["vm_state"], taken["snapshot"]["method"]) == (VmState.ACTIVE, "cold")
    domain = backdoor.lookupByUUIDString(bare["id"])
    assert (domain.state(), domain.hasManagedSaveImage()) == (RESTORED, 0)


def test_a_worker_killed_while_the_guest_is_suspended_brings_it_back_all_the_same(
    nodes: Nodes, bare: dict[str, Any], backdoor: "libvirt.virConnect"
) -> None:
    taking = nodes.send("instance.snapshot", instance="web1", image="gold", method="cold")
    domain = backdoor.lookupByUUIDString(bare["id"])
    wait_until(lambda: not domain.isActive(), "the guest to be suspended", ASK_LIMIT_S)
    for child in nodes.children("steps"):
        os.kill(child, signal.SIGKILL)

    assert taking.get(timeout=ASK_LIMIT_S)["snapshot"]["method"] == "cold"
    assert (domain.state(), domain.hasManagedSaveImage()) == (RESTORED, 0)


def test_a_cold_snapshot_that_is_cancelled_while_its_guest_is_suspended_brings_it_back_and_leaves_nothing(
    nodes: Nodes, bare: dict[str, Any], backdoor: "libvirt.virConnect"
) -> None:
    operation_id = str(uuid.uuid4())
    taking = nodes.send("instance.snapshot", operation_id, instance="web1", image="gold", method="cold")
    domain = backdoor.lookupByUUIDString(bare["id"])
    wait_until(lambda: not domain.isActive(), "the guest to be suspended", ASK_LIMIT_S)
    workers = nodes.children("steps")
    for child in workers:
        os.kill(child, signal.SIGSTOP)  # else an empty disk is copied before anybody can cancel it

    ask(nodes, "operation.cancel", operation=operation_id)
    for child in workers:
        os.kill(child, signal.SIGCONT)

    with pytest.raises(Exception, match="cancelled on request"):
        taking.get(timeout=ASK_LIMIT_S)
    assert (domain.state(), domain.hasManagedSaveImage()) == (RESTORED, 0)
    assert list(nodes.state_dir.glob("images/*")) == []
