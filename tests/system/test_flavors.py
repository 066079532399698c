"""Flavors by Celery, asked of real workers whose guests are simulated; and what of an instance's life is told afterwards."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskvisor.client import Taskvisor
from taskvisor.fields import NewFlavorFields
from taskvisor.model.errors import Refused
from tests.system.nodes import Nodes, running_nodes

pytestmark = pytest.mark.real

IMAGE = "simulated://debian?virtual_gib=1"
LIMIT_S = 120.0


@pytest.fixture
def nodes(redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    """A host with simulated guests."""
    with running_nodes(redis_url, tmp_state_dir) as running:
        yield running


@pytest.fixture
def client(redis_url: str) -> Iterator[Taskvisor]:
    with Taskvisor(redis_url) as opened:
        yield opened


def test_a_private_flavor_is_built_with_by_its_project_and_outlived_by_its_guests(
    nodes: Nodes, client: Taskvisor
) -> None:
    asked = NewFlavorFields(vcpus=1, memory_mib=64, disk_gib=1, public=False, projects=["lab"])
    made = client.create_flavor("own", operation_id="make", **asked).wait(LIMIT_S)
    assert client.read_flavor("own") == made
    assert "own" not in [flavor["name"] for flavor in client.list_flavors("default")]

    with pytest.raises(Refused, match="flavor: 'own': there is no such flavor"):
        client.build(name="web1", image=IMAGE, flavor="own").wait(LIMIT_S)
    built = client.build(name="web1", image=IMAGE, flavor="own", project="lab").wait(LIMIT_S)
    assert (built["flavor"]["name"], built["project"]) == ("own", "lab")
    assert client.set_flavor("own", {"hw:cpu_sockets": "1"}).wait(LIMIT_S)["extra_specs"] == {"hw:cpu_sockets": "1"}
    with pytest.raises(Refused, match="extra_specs: the flavor says 'hw:cpu_socket'"):
        client.set_flavor("own", {"hw:cpu_socket": "1"}).wait(LIMIT_S)
    assert client.delete_flavor("own").wait(LIMIT_S)["state"] == "deleted"
    assert client.create_flavor("own", operation_id="make", **asked).wait(LIMIT_S) == made
    assert client.read_flavor("own") is None, "a late double must not bring it back"

    assert client.reboot("web1", type="hard").wait(LIMIT_S)["flavor"] == built["flavor"]


def test_the_history_of_a_guest_is_told_while_it_lives(nodes: Nodes, client: Taskvisor) -> None:
    build = client.build(name="web1", image=IMAGE, flavor="c1-m64-d1")
    build.wait(LIMIT_S)
    stop = client.stop("web1", timeout_s=0)
    stop.wait(LIMIT_S)

    moves = client.read_history("web1")

    assert [move["by"] for move in moves if move["former"] is None] == [build.id]
    assert (moves[0]["by"], moves[0]["states"]["vm_state"], moves[0]["reason"]) == (stop.id, "stopped", "succeeded")
    client.delete("web1").wait(LIMIT_S)
    assert client.read_history("web1") == ()
