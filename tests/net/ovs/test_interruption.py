"""A process that dies anywhere while it plugs or unplugs a NIC of kind `ovs`: whoever comes next converges."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from net.fabric import LinuxFabric
from net.links.netlink import open_netlink
from net.ovs import database
from net.ovs.database import Switch
from taskvisor.model.network import Bandwidth, Qos, Surroundings
from taskvisor.model.plan import VifPlan
from tests.net import test_interruption as interruption
from tests.net.hosts import read_world
from tests.net.ovs.plans import BRIDGE, nic, switched
from tests.net.ovs.switches import PrivateSwitch
from tests.net.test_interruption import Case

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

ASKED = ("has_bridge", "has_interface", "read_port", "ensure_port", "ensure_port_absent", "has_rows_of")
Seen = tuple[str, frozenset[str], str]


def limited() -> VifPlan:
    return nic(qos=Qos(inbound=Bandwidth(average_kib_s=700)))


@pytest.fixture
def case(state_dir: Path, monkeypatch: pytest.MonkeyPatch, switch: PrivateSwitch) -> Case:
    monkeypatch.setattr(interruption, "LinuxFabric", partial(LinuxFabric, ovsdb=switch.remote))
    asked = tuple((Switch, name) for name in ASKED)
    monkeypatch.setattr(
        interruption, "DANGEROUS", (*interruption.DANGEROUS, *asked, (Path, "touch"), (database, "_connected"))
    )
    around = Surroundings(network=switched())
    return Case(state_dir=state_dir, nic=limited(), around=around, before=read_world(state_dir))


def test_a_plug_that_died_anywhere_is_finished_or_undone_by_the_next(case: Case, switch: PrivateSwitch) -> None:
    empty = seen(switch)
    case.plug()
    whole = seen(switch)
    case.unplug()
    for nth in interruption.deaths(case, case.plug):
        if nth % 2:
            case.plug()
            assert seen(switch) == whole
        case.unplug()
        assert seen(switch) == empty


def test_an_unplug_that_died_anywhere_is_finished_by_the_next(case: Case, switch: PrivateSwitch) -> None:
    empty = seen(switch)
    for _ in interruption.deaths(case, case.unplug, before=case.plug):
        case.unplug()
        assert seen(switch) == empty


def seen(switch: PrivateSwitch) -> Seen:
    """What the switch's own tool and the kernel say, without numbers that differ each time."""
    with open_netlink() as netlink:
        links = frozenset(f"{link.name} {link.alias} {link.mtu} {link.up}" for link in netlink.list_links())
    ports = switch.vsctl("list-ports", BRIDGE)
    return ports, links, "\n".join(_columns(switch, ports.split()))


def _columns(switch: PrivateSwitch, ports: list[str]) -> Iterator[str]:
    yield switch.vsctl("--columns=type", "list", "qos")
    for name in ports:
        yield switch.vsctl("--columns=name,tag,vlan_mode", "list", "port", name)
        yield switch.vsctl("--columns=external_ids", "list", "interface", name)
