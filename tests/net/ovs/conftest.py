"""A host with a private Open vSwitch, its bridge br-int, and our fabric."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from net.fabric import LinuxFabric
from tests.net.ovs.plans import BRIDGE
from tests.net.ovs.switches import PrivateSwitch, open_private_switch


@pytest.fixture
def switch(state_dir: Path) -> Iterator[PrivateSwitch]:
    """The Open vSwitch of a host in a fresh network namespace, with one bridge. Afterwards no port of ours is on it."""
    with tempfile.TemporaryDirectory(prefix="ovs") as directory, open_private_switch(Path(directory)) as made:
        made.add_bridge(BRIDGE)
        yield made
        assert "taskvisor" not in made.vsctl("list", "port") + made.vsctl("list", "qos")
        assert not list((state_dir / "net" / "ovs").glob("*"))


@pytest.fixture
def fabric(state_dir: Path, switch: PrivateSwitch) -> LinuxFabric:
    """The fabric of that host."""
    return LinuxFabric(state_dir, ovsdb=switch.remote)
