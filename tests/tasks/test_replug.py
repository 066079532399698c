"""Plugs of guests that run are made whole again, what surrounds them follows the records, and hosts are told of changes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from taskvisor.model.errors import CannotAsk, Contradiction
from taskvisor.model.ids import HostName, network_id_for
from taskvisor.model.network import Network, NetworkKind
from taskvisor.model.observed import PlugPart
from taskvisor.state.counters import CounterName
from tests.support.audits import audit
from tests.support.fleet import Fleet, SimulatedHost
from tests.support.groups import make_group
from tests.support.spies import Moment, watched_ports
from virt.simulated import SimulatedHypervisor
from workers.locks import InstanceLocks

H1, H2, H3 = HostName("h1"), HostName("h2"), HostName("h3")
BLUE = Network(
    id=network_id_for("blue"),
    name="blue",
    kind=NetworkKind.VXLAN,
    cidr="10.9.0.0/24",
    gateway="10.9.0.1",
    segment=42,
    mtu=1450,
)


@pytest.fixture
def spanned(redis_url: str, memory_dir: Path) -> Iterator[Fleet]:
    """Three hosts and the network blue, which spans them; nothing on it yet."""
    fleet = Fleet(redis_url, memory_dir, hosts=("h1", "h2", "h3"))
    fleet.store.networks.ensure(BLUE)
    yield fleet
    fleet.close()


@pytest.fixture
def guest(fleet: Fleet) -> SimulatedHost:
    """The host of the guest web, which runs."""
    fleet.build()
    return fleet.hosts[H1]


def members(fleet: Fleet, host: HostName) -> dict[str, list[str]]:
    """Of each network that the host has ports of: the addresses that it was told of last."""
    told = fleet.hosts[host].neighbour.list_surroundings()
    return {one.network.name: sorted(member.addresses[0] for member in one.members) for one in told}


def hosts_told(fleet: Fleet) -> set[HostName]:
    """Those that were asked to look, and have not yet."""
    return {host for host, _ in fleet.post.told}


def recorded(fleet: Fleet, name: str = "blue") -> list[str]:
    instances = fleet.store.catalog.list_instances()
    return sorted(port.address for one in instances for port in one.ports if port.network == name)


def test_a_build_tells_its_host_what_surrounds_it(spanned: Fleet) -> None:
    spanned.build("one", host="h1", networks=["blue"])
    spanned.build("two", host="h2", networks=["blue"])
    assert members(spanned, H2) == {"blue": recorded(spanned)}


def test_hosts_that_have_ports_of_a_network_that_spans_them_are_told_of_each_new_one(spanned: Fleet) -> None:
    spanned.build("one", host="h1", networks=["blue"])
    spanned.build("two", host="h2", networks=["blue"])

    assert hosts_told(spanned) == {H1}  # its own host plugs it; h3 has no port of it
    spanned.post.deliver_told()

    assert members(spanned, H1) == {"blue": recorded(spanned)}
    assert len(recorded(spanned)) == 2


def test_hosts_are_told_of_ports_that_have_gone(spanned: Fleet) -> None:
    spanned.build("one", host="h1", networks=["blue"])
    spanned.build("two", host="h2", networks=["blue"])
    spanned.ask("instance.delete", "del", instance="two")

    spanned.post.deliver_told()

    assert members(spanned, H1) == {"blue": recorded(spanned)}
    assert len(recorded(spanned)) == 1
    assert members(spanned, H2) == {}


def test_hosts_are_told_when_a_nic_is_attached_and_when_it_is_detached(spanned: Fleet) -> None:
    for name, host in (("one", "h1"), ("two", "h2")):
        spanned.build(name, host=host, networks=["blue"])
    spanned.ask("instance.attach_interface", "attach", instance="two", interface="blue")
    spanned.post.deliver_told()
    assert len(members(spanned, H1)["blue"]) == 3

    spanned.ask("instance.detach_interface", "detach", instance="two", interface=spanned.instance("two").ports[1].mac)
    spanned.post.deliver_told()
    assert members(spanned, H1) == {"blue": recorded(spanned)}


def test_a_build_that_fails_leaves_nobody_believing_in_it(spanned: Fleet) -> None:
    spanned.build("one", host="h1", networks=["blue"])
    spanned.build("two", host="h2", networks=["blue"], image="file:///nowhere")
    spanned.post.deliver_told()
    assert members(spanned, H1) == {"blue": recorded(spanned)}
    assert len(recorded(spanned)) == 1


def test_a_port_of_a_network_that_spans_no_hosts_concerns_only_those_with_its_groups(spanned: Fleet) -> None:
    make_group(spanned, "web")
    spanned.build("one", host="h1", networks=[{"network": "default", "security_groups": ["web"]}])
    spanned.build("two", host="h2", networks=[{"network": "default", "security_groups": []}])
    spanned.post.told.clear()

    spanned.build("three", host="h3", networks=[{"network": "default", "security_groups": []}])
    assert hosts_told(spanned) == set()
    spanned.build("four", host="h3", networks=[{"network": "default", "security_groups": ["web"]}])
    assert hosts_told(spanned) == {H1}


def test_who_was_told_nothing_finds_out_at_the_periodic_look(spanned: Fleet) -> None:
    spanned.build("one", host="h1", networks=["blue"])
    spanned.build("two", host="h2", networks=["blue"])
    spanned.post.told.clear()

    assert spanned.hosts[H1].plugs.check() == 0

    assert members(spanned, H1) == {"blue": recorded(spanned)}


def test_one_network_that_is_refused_hinders_no_other(spanned: Fleet) -> None:
    spanned.build("one", host="h1", networks=["blue", "default"])
    host = spanned.hosts[H1]

    spanned.build("two", host="h2", networks=["blue"])
    calls: list[str] = []

    def on_call(name: str, moment: Moment) -> None:
        if name == "fabric.ensure_surroundings" and moment is Moment.BEFORE:
            calls.append(name)
            if len(calls) == 1:
                raise Contradiction("a link of that name is a stranger's")

    plugs = replace(host.plugs, ports=watched_ports(host.ports, on_call))
    assert (plugs.refresh(), len(calls)) == (1, 2)


@pytest.mark.parametrize("part", [PlugPart.LINK, PlugPart.DHCP])
def test_what_somebody_removed_of_a_running_guests_plug_is_made_again_and_told(
    fleet: Fleet, guest: SimulatedHost, part: PlugPart
) -> None:
    (tap,) = (link.name for link in guest.ports.fabric.list_links())
    before = guest.neighbour.list_names(), guest.ports.fabric.list_dhcp()
    if part is PlugPart.LINK:
        guest.neighbour.ensure_foreign_link_gone(tap)
    else:
        guest.neighbour.ensure_dhcp_forgotten(tap)

    assert guest.plugs.check() == 1

    assert (guest.neighbour.list_names(), guest.ports.fabric.list_dhcp()) == before
    assert guest.plugs.check() == 0
    assert fleet.store.counters.read()[CounterName.PLUGS_RESTORED.value] == 1
    last = fleet.events.read_after("0", wait_s=0.01)[-1]
    assert (last.flow, last.instance_id, last.host) == ("host.check_networks", fleet.instance().id, "h1")
    assert (last.phase, last.outcome, last.operation_id) == ("plug_restored", part.value, "")


@pytest.mark.parametrize("part", [PlugPart.FILTER, PlugPart.GUEST])
def test_flushed_filters_and_a_link_taken_from_its_guest_are_restored(
    fleet: Fleet, guest: SimulatedHost, part: PlugPart
) -> None:
    before = guest.outsider.list_nics(fleet.instance().id)
    guest.neighbour.ensure_lost(_tap(guest), part)

    assert guest.plugs.check() == 1

    assert guest.plugs.check() == 0
    assert guest.outsider.list_nics(fleet.instance().id) == before
    assert audit(fleet) == ()


def test_a_guest_that_does_not_let_go_of_a_dead_nic_keeps_it_and_is_asked_at_each_look(
    fleet: Fleet, guest: SimulatedHost
) -> None:
    web = fleet.instance().id
    guest.neighbour.ensure_lost(_tap(guest), PlugPart.GUEST)
    deaf = replace(guest.plugs, ports=replace(guest.ports, hypervisor=SimulatedHypervisor(guest.root, deaf=(web,))))

    assert deaf.check() == 0

    assert guest.outsider.list_nics(web) == (fleet.instance().ports[0].mac,)
    assert audit(fleet) == ()
    guest.neighbour.ensure_lost(_tap(guest), PlugPart.GUEST, PlugPart.FILTER)
    assert deaf.check() == 1  # its filters were restored
    assert fleet.events.read_after("0", wait_s=0.01)[-1].outcome == "filter"


def test_a_guest_that_is_off_is_left_as_it_is(fleet: Fleet, guest: SimulatedHost) -> None:
    fleet.ask("instance.stop", "stop", instance="web", timeout_s=0)
    _remove_tap(guest)
    assert guest.plugs.check() == 0
    assert guest.ports.fabric.list_links() == ()


def test_a_guest_that_an_operation_holds_is_left_to_it(fleet: Fleet, guest: SimulatedHost) -> None:
    fleet.begin("instance.snapshot", "snap", instance="web", image="gold")
    _remove_tap(guest)
    assert guest.plugs.check() == 0
    fleet.post.deliver_all()
    assert guest.plugs.check() == 1


def test_a_guest_whose_lock_is_held_is_left_for_the_next_look(fleet: Fleet, guest: SimulatedHost) -> None:
    _remove_tap(guest)
    with InstanceLocks(guest.root / "locks").hold(fleet.instance().id) as held:
        assert held
        assert guest.plugs.check() == 0
    assert guest.plugs.check() == 1


def test_a_link_of_a_strangers_in_its_place_is_left_alone_and_others_are_restored(
    fleet: Fleet, guest: SimulatedHost
) -> None:
    fleet.build("other")
    taps = {link.owner.split(":")[1]: link.name for link in guest.ports.fabric.list_links()}
    for tap in taps.values():
        guest.neighbour.ensure_foreign_link_gone(tap)
    stranger = taps[fleet.instance("web").id]
    guest.neighbour.ensure_foreign_link(stranger)

    assert guest.plugs.check() == 1

    assert {link.name for link in guest.ports.fabric.list_links()} == set(taps.values()) - {stranger}


def test_a_host_that_cannot_be_asked_is_never_taken_for_one_without_plugs(fleet: Fleet, guest: SimulatedHost) -> None:
    del fleet
    links = guest.root / "links"
    links.rename(guest.root / "away")
    with pytest.raises(CannotAsk):
        guest.plugs.check()
    (guest.root / "away").rename(links)
    assert guest.plugs.check() == 0


def _tap(host: SimulatedHost) -> str:
    (link,) = host.ports.fabric.list_links()
    return link.name


def _remove_tap(host: SimulatedHost) -> None:
    for link in host.ports.fabric.list_links():
        host.neighbour.ensure_foreign_link_gone(link.name)
