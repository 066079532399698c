"""Images registered and deleted by request, by Celery to real workers: simulated guests, and real ones."""

import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskvisor.client import Taskvisor
from taskvisor.model.errors import Refused
from tests.fixtures.hosts import Libvirtd
from tests.system.nodes import Nodes, running_nodes, wait_until
from tests.virt.images.image_server import running_image_server

pytestmark = pytest.mark.real

SOURCE = "simulated://debian?virtual_gib=1"
SMALL = {"vcpus": 1, "memory_mib": 128, "disk_gib": 1}
LIMIT_S = 60.0


@pytest.fixture
def nodes(redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    """A host with simulated guests."""
    with running_nodes(redis_url, tmp_state_dir) as running:
        yield running


@pytest.fixture
def client(redis_url: str) -> Iterator[Taskvisor]:
    with Taskvisor(redis_url) as opened:
        yield opened


def test_an_image_is_registered_built_from_and_deleted(nodes: Nodes, client: Taskvisor) -> None:
    request_id = str(uuid.uuid4())
    made = client.register_image("debian", SOURCE, properties={"hw_disk_bus": "scsi"}, operation_id=request_id)
    registered = made.wait(LIMIT_S)
    assert client.list_images() == (client.read_image("debian"),) == (registered,)

    client.build(name="web1", image="debian", flavor="c1-m128-d1").wait(LIMIT_S)
    client.register_image("big", SOURCE, min_memory_mib=128).wait(LIMIT_S)
    too_small = client.build(name="web2", image="big", flavor="c1-m64-d1")
    with pytest.raises(Refused, match=r"flavor: c1-m64-d1 .* needs 128"):
        too_small.wait(LIMIT_S)
    deleted = client.delete_image("debian").wait(LIMIT_S)

    assert (deleted["state"], client.read_image("debian")) == ("deleted", None)
    assert client.register_image("debian", SOURCE, operation_id=request_id).wait(LIMIT_S) == registered
    assert client.read_image("debian") is None, "a late double must not bring it back"
    assert client.delete("web1").wait(LIMIT_S)["vm_state"] == "deleted"


def test_the_image_of_a_host_that_is_down_goes_when_it_is_back(
    nodes: Nodes, client: Taskvisor, redis_url: str, tmp_path: Path
) -> None:
    with running_nodes(redis_url, tmp_path, host="kvm2") as other:
        client.build(name="web1", image=SOURCE, flavor="c1-m128-d1", host="kvm2").wait(LIMIT_S)
        taken = client.snapshot("web1", "gold").wait(LIMIT_S)["snapshot"]
        file = Path(taken["url"].removeprefix("file://"))
        for role in ("steps", "control"):
            other.kill(role)

        deleting = client.delete_image("gold")
        wait_until(lambda: deleting.look().held, "the delete to wait for kvm2")
        assert "its file goes when host kvm2 removes it" in (deleting.look().held or "")
        with pytest.raises(Refused, match="image: 'gold' is being deleted"):
            client.build(name="web2", image="gold", flavor="c1-m128-d1").wait(LIMIT_S)
        assert (file.exists(), (client.read_image("gold") or taken)["state"]) == (True, "deleting")
        for role in ("steps", "control"):
            other.start(role, concurrency=1)

        assert deleting.wait(LIMIT_S) == {"id": taken["id"], "name": "gold", "state": "deleted"}
        assert (file.exists(), client.read_image("gold")) == (False, None)
        assert client.delete_image("gold").wait(LIMIT_S)["already"] is True
        client.delete("web1").wait(LIMIT_S)


def test_real_guests_outlive_the_images_that_they_were_built_from(
    libvirtd: Libvirtd, host_namespace: str, redis_url: str, tmp_state_dir: Path, guest_image: Path
) -> None:
    """One from a registered image behind a web server, one from a snapshot of it; then both images are deleted."""
    content = guest_image.read_bytes()
    with (
        running_nodes(redis_url, tmp_state_dir, driver="libvirt", libvirt_uri=libvirtd.uri) as nodes,
        running_image_server() as server,
    ):
        sha256 = hashlib.sha256(content).hexdigest()
        nodes.ask(
            "image.register", name="linux", source=server.serve("/linux.qcow2", content), sha256=sha256, format="qcow2"
        )
        nodes.ask("instance.build", name="web1", image="linux", flavor=SMALL)
        taken = nodes.ask("instance.snapshot", instance="web1", image="gold")["snapshot"]
        nodes.ask("instance.build", name="web2", image="gold", flavor=SMALL)

        assert nodes.ask("image.delete", image="linux")["state"] == "deleted"
        assert nodes.ask("image.delete", image="gold")["state"] == "deleted"

        assert list((tmp_state_dir / "images").glob(f"{taken['id']}*")) == []
        assert nodes.ask("instance.reboot", instance="web1", type="hard")["vm_state"] == "active"
        assert nodes.ask("instance.reboot", instance="web2", type="hard")["vm_state"] == "active"
        for name in ("web1", "web2"):
            nodes.ask("instance.delete", instance=name)
        wait_until(lambda: not list(tmp_state_dir.glob("instances/*")), "the guests' directories to go")
