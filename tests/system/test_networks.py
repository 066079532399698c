"""Networks, groups and floating addresses by Celery, asked of real workers whose guests are simulated."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskvisor.model.errors import Refused
from taskvisor.model.ids import security_group_id_for
from taskvisor.model.states import PowerState
from tests.system.nodes import Nodes, running_nodes, wait_until
from virt.readback import instance_from_xml
from virt.simulated import SimulatedHypervisor

pytestmark = pytest.mark.real

GUEST: dict[str, Any] = {
    "image": "simulated://debian?virtual_gib=1",
    "flavor": {"vcpus": 1, "memory_mib": 64, "disk_gib": 1},
}


@pytest.fixture
def nodes(redis_url: str, tmp_path: Path) -> Iterator[Nodes]:
    with running_nodes(redis_url, tmp_path) as running:
        yield running


def copied_groups(nodes: Nodes) -> list[str]:
    """The groups that ports are in by the copies of records that the host's domains carry."""
    found = SimulatedHypervisor(nodes.state_dir / "simulated").list_definitions()
    rebuilt = (instance_from_xml(one.persistent_xml or "", PowerState.RUNNING) for one in found)
    return [group for instance in rebuilt for port in instance.ports for group in port.security_groups]


def test_a_guest_on_a_created_network_is_in_a_group_and_has_a_floating_address_until_it_is_gone(nodes: Nodes) -> None:
    nodes.ask("network.create", "lab", name="lab", cidr="10.5.0.0/24", cidr6="fd00:5::/64")
    nodes.ask(
        "security_group.create", name="web", rules=[{"direction": "ingress", "protocol": "tcp", "first_port": 80}]
    )
    nodes.ask("floating.create", address="192.0.2.7")
    built = nodes.ask("instance.build", name="vm", networks=["lab"], **GUEST)

    changed = nodes.ask("port.update", instance="vm", security_groups=["web"])
    wait_until(lambda: copied_groups(nodes) == [security_group_id_for("web")], "the domain's copy to follow its record")
    bound = nodes.ask("floating.bind", floating="192.0.2.7", instance="vm")

    assert (changed["id"], built["addresses"]) == (built["id"], ["10.5.0.2"])
    assert bound["port"] == built["ports"][0]["id"]
    for task, fields in (("network.delete", {"network": "lab"}), ("security_group.delete", {"group": "web"})):
        with pytest.raises(Refused, match="port"):
            nodes.ask(task, **fields)
    nodes.ask("instance.delete", instance="vm")
    assert nodes.ask("security_group.delete", group="web")["state"] == "deleted"
    assert nodes.ask("floating.delete", floating="192.0.2.7")["state"] == "deleted"
    assert nodes.ask("network.delete", network="lab")["state"] == "deleted"
    assert nodes.ask("network.create", "lab", name="lab", cidr="10.5.0.0/24", cidr6="fd00:5::/64")["name"] == "lab"
    assert nodes.catalog.list_networks() == (), "a late double brings nothing back"
