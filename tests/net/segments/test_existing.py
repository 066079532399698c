"""Ports on a bridge that the operator made."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from taskvisor.model.errors import DoesNotFit
from taskvisor.model.network import Network, NetworkKind
from tests.net.lan import LanHost, guest_at, no_link_is_touched, open_lan
from tests.net.plans import network, open_vif

pytestmark = pytest.mark.real

BRIDGE = "br-lan"


@pytest.fixture
def host(tmp_state_dir: Path) -> Iterator[LanHost]:
    """A host with a bridge that has an address, and eth0 on it."""
    with open_lan(tmp_state_dir, 1, with_addresses=False) as (host,):
        host.ask("ip", "link", "add", BRIDGE, "type", "bridge", "stp_state", "0")
        host.ask("ip", "link", "set", "eth0", "master", BRIDGE)
        host.ask("ip", "link", "set", BRIDGE, "up")
        host.ask("ip", "addr", "add", "10.9.0.1/24", "dev", BRIDGE)
        yield host


def existing(bridge: str = BRIDGE, *, mtu: int = 1500) -> Network:
    return replace(network(9, dhcp=False, mtu=mtu), kind=NetworkKind.EXISTING, bridge=bridge)


def test_guests_are_on_the_operators_bridge(host: LanHost) -> None:
    nics = [open_vif(number, existing()) for number in (0, 1)]
    for nic in nics:
        host.plug(nic)
    tag = host.namespace[:6]
    with guest_at(host, nics[0], f"{tag}g0") as guest, guest_at(host, nics[1], f"{tag}g1"):
        assert guest.reaches(nics[1].address)
        assert guest.reaches("10.9.0.1")
    for nic in nics:
        host.unplug(nic)


def test_the_bridge_is_neither_changed_nor_removed_nor_filtered(host: LanHost) -> None:
    before, nic = _seen(host), open_vif(0, existing())
    host.plug(nic)
    host.plug(nic)
    host.unplug(nic)
    host.unplug(nic)
    assert _seen(host) == before


@pytest.mark.parametrize(
    ("bridge", "sentence"),
    [("br-none", "there is no bridge br-none on this host; make it"), ("eth0", "eth0 of this host is no Linux bridge")],
)
def test_what_is_no_bridge_does_not_fit_no_link_is_touched_and_a_port_is_unplugged_all_the_same(
    host: LanHost, tmp_path: Path, bridge: str, sentence: str
) -> None:
    nic = open_vif(0, existing(bridge))
    with no_link_is_touched(host.namespace, tmp_path), pytest.raises(DoesNotFit, match=sentence):
        host.plug(nic)
    host.unplug(nic)


def test_a_bridge_whose_mtu_is_less_than_the_networks_does_not_fit(host: LanHost) -> None:
    nic = open_vif(0, existing(mtu=9000))
    with pytest.raises(DoesNotFit, match="an MTU of 9000, bridge br-lan of this host 1500"):
        host.plug(nic)
    host.unplug(nic)


def _seen(host: LanHost) -> str:
    links = host.ask("ip", "-o", "addr", "show", BRIDGE)
    return links + host.ask("bridge", "link") + host.ask("nft", "list", "ruleset")
