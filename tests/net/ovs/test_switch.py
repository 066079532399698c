"""Ports of a real Open vSwitch, looked at with its own tools, and what passes between the TAPs on it."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from net.fabric import LinuxFabric
from net.links.netlink import open_netlink
from net.ovs import database
from taskvisor.model.errors import CannotAsk, Contradiction, DoesNotFit, Retryable
from taskvisor.model.network import Bandwidth, Qos
from taskvisor.model.observed import LinkFacts
from taskvisor.model.plan import VifPlan
from tests.fixtures.machine import run_or_fail
from tests.net.guest import Guest, open_guest
from tests.net.ovs.plans import BRIDGE, nic, switched
from tests.net.ovs.switches import PrivateSwitch

pytestmark = pytest.mark.real

ARRIVAL_LIMIT_S = 60.0
SILENCE_S = 1.0
ETHERTYPE = b"\x88\xb5"  # IEEE 802: for local experiments
BROADCAST = b"\xff" * 6


def test_a_nic_is_an_access_port_with_the_words_that_neutron_and_ovn_write(
    fabric: LinuxFabric, switch: PrivateSwitch
) -> None:
    with plugged(fabric, nic()):
        assert port_of(switch, nic()) == {
            "bridge": BRIDGE,
            "tag": "100",
            "vlan_mode": "access",
            "taskvisor-owner": nic().owner,
            "taskvisor-ifindex": index_of(nic()),
            "iface-id": nic().port_id,
            "iface-status": "active",
            "attached-mac": nic().mac,
            "vm-uuid": nic().instance_id,
        }
        assert fabric.list_links() == (LinkFacts(name=nic().tap, owner=nic().owner),)
    assert switch.vsctl("list-ports", BRIDGE) == ""


def test_frames_pass_between_guests_of_one_vlan_and_not_to_another(fabric: LinuxFabric) -> None:
    red, also_red, blue = nic(0), nic(1), nic(2, switched(8, tag=200))
    with plugged(fabric, red, also_red, blue), guests(red, also_red, blue) as (first, second, other):
        assert arrives(first, second)
        assert arrives(second, first)
        assert not arrives(first, other, limit_s=SILENCE_S)


def test_a_trunk_sees_the_vlan_tag(fabric: LinuxFabric, switch: PrivateSwitch) -> None:
    with plugged(fabric, nic()), trunk(switch) as far_end, guests(nic()) as (guest,):
        assert "ethertype 802.1Q" in (seen := captured(far_end, guest)), seen
        assert "vlan 100," in seen


def test_a_guest_without_a_vlan_cannot_speak_in_one(fabric: LinuxFabric) -> None:
    untagged, tagged = nic(0, switched(7, tag=None)), nic(1)
    with plugged(fabric, untagged, tagged), guests(untagged, tagged) as (sender, hearer):
        assert not arrives(sender, hearer, before_type=b"\x81\x00\x00\x64", limit_s=SILENCE_S)


def test_plugging_again_changes_nothing_and_a_guest_keeps_its_traffic(
    fabric: LinuxFabric, switch: PrivateSwitch
) -> None:
    with plugged(fabric, nic(0), nic(1)), guests(nic(0), nic(1)) as (first, second):
        before = switch.vsctl("get", "interface", nic().tap, "_uuid"), switch.vsctl("get", "open", ".", "next_cfg")
        fabric.ensure_plugged(nic())
        assert (
            switch.vsctl("get", "interface", nic().tap, "_uuid"),
            switch.vsctl("get", "open", ".", "next_cfg"),
        ) == before
        assert arrives(first, second)


def test_what_somebody_changed_at_a_port_is_put_right_and_what_he_added_stays(
    fabric: LinuxFabric, switch: PrivateSwitch
) -> None:
    with plugged(fabric, nic()):
        switch.vsctl("set", "port", nic().tap, "tag=7", "external_ids:note=mine")
        switch.vsctl("clear", "port", nic().tap, "vlan_mode")
        fabric.ensure_plugged(nic())
        said = port_of(switch, nic())
        assert (said["tag"], said["vlan_mode"], said["note"]) == ("100", "access", "mine")


def test_a_port_on_another_bridge_moves_to_the_networks(fabric: LinuxFabric, switch: PrivateSwitch) -> None:
    switch.add_bridge("br-new")
    moved = nic(on=switched(bridge="br-new"))
    with plugged(fabric, nic(), moved):
        assert port_of(switch, moved)["bridge"] == "br-new"


def test_a_tap_that_was_deleted_by_hand_is_back_in_the_switch_with_the_next_plug(fabric: LinuxFabric) -> None:
    with plugged(fabric, nic(0), nic(1)):
        run_or_fail(["ip", "link", "delete", nic(0).tap], limit_s=ARRIVAL_LIMIT_S)
        until(lambda: _plugs(fabric, nic(0)))
        with guests(nic(0), nic(1)) as (first, second):
            assert arrives(first, second)


def test_after_a_reboot_the_port_is_there_before_its_tap_and_is_used_by_the_next_plug(
    fabric: LinuxFabric, switch: PrivateSwitch
) -> None:
    with plugged(fabric, nic(0), nic(1)):
        switch.end()
        run_or_fail(["ip", "link", "delete", nic(0).tap], limit_s=ARRIVAL_LIMIT_S)
        switch.start_database()
        switch.start_vswitchd()
        until(lambda: _plugs(fabric, nic(0)))
        with guests(nic(0), nic(1)) as (first, second):
            assert arrives(first, second)


def test_a_port_of_a_stranger_is_left_alone(fabric: LinuxFabric, switch: PrivateSwitch) -> None:
    switch.vsctl("add-port", BRIDGE, nic().tap, "--", "set", "interface", nic().tap, "type=internal")
    for act in (fabric.ensure_plugged, fabric.ensure_unplugged):
        with pytest.raises(Contradiction, match="belongs to somebody else"):
            act(nic())
    assert switch.vsctl("list-ports", BRIDGE) == nic().tap
    switch.vsctl("del-port", nic().tap)
    fabric.ensure_unplugged(nic())


def test_an_interface_in_a_strangers_bond_is_left_alone(fabric: LinuxFabric, switch: PrivateSwitch) -> None:
    switch.vsctl("add-bond", BRIDGE, "bond0", nic().tap, "dummy9")
    with pytest.raises(Contradiction, match="interface of another's port"):
        fabric.ensure_plugged(nic())
    with open_netlink() as netlink:
        assert netlink.read_link(nic().tap) is None
    switch.vsctl("del-port", "bond0")


def test_a_bridge_that_is_not_there_is_said_before_a_link_is_made(fabric: LinuxFabric) -> None:
    lost = nic(on=switched(bridge="br-none"))
    with pytest.raises(DoesNotFit, match="has no bridge br-none; make it"):
        fabric.ensure_plugged(lost)
    assert fabric.list_links() == ()
    fabric.ensure_unplugged(lost)


def test_without_open_vswitch_plugging_is_refused_and_unplugging_has_nothing_to_do(state_dir: Path) -> None:
    lonely = LinuxFabric(state_dir, ovsdb=f"unix:{state_dir}/none.sock")
    with pytest.raises(CannotAsk, match="start ovsdb-server, or set TASKVISOR_OVSDB"):
        lonely.ensure_plugged(nic())
    lonely.ensure_unplugged(nic())


def test_without_the_extra_the_host_does_not_fit(fabric: LinuxFabric, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ovsdbapp.schema.open_vswitch.impl_idl", None)
    with pytest.raises(DoesNotFit, match=r"install taskvisor\[ovs\]"):
        fabric.ensure_plugged(nic())
    fabric.ensure_unplugged(nic())


def test_a_port_that_may_be_there_is_not_forgotten_while_the_switch_is_down(
    fabric: LinuxFabric, switch: PrivateSwitch
) -> None:
    fabric.ensure_plugged(nic())
    switch.stop("ovsdb-server")
    with pytest.raises(CannotAsk):
        fabric.ensure_unplugged(nic())
    switch.start_database()
    fabric.ensure_unplugged(nic())
    assert switch.vsctl("list-ports", BRIDGE) == ""


def test_a_hung_database_is_an_error_and_no_hang(
    fabric: LinuxFabric, switch: PrivateSwitch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LIMIT_S", 1.0)
    os.kill(switch.pid_of("ovsdb-server"), signal.SIGSTOP)
    try:
        with pytest.raises(CannotAsk):
            fabric.ensure_plugged(nic())
    finally:
        os.kill(switch.pid_of("ovsdb-server"), signal.SIGCONT)


def test_a_switch_that_does_not_take_the_port_up_is_waited_for(
    fabric: LinuxFabric, switch: PrivateSwitch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LIMIT_S", 2.0)
    switch.stop("ovs-vswitchd")
    with pytest.raises(Retryable, match="do ovsdb-server and ovs-vswitchd run"):
        fabric.ensure_plugged(nic())
    switch.start_vswitchd()
    until(lambda: _plugs(fabric, nic()))
    fabric.ensure_unplugged(nic())


def test_limits_on_a_tap_outlive_what_the_switch_does_to_its_ports(fabric: LinuxFabric, switch: PrivateSwitch) -> None:
    limited = nic(qos=Qos(inbound=Bandwidth(average_kib_s=1000)))
    with plugged(fabric, limited):
        switch.stop("ovs-vswitchd")
        switch.start_vswitchd()
        switch.vsctl("set", "bridge", BRIDGE, "other_config:mac-aging-time=200")  # waits until it is followed
        assert [queue["kind"] for queue in queues_of(limited)] == ["tbf"]


@contextmanager
def plugged(fabric: LinuxFabric, *nics: VifPlan) -> Iterator[None]:
    with ExitStack() as stack:
        for each in nics:
            stack.callback(fabric.ensure_unplugged, each)
            fabric.ensure_plugged(each)
        yield


@contextmanager
def guests(*nics: VifPlan) -> Iterator[list[Guest]]:
    with ExitStack() as stack:
        yield [stack.enter_context(open_guest(each.tap, each.mac)) for each in nics]


@contextmanager
def trunk(switch: PrivateSwitch) -> Iterator[str]:
    """A port of the bridge that carries all VLANs; yields the link at its other end."""
    with IPRoute() as host:
        host.link("add", ifname="trunk0", kind="veth", peer="trunk1")
        for name in ("trunk0", "trunk1"):
            host.link("set", ifname=name, state="up")
        switch.vsctl("add-port", BRIDGE, "trunk0")
        yield "trunk1"
        switch.vsctl("del-port", "trunk0")
        host.link("del", ifname="trunk0")


def captured(link: str, sender: Guest) -> str:
    """What tcpdump says of the first frame of ours that it sees on the link."""
    argv = ["tcpdump", "-i", link, "-e", "-n", "-l", "-c", "1", "ether", "src", sender.mac]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as tcpdump:
        deadline = time.monotonic() + ARRIVAL_LIMIT_S
        while tcpdump.poll() is None and time.monotonic() < deadline:
            os.write(sender.fd, frame(sender))
            time.sleep(0.1)
        tcpdump.terminate()
        assert tcpdump.stdout is not None
        return tcpdump.stdout.read()


def arrives(sender: Guest, hearer: Guest, *, before_type: bytes = b"", limit_s: float = ARRIVAL_LIMIT_S) -> bool:
    """Whether a broadcast, sent again and again, is heard in time."""
    sent = frame(sender, before_type)
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        os.write(sender.fd, sent)
        while select.select([hearer.fd], [], [], 0.1)[0]:
            if os.read(hearer.fd, 65536)[6:12] == sent[6:12]:
                return True
    return False


def frame(sender: Guest, before_type: bytes = b"") -> bytes:
    return BROADCAST + bytes.fromhex(sender.mac.replace(":", "")) + before_type + ETHERTYPE + b"hello".ljust(50)


def port_of(switch: PrivateSwitch, vif: VifPlan) -> dict[str, str]:
    """All that the switch's own tool says of a port."""

    def pairs(table: str) -> dict[str, str]:
        listed = json.loads(switch.vsctl("-f", "json", "--columns=external_ids", "list", table, vif.tap))
        return dict(listed["data"][0][0][1])

    words = {column: switch.vsctl("get", "port", vif.tap, column) for column in ("tag", "vlan_mode")}
    return words | {"bridge": switch.vsctl("port-to-br", vif.tap)} | pairs("port") | pairs("interface")


def index_of(vif: VifPlan) -> str:
    (link,) = json.loads(run_or_fail(["ip", "-j", "link", "show", vif.tap], limit_s=30))
    return str(link["ifindex"])


def queues_of(vif: VifPlan) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(run_or_fail(["tc", "-j", "qdisc", "show", "dev", vif.tap], limit_s=30))
    return found


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ARRIVAL_LIMIT_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _plugs(fabric: LinuxFabric, vif: VifPlan) -> bool:
    try:
        fabric.ensure_plugged(vif)
    except Retryable:
        return False
    return True
