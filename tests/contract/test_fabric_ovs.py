"""What a Fabric promises of networks of kind `ovs`: the bridge is the operator's, before, meanwhile and afterwards."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from net.fabric import LinuxFabric
from net.simulated import SimulatedFabric
from taskvisor.flow.ports import Fabric
from taskvisor.model.observed import LinkFacts
from taskvisor.model.plan import VifPlan
from tests.net.ovs.plans import BRIDGE, nic, switched
from tests.net.ovs.switches import open_private_switch

RED, BLUE = nic(0), nic(1, switched(8, tag=200))


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.real)])
def fabric(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fabric]:
    """The fabric of a host whose switch has the bridge. No port is left on it."""
    if request.param == "simulated":
        yield SimulatedFabric(tmp_path)
        assert list((tmp_path / "links").iterdir()) == []
        return
    request.getfixturevalue("host_namespace")
    with tempfile.TemporaryDirectory(prefix="ovs") as directory, open_private_switch(Path(directory)) as switch:
        switch.add_bridge(BRIDGE)
        yield LinuxFabric(request.getfixturevalue("tmp_state_dir"), ovsdb=switch.remote)
        assert (switch.vsctl("list-br"), switch.vsctl("list-ports", BRIDGE)) == (BRIDGE, "")


def test_networks_share_the_operators_bridge_and_leave_it(fabric: Fabric) -> None:
    for plan in (RED, BLUE, RED):
        fabric.ensure_plugged(plan)
    assert set(fabric.list_links()) == facts_of(RED, BLUE)
    fabric.ensure_unplugged(RED)
    fabric.ensure_unplugged(RED)
    assert set(fabric.list_links()) == facts_of(BLUE)
    fabric.ensure_unplugged(BLUE)
    assert fabric.list_links() == ()


def test_what_was_never_plugged_is_unplugged(fabric: Fabric) -> None:
    fabric.ensure_unplugged(RED)
    assert fabric.list_links() == ()


def facts_of(*plans: VifPlan) -> set[LinkFacts]:
    return {LinkFacts(name=plan.tap, owner=plan.owner) for plan in plans}
