"""What a Fabric promises (taskvisor/flow/ports.py)."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest
from pyroute2 import IPRoute

from net.fabric import LinuxFabric
from net.services.metadata import Place
from net.simulated import SimulatedFabric, SimulatedNeighbour
from taskvisor.flow.ports import Fabric
from taskvisor.model.errors import Contradiction
from taskvisor.model.ids import HostName
from taskvisor.model.network import HostLinks, Network, NetworkKind, Surroundings
from taskvisor.model.observed import DhcpFacts, LinkFacts, PlugMemory, PlugPart
from taskvisor.model.plan import VifPlan
from tests.contract.processes import repeat_at_once
from tests.net.plans import member, network, vif

BLUE, RED = network(8), network(9)
TUNNELLED = replace(network(7, dhcp=False), kind=NetworkKind.VXLAN, segment=100)
ROUTED = replace(network(6, dhcp=False), kind=NetworkKind.ROUTED)
LOOP = HostLinks(tunnel_address="127.0.0.1")
ENDS = {HostName("here"): "127.0.0.1", HostName("there"): "192.0.2.9"}


class FabricHost(Protocol):
    """A host with links. `open_port` may be pickled, and opened in another process."""

    port: Fabric

    @property
    def open_port(self) -> Callable[[], Fabric]: ...

    def list_names(self) -> tuple[str, ...]:
        """All links, ours or not, but for the loopback, in the order of their names."""
        ...

    def ensure_foreign_link(self, name: str) -> None:
        """Somebody else has made a link of that name."""
        ...

    def ensure_foreign_link_gone(self, name: str) -> None: ...

    def read_told(self, vif: VifPlan) -> Mapping[str, str]:
        """What the port's guest would be told, if it asked now."""
        ...


class SimulatedHost:
    def __init__(self, root: Path) -> None:
        self.open_port = partial(SimulatedFabric, root)
        self.port: Fabric = self.open_port()
        self._neighbour = SimulatedNeighbour(root)

    def list_names(self) -> tuple[str, ...]:
        return self._neighbour.list_names()

    def ensure_foreign_link(self, name: str) -> None:
        self._neighbour.ensure_foreign_link(name)

    def ensure_foreign_link_gone(self, name: str) -> None:
        self._neighbour.ensure_foreign_link_gone(name)

    def read_told(self, vif: VifPlan) -> Mapping[str, str]:
        return self._neighbour.read_told(vif.tap)


class RealHost:
    """The network namespace that the test's thread is in."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self.open_port = partial(LinuxFabric, state_dir)
        self.port: Fabric = self.open_port()

    def list_names(self) -> tuple[str, ...]:
        with IPRoute() as netlink:
            return tuple(sorted(link.get("ifname") for link in netlink.get_links() if link.get("ifname") != "lo"))

    def ensure_foreign_link(self, name: str) -> None:
        with IPRoute() as netlink:
            netlink.link("add", ifname=name, kind="bridge")

    def ensure_foreign_link_gone(self, name: str) -> None:
        with IPRoute() as netlink:
            netlink.link("del", ifname=name)

    def read_told(self, vif: VifPlan) -> Mapping[str, str]:
        file = Place(directory=self._state_dir / "net" / "networks" / vif.network_id).file_of(vif)
        found: Mapping[str, str] = json.loads(file.read_text()) if file.exists() else {}
        return found


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.real)])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FabricHost]:
    """A host without links; afterwards nothing may be left of what a test plugged and unplugged."""
    made: FabricHost
    if request.param == "real":
        request.getfixturevalue("host_namespace")
        state_dir: Path = request.getfixturevalue("tmp_state_dir")
        state_dir.chmod(0o755)  # dnsmasq is an unprivileged user
        made = RealHost(state_dir)
    else:
        made = SimulatedHost(tmp_path)
    yield made
    assert made.list_names() == ()


@pytest.fixture
def plugged(host: FabricHost) -> Iterator[FabricHost]:
    """Guests 0 and 1 are on the network RED; unplugged afterwards, again if need be."""
    for number in (0, 1):
        host.port.ensure_plugged(vif(number, RED))
    yield host
    for number in (0, 1):
        host.port.ensure_unplugged(vif(number, RED))


def facts_of(*vifs: VifPlan) -> set[LinkFacts]:
    return {LinkFacts(name=plan.tap, owner=plan.owner) for plan in vifs}


def test_a_host_without_guests_has_no_links(host: FabricHost) -> None:
    assert host.port.list_links() == ()


def test_plugged_vifs_have_taps_with_their_owners_names_and_one_bridge(plugged: FabricHost) -> None:
    first, second = vif(0, RED), vif(1, RED)
    assert set(plugged.port.list_links()) == facts_of(first, second)
    assert set(plugged.list_names()) == {first.tap, second.tap, first.bridge}


def test_plugging_twice_is_once(plugged: FabricHost) -> None:
    before = plugged.list_names(), plugged.port.list_links()
    plugged.port.ensure_plugged(vif(0, RED))
    assert (plugged.list_names(), plugged.port.list_links()) == before


def test_the_bridge_stays_until_the_last_port_is_unplugged(plugged: FabricHost) -> None:
    plugged.port.ensure_unplugged(vif(0, RED))
    assert set(plugged.list_names()) == {vif(1, RED).tap, vif(1, RED).bridge}
    plugged.port.ensure_unplugged(vif(1, RED))
    assert plugged.list_names() == ()


def test_unplugging_twice_is_once(plugged: FabricHost) -> None:
    plugged.port.ensure_unplugged(vif(0, RED))
    plugged.port.ensure_unplugged(vif(0, RED))
    assert set(plugged.port.list_links()) == facts_of(vif(1, RED))


def test_a_vif_that_was_never_plugged_is_unplugged(host: FabricHost) -> None:
    host.port.ensure_unplugged(vif(0, RED))
    assert host.list_names() == ()


def test_a_vif_plugged_again_after_it_was_unplugged_is_there(plugged: FabricHost) -> None:
    plugged.port.ensure_unplugged(vif(0, RED))
    plugged.port.ensure_plugged(vif(0, RED))
    assert set(plugged.port.list_links()) == facts_of(vif(0, RED), vif(1, RED))


def test_networks_are_apart(plugged: FabricHost) -> None:
    before = plugged.list_names()
    plugged.port.ensure_plugged(vif(0, BLUE))
    assert set(plugged.list_names()) - set(before) == {vif(0, BLUE).tap, vif(0, BLUE).bridge}
    plugged.port.ensure_unplugged(vif(0, BLUE))
    assert plugged.list_names() == before


@pytest.mark.parametrize("name_of", [lambda plan: plan.tap, lambda plan: plan.bridge], ids=["tap", "bridge"])
def test_a_strangers_link_of_that_name_is_left_alone(host: FabricHost, name_of: Callable[[VifPlan], str]) -> None:
    name = name_of(vif(0, RED))
    host.ensure_foreign_link(name)
    with pytest.raises(Contradiction):
        host.port.ensure_plugged(vif(0, RED))
    assert name in host.list_names()
    host.ensure_foreign_link_gone(name)
    host.port.ensure_unplugged(vif(0, RED))


def test_a_strangers_link_is_not_unplugged(host: FabricHost) -> None:
    host.ensure_foreign_link(vif(0, RED).tap)
    with pytest.raises(Contradiction):
        host.port.ensure_unplugged(vif(0, RED))
    assert host.list_names() == (vif(0, RED).tap,)
    host.ensure_foreign_link_gone(vif(0, RED).tap)


def test_a_strangers_link_is_not_listed(plugged: FabricHost) -> None:
    plugged.ensure_foreign_link("tapstranger")
    assert set(plugged.port.list_links()) == facts_of(vif(0, RED), vif(1, RED))
    plugged.ensure_foreign_link_gone("tapstranger")


def test_a_second_process_sees_what_the_first_did(plugged: FabricHost) -> None:
    assert set(plugged.open_port().list_links()) == facts_of(vif(0, RED), vif(1, RED))


def test_two_processes_at_once_plug_one_vif(host: FabricHost) -> None:
    calls = [("ensure_plugged", (vif(0, RED),))] * 3
    repeat_at_once(host.open_port, [calls, calls])
    host.port.ensure_plugged(vif(0, RED))
    assert set(host.list_names()) == {vif(0, RED).tap, vif(0, RED).bridge}
    host.port.ensure_unplugged(vif(0, RED))


def test_a_last_unplug_never_takes_the_bridge_from_under_a_first_plug(host: FabricHost) -> None:
    def life(number: int) -> list[tuple[str, tuple[object, ...]]]:
        return [("ensure_plugged", (vif(number, RED),)), ("ensure_unplugged", (vif(number, RED),))] * 5

    repeat_at_once(host.open_port, [life(0), [*life(1), ("ensure_plugged", (vif(1, RED),))]])
    host.port.ensure_unplugged(vif(0, RED))
    assert set(host.list_names()) == {vif(1, RED).tap, vif(1, RED).bridge}
    host.port.ensure_unplugged(vif(1, RED))


@pytest.mark.parametrize("on", [TUNNELLED, ROUTED], ids=["vxlan", "routed"])
def test_ports_of_other_kinds_are_plugged_and_unplugged_alike(host: FabricHost, on: Network) -> None:
    first, second = vif(0, on, LOOP), vif(1, on, LOOP)
    around = Surroundings(network=on, members=(member(0, on, "here"), member(7, on, "there")), tunnels=ENDS)
    host.port.ensure_surroundings(around)
    assert host.list_names() == (), "of no effect where the network has no port"
    for _ in range(2):
        for plan in (first, second):
            host.port.ensure_plugged(plan)
        host.port.ensure_surroundings(around)
        assert set(host.port.list_links()) == facts_of(first, second)
        assert (first.bridge in host.list_names()) is (on is TUNNELLED)
    for plan in (first, second, second):
        host.port.ensure_unplugged(plan)
    host.port.ensure_surroundings(around)
    assert host.list_names() == ()


def test_what_dhcp_is_told_is_listed_as_long_as_the_port_is_plugged(plugged: FabricHost) -> None:
    first, second = vif(0, RED), vif(1, RED)
    assert set(plugged.port.list_dhcp()) == told_of(first, second)
    plugged.port.ensure_plugged(first)
    assert set(plugged.port.list_dhcp()) == told_of(first, second)
    plugged.port.ensure_unplugged(first)
    assert set(plugged.port.list_dhcp()) == told_of(second)


def test_dhcp_of_a_host_without_guests_is_told_nothing(host: FabricHost) -> None:
    assert host.port.list_dhcp() == ()


def test_each_guest_is_told_its_own_until_its_port_goes(plugged: FabricHost) -> None:
    first, second = vif(0, RED), vif(1, RED)
    for plan, name in ((first, "one"), (second, "two"), (first, "uno"), (first, "uno")):
        plugged.port.ensure_told(plan, {"latest/meta-data/hostname": name})
    assert [plugged.read_told(plan)["latest/meta-data/hostname"] for plan in (first, second)] == ["uno", "two"]
    plugged.port.ensure_plugged(first)
    assert plugged.read_told(first)
    plugged.port.ensure_unplugged(first)
    assert (plugged.read_told(first), len(plugged.read_told(second))) == ({}, 1)
    plugged.port.ensure_plugged(first)
    assert plugged.read_told(first) == {}, "it is another port's life"


def test_a_guest_that_is_told_nothing_any_more_is_told_nothing(plugged: FabricHost) -> None:
    plugged.port.ensure_told(vif(0, RED), {"latest/user-data": "x"})
    for _ in range(2):
        plugged.port.ensure_told(vif(0, RED), {})
        assert plugged.read_told(vif(0, RED)) == {}


def test_a_guest_whose_port_is_not_plugged_is_told_nothing(host: FabricHost) -> None:
    host.port.ensure_told(vif(0, RED), {"latest/user-data": "x"})
    assert host.read_told(vif(0, RED)) == {}


def told_of(*vifs: VifPlan) -> set[DhcpFacts]:
    return {DhcpFacts(bridge=plan.bridge, mac=plan.mac, address=plan.address, hostname=plan.hostname) for plan in vifs}


def parts_of(host: FabricHost, *numbers: int) -> dict[str, tuple[PlugPart, ...]]:
    """What the plugs of these guests lack, by port; no QEMU is here that could have a link open."""
    lacks = host.port.list_missing([vif(number, RED) for number in numbers])
    found = {lack.port_id: tuple(part for part in lack.parts if part is not PlugPart.GUEST) for lack in lacks}
    return {port_id: parts for port_id, parts in found.items() if parts}


def test_a_plug_that_is_whole_lacks_nothing(plugged: FabricHost) -> None:
    assert parts_of(plugged, 0, 1) == {}
    assert plugged.port.list_missing(()) == ()


def test_a_plug_that_never_was_lacks_its_link_and_its_dhcp_and_looking_makes_nothing(host: FabricHost) -> None:
    assert {PlugPart.LINK, PlugPart.DHCP} <= set(parts_of(host, 0)[vif(0, RED).port_id])
    assert host.list_names() == ()


def test_a_link_that_somebody_removed_is_missed_and_made_again_and_no_other(plugged: FabricHost) -> None:
    before = plugged.list_names()
    plugged.ensure_foreign_link_gone(vif(0, RED).tap)
    assert parts_of(plugged, 0, 1) == {vif(0, RED).port_id: (PlugPart.LINK,)}

    plugged.port.ensure_plugged(vif(0, RED))

    assert parts_of(plugged, 0, 1) == {}
    assert plugged.list_names() == before


def test_a_bridge_that_somebody_removed_is_missed_by_all_on_it(plugged: FabricHost) -> None:
    plugged.ensure_foreign_link_gone(vif(0, RED).bridge)
    assert set(parts_of(plugged, 0, 1)) == {vif(0, RED).port_id, vif(1, RED).port_id}
    for number in (0, 1):
        plugged.port.ensure_plugged(vif(number, RED))
    assert parts_of(plugged, 0, 1) == {}


def test_surroundings_may_be_told_again_and_of_a_network_that_is_not_here(plugged: FabricHost) -> None:
    before = plugged.list_names()
    for around in (Surroundings(network=RED), Surroundings(network=RED), Surroundings(network=BLUE)):
        plugged.port.ensure_surroundings(around)
    assert plugged.list_names() == before
    assert parts_of(plugged, 0, 1) == {}


def test_a_port_is_remembered_from_its_plug_to_its_unplug_whatever_becomes_of_its_link(host: FabricHost) -> None:
    plug = vif(0, RED)
    assert host.port.find_plug(plug.tap) is None
    host.port.ensure_plugged(plug)
    remembered = PlugMemory(bridge=plug.bridge, mac=plug.mac, address=plug.address)
    assert host.port.find_plug(plug.tap) == remembered
    host.ensure_foreign_link_gone(plug.tap)
    assert host.port.find_plug(plug.tap) == remembered
    host.port.ensure_unplugged(plug)
    assert host.port.find_plug(plug.tap) is None
