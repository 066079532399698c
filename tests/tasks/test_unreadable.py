"""Records that this version can't read: told of, passed over, and never in the way of the others."""

from typing import cast

import pytest
import structlog

from tasks.edge import Edge, relaunch_all
from tasks.flows import ALL_FLOWS, FLOWS
from tasks.node import Node
from taskvisor.model.errors import UnreadableRecord
from taskvisor.model.ids import HostName
from taskvisor.model.operation import Operation
from tests.support.fleet import KEYS, PERIOD_S, Fleet

H1 = HostName("h1")


class Recorder:
    """Stands for the edge, and for a node that has this store: `launch` notes what would be sent on, as the edge does."""

    def __init__(self, fleet: Fleet) -> None:
        self.door = fleet.door
        self.launched: list[str] = []

    def launch(self, operation: Operation) -> None:
        assert FLOWS[operation.flow]
        self.launched.append(operation.id)


def spoil(fleet: Fleet, operation_id: str, kind: str) -> None:
    """The record of that operation is one that this version can't read."""
    key = KEYS.operation(operation_id)
    document = str(fleet.client.hget(key, "doc"))
    spoiled = {
        "cut off": document[:-5],
        "of a newer schema": document.replace('"schema":1', '"schema":2'),
        "of an unknown phase": document.replace('"phase":"running"', '"phase":"paused"'),
        "of an unknown flow": document.replace('"flow":"instance.build"', '"flow":"instance.resize"'),
    }[kind]
    assert spoiled != document
    fleet.client.hset(key, "doc", spoiled)


KINDS = ("cut off", "of a newer schema", "of an unknown phase", "of an unknown flow")


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_that_starts_sends_on_all_that_it_can_read(fleet: Fleet, kind: str) -> None:
    for name in ("a", "b", "c"):
        fleet.begin_build(name)
    spoil(fleet, "build-b", kind)
    recorder = Recorder(fleet)

    with structlog.testing.capture_logs() as logs:
        sent = relaunch_all(cast(Edge, recorder), cast(Node, recorder), H1)

    assert (sent, sorted(recorder.launched)) == (2, ["build-a", "build-c"])
    assert [entry["op"] for entry in logs if entry["event"] == "operation_not_sent_on"] == ["build-b"]


@pytest.mark.parametrize("kind", KINDS[:-1])  # the harness' post knows no flows; the edge's launch does, as above
def test_the_sweep_sends_on_all_that_it_can_read(fleet: Fleet, kind: str) -> None:
    for name in ("a", "b", "c"):
        fleet.begin_build(name)
    fleet.post.chains.clear()
    spoil(fleet, "build-b", kind)
    fleet.clock.advance_to(fleet.clock.now() + PERIOD_S)

    fleet.sweep.run()
    fleet.post.deliver_all()

    assert [guest.name for guest in fleet.store.catalog.list_instances() if guest.vm_state == "active"] == ["a", "c"]


def test_a_flow_that_nobody_knows_is_refused_in_words() -> None:
    assert [FLOWS[flow.name] for flow in ALL_FLOWS] == list(ALL_FLOWS)
    with pytest.raises(UnreadableRecord) as refusal:
        FLOWS["instance.resize"]
    assert str(refusal.value) == (
        "this Taskvisor knows no flow 'instance.resize'; if a newer one wrote it, upgrade this node"
    )


def test_an_instance_that_cannot_be_read_is_not_acted_on(fleet: Fleet) -> None:
    """What can't be read may be anything, so nothing of it is touched; the others' power states are followed."""
    for name in ("a", "b"):
        fleet.build(name)
    spoiled, followed = fleet.instance("a"), fleet.instance("b")
    fleet.client.set(KEYS.instance(spoiled.id), "{")
    host = fleet.hosts[H1]
    for guest in (spoiled, followed):
        host.ports.hypervisor.ensure_off(guest.id)

    assert host.report.sync_power_states() == 1

    assert fleet.client.get(KEYS.instance(spoiled.id)) == "{"
    assert host.ports.hypervisor.read_domain(spoiled.id) is not None
