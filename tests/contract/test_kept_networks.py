"""What a Fabric promises of what it was told, for a store that is lost (taskvisor/flow/ports.py)."""

import pytest

from taskvisor.model.ids import HostName
from taskvisor.model.network import Network, Surroundings
from tests.contract.test_fabric import BLUE, LOOP, RED, ROUTED, FabricHost, host, plugged
from tests.net.plans import member, vif

__all__ = ["host", "plugged"]


def kept(of: FabricHost) -> list[Surroundings | None]:
    return [copy.around for copy in of.port.list_kept_networks()]


def around(network: Network, *numbers: int) -> Surroundings:
    return Surroundings(network=network, members=tuple(member(number, network, host="here") for number in numbers))


@pytest.fixture
def told(plugged: FabricHost) -> FabricHost:
    """Guests 0 and 1 are on RED, and the host was told of both."""
    plugged.port.ensure_surroundings(around(RED, 0, 1))
    return plugged


def test_a_host_without_guests_keeps_nothing(host: FabricHost) -> None:
    assert host.port.list_kept_networks() == ()


def test_what_was_told_last_is_kept_until_the_last_port_goes(told: FabricHost) -> None:
    assert kept(told) == [around(RED, 0, 1)]
    told.port.ensure_surroundings(around(RED, 0, 1, 2))
    assert kept(told) == [around(RED, 0, 1, 2)]

    told.port.ensure_unplugged(vif(0, RED))
    assert kept(told) == [around(RED, 0, 1, 2)]
    told.port.ensure_unplugged(vif(1, RED))
    assert kept(told) == []


def test_a_network_without_a_port_here_is_not_kept(told: FabricHost) -> None:
    told.port.ensure_surroundings(around(BLUE, 7))
    assert kept(told) == [around(RED, 0, 1)]


def test_when_it_was_told_is_known_and_telling_the_same_again_is_no_news(told: FabricHost) -> None:
    (first,) = told.port.list_kept_networks()
    told.port.ensure_surroundings(around(RED, 0, 1))
    assert told.port.list_kept_networks() == (first,)
    assert (first.network_id, first.told_at > 1e9) == (RED.id, True)


def test_networks_of_other_kinds_are_kept_alike(host: FabricHost) -> None:
    port = vif(3, ROUTED, links=LOOP)
    host.port.ensure_plugged(port)
    try:
        host.port.ensure_surroundings(around(ROUTED, 3))
        assert kept(host) == [around(ROUTED, 3)]
    finally:
        host.port.ensure_unplugged(port)
    assert kept(host) == []


def test_who_is_a_member_is_told_with_its_host(told: FabricHost) -> None:
    (found,) = kept(told)
    assert found is not None
    assert {one.host for one in found.members} == {HostName("here")}
