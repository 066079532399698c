"""The store's parts under one name, and the network that needs no configuration."""

import pytest

from tasks.store import RememberedNetworks, default_network_for
from taskvisor.model.errors import Refused
from taskvisor.model.ids import network_id_for
from taskvisor.model.network import Network, NetworkKind
from tests.support.fleet import Fleet


def test_the_default_network_is_made_at_first_use_and_stays(fleet: Fleet) -> None:
    made = fleet.store.find_network("default")

    assert made == default_network_for("10.152.0.0/16")
    assert fleet.store.find_network("default") == made
    assert fleet.store.catalog.list_networks() == (made,)


def test_the_default_network_is_local_to_each_host_and_translated() -> None:
    assert default_network_for("192.168.7.0/24") == Network(
        id=network_id_for("default"),
        name="default",
        kind=NetworkKind.NAT,
        cidr="192.168.7.0/24",
        gateway="192.168.7.1",
        nat=True,
        dhcp=True,
    )


def test_no_other_network_is_made_by_asking_for_it(fleet: Fleet) -> None:
    with pytest.raises(Refused, match="networks: 'lab': there is no such network"):
        fleet.store.find_network("lab")


def test_a_networks_record_is_read_once(fleet: Fleet) -> None:
    network = fleet.store.find_network("default")
    remembered = RememberedNetworks(fleet.store.catalog, fleet.store.surroundings)

    assert remembered.read_network(network.id) == network
    fleet.client.flushdb()
    assert remembered.read_network(network.id) == network
