"""The main job with everything real: libvirt, QEMU, TAPs on a bridge, dnsmasq, a Linux that boots, and Celery workers."""

import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from lxml import etree

from taskvisor.model.ids import OperationId
from taskvisor.model.records import Instance
from tests.fixtures.hosts import Libvirtd
from tests.system.nodes import Nodes, running_nodes, wait_until
from tests.virt.images.image_server import ImageServer, running_image_server

pytestmark = pytest.mark.real

SMALL = {"vcpus": 1, "memory_mib": 128, "disk_gib": 1}
BOOT_LIMIT_S = 90.0


@pytest.fixture
def nodes(libvirtd: Libvirtd, host_namespace: str, redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    """A host of which nothing is left when the test ends, not even in the store."""
    with running_nodes(redis_url, tmp_state_dir, driver="libvirt", libvirt_uri=libvirtd.uri) as running:
        yield running
        for name in running.redis.hkeys("taskvisor:names"):
            running.ask("instance.delete", instance=name)
        kinds = ("lease", "claims", "addresses", "ports", "instance", "names", "macs", "ops:", "allocating")
        left = [key for kind in kinds for key in running.redis.keys(f"taskvisor:{kind}*")]
        assert (left, list(tmp_state_dir.glob("instances/*"))) == ([], [])


@pytest.fixture
def images(host_namespace: str) -> Iterator[ImageServer]:
    """A web server on the host's own loopback."""
    with running_image_server() as server:
        yield server


def page(instance: object) -> dict[str, str]:
    """What the guest says of itself over HTTP; empty while it does not answer."""
    address = instance.addresses[0] if isinstance(instance, Instance) else instance["addresses"][0]  # type: ignore[index]
    answer = subprocess.run(
        ["curl", "-s", "--max-time", "3", f"http://{address}/"], capture_output=True, text=True, check=False
    )
    return dict(line.split(": ", 1) for line in answer.stdout.splitlines() if ": " in line)


def wait_for_page(instance: object, **wanted: str) -> dict[str, str]:
    def answers() -> bool:
        said = page(instance)
        return bool(said) and all(said.get(key) == value for key, value in wanted.items())

    wait_until(answers, f"{instance} to answer with {wanted}", BOOT_LIMIT_S)
    return page(instance)


def defined(libvirtd: Libvirtd, instance_id: str) -> etree._Element:
    """The guest's definition, as libvirt has it."""
    connection = libvirt.open(libvirtd.uri)
    try:
        return etree.fromstring(connection.lookupByUUIDString(instance_id).XMLDesc())
    finally:
        connection.close()


def test_guests_are_built_used_rebooted_snapshotted_and_deleted(nodes: Nodes, guest_image: Path) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFake someone"
    asked = [
        nodes.send("instance.build", name=name, image=str(guest_image), flavor=SMALL, ssh_keys=[key])
        for name in ("web1", "web2")
    ]
    first, second = (result.get(timeout=60) for result in asked)

    said = wait_for_page(first)
    assert (said["hostname"], said["instance-id"], said["address"], said["ssh-keys"], said["boots"]) == (
        "web1",
        first["id"],
        first["addresses"][0],
        "1",
        "1",
    )
    assert wait_for_page(second)["hostname"] == "web2"

    assert nodes.ask("instance.reboot", instance="web1")["vm_state"] == "active"
    wait_for_page(first, boots="2")
    assert "power button pressed" in (nodes.state_dir / "instances" / first["id"] / "console.log").read_text()

    taken = nodes.ask("instance.snapshot", instance="web1", image="golden")
    assert taken["snapshot"]["virtual_bytes"] == 1 << 30
    third = nodes.ask("instance.build", name="web3", image="golden", flavor=SMALL)
    said = wait_for_page(third, boots="3")
    assert (said["instance-id"], said["first-instance-id"]) == (third["id"], first["id"])

    stopped = nodes.ask("instance.stop", instance="web2")
    assert (stopped["vm_state"], page(second)) == ("stopped", {})
    assert nodes.ask("instance.snapshot", instance="web2", image="cold")["snapshot"]["sha256"]
    nodes.ask("instance.start", instance="web2")
    wait_for_page(second, boots="2")


def test_a_guest_has_what_its_flavor_and_its_image_ask_for(nodes: Nodes, libvirtd: Libvirtd, guest_image: Path) -> None:
    specs = {"hw:cpu_sockets": "2", "hw:watchdog_action": "reset", "quota:disk_total_iops_sec": "2000"}
    properties = {
        "hw_machine_type": "q35",
        "hw_disk_bus": "sata",
        "hw_video_model": "virtio",
        "hw_pointer_model": "usbtablet",
    }
    flavor = {**SMALL, "vcpus": 2, "extra_specs": specs}

    built = nodes.ask("instance.build", name="web1", image=str(guest_image), image_properties=properties, flavor=flavor)
    wait_for_page(built)
    first = defined(libvirtd, built["id"])
    nodes.ask("instance.reboot", instance="web1", type="hard")
    wait_for_page(built)

    again = defined(libvirtd, built["id"])
    for domain in (first, again):
        assert "q35" in str(domain.xpath("string(os/type/@machine)"))
        assert domain.xpath("string(cpu/topology/@sockets)") == "2"
        assert domain.xpath("string(devices/disk[@device='disk']/target/@bus)") == "sata"
        assert domain.xpath("string(devices/disk[@device='disk']/iotune/total_iops_sec)") == "2000"
        assert domain.xpath("string(devices/watchdog/@action)") == "reset"
        assert domain.xpath("string(devices/video/model/@type)") == "virtio"
        assert domain.xpath("devices/input[@type='tablet' and @bus='usb']")
    assert again.xpath("string(os/type/@machine)") == first.xpath("string(os/type/@machine)")


def test_what_no_guest_can_have_is_refused_with_what_was_asked(nodes: Nodes, guest_image: Path) -> None:
    for specs, properties, sentence in (
        ({"hw:cpu_polcy": "shared"}, {}, "nearest one is hw:cpu_policy"),
        (
            {"hw:cpu_policy": "shared"},
            {"hw_cpu_policy": "dedicated"},
            "hw:cpu_policy='shared', the image says hw_cpu_policy='dedicated'",
        ),
        ({}, {"hw_disk_bus": "floppy"}, "hw_disk_bus='floppy': must be one of"),
    ):
        with pytest.raises(Exception, match=sentence):
            nodes.ask(
                "instance.build",
                name="web1",
                image=str(guest_image),
                image_properties=properties,
                flavor={**SMALL, "extra_specs": specs},
            )
    assert nodes.catalog.list_instances() == ()


def test_a_delete_takes_over_from_a_build_that_is_fetching(
    nodes: Nodes, images: ImageServer, guest_image: Path
) -> None:
    gate = threading.Event()
    url = images.serve("/guest.qcow2", guest_image.read_bytes(), gate=gate, etag='"1"')
    building = nodes.send("instance.build", name="web1", image=url, flavor=SMALL)
    wait_until(lambda: images.requests, "the image to be asked for")

    deleting = nodes.send("instance.delete", instance="web1")
    wait_until(lambda: deleting.state == "PROGRESS", "the delete to be let in")
    gate.set()

    assert deleting.get(timeout=60)["already"] is False
    with pytest.raises(Exception, match="deletes the instance and took over"):
        building.get(timeout=10)
    assert nodes.catalog.list_instances() == ()


def test_a_cancelled_build_rolls_back_and_leaves_nothing(nodes: Nodes, images: ImageServer, guest_image: Path) -> None:
    gate = threading.Event()
    url = images.serve("/guest.qcow2", guest_image.read_bytes(), gate=gate, etag='"1"')
    operation_id = str(uuid.uuid4())
    building = nodes.send("instance.build", operation_id, name="web1", image=url, flavor=SMALL)
    wait_until(lambda: images.requests, "the image to be asked for")

    assert nodes.ask("operation.cancel", operation=operation_id)["operation"] == operation_id
    gate.set()

    with pytest.raises(Exception, match="cancelled on request"):
        building.get(timeout=60)
    assert nodes.catalog.list_instances() == ()


@pytest.mark.parametrize("wish", ["cancel", "delete"])
def test_a_fetch_that_would_take_long_is_stopped_in_the_midst(
    nodes: Nodes, images: ImageServer, guest_image: Path, wish: str
) -> None:
    url = images.serve("/guest.qcow2", guest_image.read_bytes(), pause_s=1.0, etag='"1"')
    operation_id = str(uuid.uuid4())
    building = nodes.send("instance.build", operation_id, name="web1", image=url, flavor=SMALL)
    wait_until(lambda: nodes.catalog.read_progress(OperationId(operation_id)), "the fetch to have come somewhere")

    if wish == "cancel":
        nodes.ask("operation.cancel", operation=operation_id)
    else:
        nodes.ask("instance.delete", instance="web1")

    with pytest.raises(Exception, match=r"cancelled on request|deletes the instance and took over"):
        building.get(timeout=60)
    served = images.paths["/guest.qcow2"]
    assert served.sent_bytes < len(served.content) / 2
    tries = [(entry.step, entry.outcome) for entry in nodes.catalog.find_operation(operation_id).timeline]
    assert tries[:2] == [("prepare_disk", "done"), ("fetch_image", "Cancelled")]
    assert nodes.catalog.list_instances() == ()


def test_a_pool_process_killed_while_it_fetches_is_replaced_and_the_build_ends_well(
    nodes: Nodes, images: ImageServer, guest_image: Path
) -> None:
    gate = threading.Event()
    url = images.serve("/guest.qcow2", guest_image.read_bytes(), gate=gate, etag='"1"')
    operation_id = str(uuid.uuid4())
    building = nodes.send("instance.build", operation_id, name="web1", image=url, flavor=SMALL)
    wait_until(lambda: images.requests, "the image to be asked for")
    runner = nodes.catalog.find_operation(operation_id).runner
    assert runner is not None

    os.kill(runner.pid, signal.SIGKILL)
    gate.set()

    assert building.get(timeout=60)["vm_state"] == "active"
    assert nodes.catalog.find_operation(operation_id).step("fetch_image").tries == 2


def test_a_guest_that_ignores_the_power_button_is_switched_off_in_time(nodes: Nodes, tmp_path: Path) -> None:
    blank = tmp_path / "blank.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", blank, "16M"], check=True)
    operation_id = str(uuid.uuid4())
    nodes.ask("instance.build", name="deaf", image=str(blank), flavor=SMALL)

    assert nodes.ask("instance.stop", operation_id, instance="deaf", timeout_s=5)["vm_state"] == "stopped"

    record = nodes.catalog.find_operation(operation_id)
    assert [entry.outcome for entry in record.timeline] == ["Busy", "Busy", "done"]
    assert (record.facts["shut_down"], record.step("shut_down").tries) == ({"clean": False}, 1)
    assert 5 <= record.timeline[-1].ended_at - record.created_at < 10


def test_a_restarted_libvirtd_is_found_again(nodes: Nodes, libvirtd: Libvirtd, guest_image: Path) -> None:
    nodes.ask("instance.build", name="web1", image=str(guest_image), flavor=SMALL)
    os.kill(libvirtd.pid, signal.SIGKILL)
    libvirtd.start()

    assert nodes.ask("instance.build", name="web2", image=str(guest_image), flavor=SMALL)["vm_state"] == "active"
    assert nodes.ask("instance.reboot", instance="web1", type="hard")["vm_state"] == "active"


WRONG = [
    ({"status": 404}, b"", {}, "fetch_image: .*404"),
    ({}, b"<html>not found</html>", {}, "fetch_image: "),
    ({}, None, {"image_sha256": "0" * 64}, "fetch_image: .*0000"),
]


@pytest.mark.parametrize(("how", "content", "fields", "sentence"), WRONG, ids=["missing", "no image", "checksum"])
def test_an_image_that_will_not_do_fails_at_its_step_and_leaves_nothing(
    nodes: Nodes,
    images: ImageServer,
    guest_image: Path,
    how: dict[str, object],
    content: bytes | None,
    fields: dict[str, object],
    sentence: str,
) -> None:
    url = images.serve("/image", guest_image.read_bytes() if content is None else content, **how)

    with pytest.raises(Exception, match=sentence):
        nodes.send("instance.build", **{"name": "web1", "image": url, "flavor": SMALL, **fields}).get(timeout=60)  # type: ignore[arg-type]

    assert nodes.catalog.list_instances() == ()
