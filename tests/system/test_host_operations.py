"""Whole hosts, with real workers whose guests are simulated: one is emptied while its control node dies, one is forgotten."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from taskvisor.cli.host_state import host_state_text
from taskvisor.model.drain import Drain, DrainPhase
from taskvisor.model.ids import HostName
from taskvisor.model.records import Host
from taskvisor.model.states import VmState
from taskvisor.state.drains import Drains
from taskvisor.state.keys import Keys
from tests.fixtures.redis_servers import OpenRedisServer
from tests.system.nodes import PREFIX, Nodes, wait_until

pytestmark = pytest.mark.real

LIMIT_S = 240.0
"""Two hosts' workers on a busy machine take their time."""
BUILD: dict[str, Any] = {
    "image": "simulated://debian?virtual_gib=1",
    "flavor": {"vcpus": 1, "memory_mib": 64, "disk_gib": 1},
}
GUESTS = ("a", "b", "c", "d", "e", "f")


@pytest.fixture
def two_hosts(open_redis_server: OpenRedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Nodes]]:
    """kvm1 has guests, kvm2 none."""
    url = open_redis_server().url()
    with ExitStack() as stack:
        hosts = []
        for name in ("kvm1", "kvm2"):
            options = {"host": name, "driver": "simulated", "TASKVISOR_DRAIN_AT_ONCE": "1"}
            nodes = Nodes(url, tmp_path_factory.mktemp("state"), **options)
            stack.callback(nodes.stop)
            nodes.start("steps")
            nodes.start("control", concurrency=1)
            hosts.append(nodes)
        for nodes in hosts:
            wait_until(lambda nodes=nodes: is_up(nodes), f"{nodes.host} to come up", LIMIT_S)  # type: ignore[misc]
        built = [hosts[0].send("instance.build", name=name, host="kvm1", **BUILD) for name in GUESTS]
        for one in built:
            one.get(timeout=LIMIT_S)
        yield hosts


def is_up(nodes: Nodes) -> bool:
    return any(host.name == nodes.host and host.up and host.inventory for host in nodes.hosts.list_hosts())


def ask(nodes: Nodes, task: str, operation_id: str | None = None, **fields: Any) -> Any:
    """As `Nodes.ask`, with more patience."""
    return nodes.send(task, operation_id, **fields).get(timeout=LIMIT_S)


def sweep(nodes: Nodes) -> None:
    """As beat would; not while the last one waits to be taken."""
    if not nodes.redis.exists("compute"):
        nodes.send("operation.sweep")


def drain_of(nodes: Nodes) -> Drain:
    seen = Drains(nodes.redis, Keys(PREFIX)).read(HostName(nodes.host))
    assert seen is not None
    return seen.drain


def host_of(nodes: Nodes) -> Host:
    return next(host for host in nodes.hosts.list_hosts() if host.name == nodes.host)


def states_of(nodes: Nodes) -> set[VmState]:
    return {instance.vm_state for instance in nodes.catalog.list_instances(HostName(nodes.host))}


def test_a_host_is_emptied_though_its_control_node_dies_in_the_midst_and_is_given_back(two_hosts: list[Nodes]) -> None:
    first, second = two_hosts
    asked = ask(
        second, "host.drain", "the-drain", host="kvm1", reason="new kernel", by="ann", guests="stop", deadline_s=3600
    )
    assert asked["phase"] == "draining"
    wait_until(lambda: drain_of(first).stopped or drain_of(first).errands, "the first guest to be stopped", LIMIT_S)

    first.kill("control")
    second.kill("control")  # whoever carried it on is dead
    assert drain_of(first).phase is DrainPhase.DRAINING
    second.start("control", concurrency=1)
    wait_until(lambda: second.hosts.list_not_taking() == (HostName("kvm1"),), "another control node", LIMIT_S)

    def drained() -> bool:
        sweep(second)
        return drain_of(first).phase is DrainPhase.DRAINED

    wait_until(drained, "the drain to be carried on by another", LIMIT_S)
    assert states_of(first) == {VmState.STOPPED}
    assert len(drain_of(first).stopped) == len(GUESTS)
    assert host_state_text(host_of(first)) == "drained: new kernel"
    with pytest.raises(Exception, match="it is disabled: drained: new kernel"):
        ask(second, "instance.build", name="late", host="kvm1", **BUILD)

    assert ask(second, "host.undrain", host="kvm1", start_guests=True)["phase"] == "starting"
    wait_until(lambda: drain_of(first).phase is DrainPhase.OVER, "the guests to be started again", LIMIT_S)
    assert states_of(first) == {VmState.ACTIVE}
    assert host_state_text(host_of(first)) == "up"


def test_a_host_that_died_is_called_dead_emptied_of_its_records_and_forgotten_with_every_key(
    two_hosts: list[Nodes],
) -> None:
    first, second = two_hosts
    for name in GUESTS:
        ask(first, "instance.delete", instance=name)
    ask(second, "instance.build", name="other", host="kvm2", **BUILD)
    assert ask(second, "host.force_down", host="kvm1", reason="no power", by="ann")["host"] == "kvm1"
    assert host_state_text(host_of(first)) == "down, forced (and yet it speaks): no power"
    with pytest.raises(Exception, match="a node of it speaks; stop its worker"):
        ask(second, "host.remove", host="kvm1", reason="no power")

    first.kill("steps")
    first.kill("control")
    for key in ("alive", "taking", "listening"):  # as when they have expired, a minute later
        first.redis.delete(f"{PREFIX}{key}:kvm1")

    def taken_back() -> bool:
        sweep(second)
        return not first.redis.exists("compute.inflight.kvm1")

    wait_until(taken_back, "what it had in hand to be taken back", LIMIT_S)
    assert ask(second, "host.remove", host="kvm1", reason="no power", by="ann")["state"] == "removed"

    assert [host.name for host in second.hosts.list_hosts()] == ["kvm2"]
    assert [key for key in second.redis.keys("*") if "kvm1" in str(key)] == []
