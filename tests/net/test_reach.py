"""What a host is told of the guests of others: pure."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from net.links.link import VXLAN, Link
from net.links.neighbours import ANY_MAC, Neighbour, Table
from net.reach import changes_for, entries_for
from taskvisor.model.ids import HostName
from taskvisor.model.network import NetworkKind, Surroundings
from tests.net.plans import member, network

TUNNEL = Link(
    index=7, name="vxlan-1", kind=VXLAN, alias=None, mac="", mtu=1450, master=8, up=True, tunnel_address="192.0.2.1"
)
BRIDGE = replace(TUNNEL, index=8, name="brq", kind="bridge", master=None, tunnel_address=None)
ON = replace(network(), kind=NetworkKind.VXLAN, segment=1)
ENDS = {HostName("h1"): "192.0.2.1", HostName("h2"): "192.0.2.2", HostName("h6"): "fd00::6"}
V4 = frozenset({4})


def test_a_guest_elsewhere_is_behind_its_host_and_one_here_is_only_known_by_address() -> None:
    here, there = member(0, ON, "h1"), member(1, ON, "h2")
    assert entries_for(
        Surroundings(network=ON, members=(here, there), tunnels=ENDS), tunnel=TUNNEL, bridge=BRIDGE, families=V4
    ) == {
        Neighbour(table=Table.TUNNEL, index=7, mac=ANY_MAC, destination="192.0.2.2"),
        Neighbour(table=Table.TUNNEL, index=7, mac=there.mac, destination="192.0.2.2"),
        Neighbour(table=Table.BRIDGE, index=7, mac=there.mac),
        Neighbour(table=Table.ADDRESS, index=8, mac=here.mac, destination="10.9.0.10"),
        Neighbour(table=Table.ADDRESS, index=8, mac=there.mac, destination="10.9.0.11"),
    }


def test_hosts_that_cannot_be_reached_and_addresses_that_cannot_be_held_have_no_entries() -> None:
    lost, six = member(0, ON, "h9"), replace(member(1, ON, "h6"), addresses=("fd00:9::1",))
    around = Surroundings(network=ON, members=(lost, six), tunnels=ENDS)
    entries = entries_for(around, tunnel=TUNNEL, bridge=BRIDGE, families=V4)
    assert entries == {Neighbour(table=Table.ADDRESS, index=8, mac=lost.mac, destination="10.9.0.10")}
    both = entries_for(around, tunnel=TUNNEL, bridge=BRIDGE, families=frozenset({4, 6}))
    assert both - entries == {Neighbour(table=Table.ADDRESS, index=8, mac=six.mac, destination="fd00:9::1")}


macs = st.sampled_from(["02:00:00:00:00:01", "02:00:00:00:00:02", ANY_MAC])
ends = st.sampled_from(["192.0.2.2", "192.0.2.3"])
neighbours = st.builds(Neighbour, table=st.sampled_from(Table), index=st.just(7), mac=macs, destination=ends)


@given(st.lists(neighbours), st.lists(neighbours))
def test_the_changes_lead_from_what_is_there_to_what_is_wanted(before: list[Neighbour], after: list[Neighbour]) -> None:
    present = {entry.key: entry for entry in before}  # a kernel has one entry of a key
    wanted = {entry.key: entry for entry in after}
    removed, added = changes_for(present.values(), wanted.values())
    for entry in added:
        present[entry.key] = entry
    for entry in removed:
        del present[entry.key]
    assert present == wanted
    assert changes_for(present.values(), wanted.values()) == ((), ())
