"""Every request that there is, asked of a real worker as docs/schema has its arguments, is answered as it has its result."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.requests import REQUESTS
from taskvisor.model.errors import Refused
from tests.system.nodes import Nodes, running_nodes

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]  # some eighty requests, maybe on a crowded machine

IMAGE = "simulated://debian?virtual_gib=1"
BUILD: dict[str, Any] = {"image": IMAGE, "flavor": {"vcpus": 1, "memory_mib": 64, "disk_gib": 1}}
ELSEWHERE = {"fleet.repair", "fleet.keep_orphan", "host.remove"}
"""Need something broken, an orphan, or a host that is dead: tests/support's desks hold these to their schemas."""


@pytest.fixture
def nodes(redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    with running_nodes(redis_url, tmp_state_dir) as running:
        yield running


class Tour:
    """Asks, and remembers what for. `Nodes.ask` holds both sides to the schemas."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self.asked: set[str] = set()

    def ask(self, task: str, operation_id: str | None = None, **fields: Any) -> Any:
        self.asked.add(task)
        return self._nodes.ask(task, operation_id, **fields)

    def ask_twice(self, task: str, **fields: Any) -> Any:
        """The second time it is so already."""
        told = self.ask(task, **fields)
        assert self.ask(task, **fields).get("already", True)
        return told


def test_every_request_and_every_result_is_as_it_is_published(nodes: Nodes) -> None:
    tour = Tour(nodes)
    _go_through_records(tour)
    _go_through_networks(tour)
    _go_through_a_guest(tour)
    _go_through_many(tour)
    _go_through_the_host(tour)

    assert tour.asked | ELSEWHERE == REQUESTS.keys()


def _go_through_records(tour: Tour) -> None:
    tour.ask_twice("image.register", name="debian", source=IMAGE, min_disk_gib=1, properties={"hw_disk_bus": "scsi"})
    tour.ask_twice("image.delete", image="debian")
    tour.ask_twice("flavor.create", name="own", vcpus=1, memory_mib=64, public=False, projects=["lab"])
    tour.ask_twice("flavor.set", flavor="own", extra_specs={"hw:cpu_sockets": "1"})
    tour.ask_twice("flavor.unset", flavor="own", keys=["hw:cpu_sockets"])
    tour.ask_twice("flavor.add_access", flavor="own", project="shop")
    tour.ask_twice("flavor.remove_access", flavor="own", project="shop")
    tour.ask_twice("flavor.delete", flavor="own")
    tour.ask_twice("aggregate.create", name="fast", hosts=[], properties={"ssd": "true"})
    tour.ask_twice("aggregate.set", aggregate="fast", properties={"ssd": "false"}, remove=["x"])
    tour.ask_twice("aggregate.add_host", aggregate="fast", host="kvm1")
    tour.ask_twice("aggregate.remove_host", aggregate="fast", host="kvm1")
    tour.ask_twice("aggregate.delete", aggregate="fast")
    tour.ask_twice("server_group.create", name="apart", policy="anti-affinity", servers_per_host=2)
    tour.ask_twice("server_group.delete", server_group="apart")


def _go_through_networks(tour: Tour) -> None:
    lan = {"name": "lan", "cidr": "10.7.0.0/24", "cidr6": "fd00:7::/64", "dns": ["10.7.0.1"]}
    tour.ask_twice("network.create", **lan, routes=[{"destination": "10.8.0.0/16", "via": "10.7.0.9"}])
    tour.ask_twice("network.delete", network="lan")
    rules = [{"direction": "ingress", "protocol": "tcp", "first_port": 22, "remote": "10.0.0.0/8"}]
    tour.ask_twice("security_group.create", name="ssh", rules=rules)
    tour.ask_twice("security_group.update", group="ssh", rules=[*rules, {"direction": "egress"}])
    tour.ask_twice("security_group.delete", group="ssh")
    tour.ask_twice("floating.create", address="203.0.113.7")


def _go_through_a_guest(tour: Tour) -> None:
    tour.ask("instance.plan", **BUILD, name="web")
    built = tour.ask("instance.build", "the-build", **BUILD, name="web", metadata={"a": "b"}, networks=["default"])
    tour.ask("operation.cancel", operation="the-build")
    with pytest.raises(Refused):
        tour.ask("instance.build", "the-failure", name="other", image="/nowhere/debian.qcow2", flavor="c1-m64-d1")
    tour.ask("operation.retry", operation="the-failure")
    tour.ask_twice("floating.bind", floating="203.0.113.7", instance="web")
    tour.ask_twice("floating.release", floating="203.0.113.7")
    tour.ask_twice("floating.delete", floating="203.0.113.7")
    tour.ask_twice("port.update", instance="web", security_groups=[])
    tour.ask_twice("instance.stop", instance="web", timeout_s=0, wait_turn_s=5)
    tour.ask_twice("instance.start", instance="web")
    tour.ask("instance.reboot", instance="web", type="hard")
    tour.ask("instance.attach_interface", instance="web", interface={"network": "default", "queues": 1})
    tour.ask("instance.detach_interface", instance="web", interface=built["ports"][0]["mac"])
    volume = {"source": "nfs://10.0.0.1/export/v.raw", "serial": "v1"}
    tour.ask_twice("instance.attach_volume", instance="web", volume=volume)
    tour.ask("instance.detach_volume", instance="web", volume="v1")
    tour.ask("instance.snapshot", instance="web", image="copy", method="cold")
    tour.ask("image.delete", image="copy")
    tour.ask_twice("instance.soft_delete", instance="web")
    tour.ask_twice("instance.restore", instance="web")
    tour.ask("instance.soft_delete", instance="web")
    tour.ask("instance.reclaim", instance="web")


def _go_through_many(tour: Tour) -> None:
    batch = tour.ask("instance.build_many", **BUILD, name="ci", count=2, min_count=1)
    for member in batch["operations"]:
        tour.ask("instance.build", member["operation"], **BUILD, name=member["name"])
        tour.ask_twice("instance.delete", instance=member["name"])


def _go_through_the_host(tour: Tour) -> None:
    tour.ask_twice("host.label", host="kvm1", labels={"rack": "b2"}, remove=["old"])
    tour.ask_twice("host.disable", host="kvm1", reason="new disks")
    tour.ask_twice("host.enable", host="kvm1")
    tour.ask("host.plan_drain", host="kvm1", guests="stop")
    tour.ask("host.drain", host="kvm1", reason="new kernel", deadline_s=60, by="ann")
    tour.ask_twice("host.undrain", host="kvm1", start_guests=False, by="ann")
    tour.ask_twice("host.force_down", host="kvm1", reason="no power", by="ann")
    tour.ask_twice("host.force_up", host="kvm1", by="ann")
