"""A guest on a network of kind `ovs`, with everything real: its frames leave the bridge with the network's VLAN tag."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.hosts import Libvirtd
from tests.fixtures.machine import run_or_fail
from tests.net.ovs.plans import BRIDGE
from tests.net.ovs.switches import PrivateSwitch, open_private_switch
from tests.system.nodes import PREFIX, Nodes, running_nodes

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]  # QEMU without KVM, maybe on a crowded machine

BOOT_LIMIT_S = 240.0
FLAVOR = {"vcpus": 1, "memory_mib": 256, "disk_gib": 1}


@pytest.fixture
def switch(host_namespace: str) -> Iterator[PrivateSwitch]:
    """The Open vSwitch of the host, with one bridge and a trunk to elsewhere."""
    with tempfile.TemporaryDirectory(prefix="ovs") as directory, open_private_switch(Path(directory)) as made:
        made.add_bridge(BRIDGE)
        for words in ("add trunk0 type veth peer name trunk1", "set trunk0 up", "set trunk1 up"):
            run_or_fail(["ip", "link", *words.split()], limit_s=30)
        made.vsctl("add-port", BRIDGE, "trunk0")
        yield made
        run_or_fail(["ip", "link", "delete", "trunk0"], limit_s=30)


@pytest.fixture
def nodes(libvirtd: Libvirtd, switch: PrivateSwitch, redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    host = {"driver": "libvirt", "libvirt_uri": libvirtd.uri, "TASKVISOR_OVSDB": switch.remote}
    with running_nodes(redis_url, tmp_state_dir, **host) as running:
        yield running
        for name in running.redis.hkeys(f"{PREFIX}names"):
            running.ask("instance.delete", instance=name)


def test_a_guest_speaks_in_its_networks_vlan_and_leaves_no_port(
    nodes: Nodes, switch: PrivateSwitch, guest_image: Path
) -> None:
    on = nodes.ask("network.create", name="tagged", kind="ovs", cidr="10.9.0.0/24", bridge=BRIDGE, segment=100)
    argv = ["tcpdump", "-i", "trunk1", "-e", "-n", "-l", "-c", "1", "ether[6:2] == 0x5254"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as tcpdump:
        try:
            guest = nodes.ask(
                "instance.build", name="tagged", image=str(guest_image), flavor=FLAVOR, networks=[on["name"]]
            )
            heard = tcpdump.communicate(timeout=BOOT_LIMIT_S)[0]
        finally:
            tcpdump.kill()
    (port,) = guest["ports"]
    assert port["mac"] in heard
    assert "ethertype 802.1Q" in heard
    assert "vlan 100," in heard
    tap = f"tap{port['id'][:11]}"
    assert switch.vsctl("get", "interface", tap, "external_ids:iface-id").strip('"') == port["id"]

    nodes.ask("instance.delete", instance="tagged")
    assert switch.vsctl("list-ports", BRIDGE) == "trunk0"
    assert switch.vsctl("list", "qos") == ""
