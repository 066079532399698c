"""Ports straight on a physical interface."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from taskvisor.model.errors import Contradiction, DoesNotFit
from taskvisor.model.network import HostLinks, Network, NetworkKind
from taskvisor.model.observed import LinkFacts
from tests.net.lan import LanHost
from tests.net.plans import network, vif

pytestmark = pytest.mark.real

Lan = tuple[LanHost, ...]


def macvtap(*, mtu: int = 1500) -> Network:
    return replace(network(9, mtu=mtu), kind=NetworkKind.MACVTAP, physical="lan")


def test_a_port_is_a_macvtap_of_ours_with_the_guests_mac(lan: Lan) -> None:
    host = lan[0]
    nic = vif(0, macvtap(), host.links)
    for _ in range(2):
        host.plug(nic)
    (seen,) = json.loads(host.ask("ip", "-d", "-j", "link", "show", nic.tap))
    assert (seen["link"], seen["address"], seen["ifalias"], seen["mtu"]) == ("eth0", nic.mac, nic.owner, 1500)
    assert seen["linkinfo"] == {"info_kind": "macvtap", "info_data": {"mode": "bridge", **_rest(seen)}}
    assert "UP" in seen["flags"]
    assert host.run(host.fabric.list_links) == (LinkFacts(name=nic.tap, owner=nic.owner),)
    host.unplug(nic)
    host.unplug(nic)
    assert {link["ifname"] for link in json.loads(host.ask("ip", "-j", "link"))} == {"lo", "eth0"}


def test_guests_are_told_their_addresses_by_their_seed(lan: Lan) -> None:
    assert macvtap().dhcp
    assert not vif(0, macvtap(), lan[0].links).dhcp


def test_a_half_made_one_is_known_by_its_mac_and_a_strangers_is_left_alone(lan: Lan) -> None:
    host = lan[0]
    nic = vif(0, macvtap(), host.links)
    with _made(host, nic.tap, nic.mac):
        host.plug(nic)
        host.unplug(nic)
    with _made(host, nic.tap, "02:00:00:00:00:77"):
        before = host.ask("ip", "-j", "link", "show", nic.tap)
        for act in (host.plug, host.unplug):
            with pytest.raises(Contradiction, match="left alone"):
                act(nic)
        assert host.ask("ip", "-j", "link", "show", nic.tap) == before


def test_an_interface_that_is_missing_or_on_a_bridge_or_changed_is_said(lan: Lan) -> None:
    host = lan[0]
    with pytest.raises(DoesNotFit, match="no interface eth7"):
        host.plug(vif(0, macvtap(), HostLinks(uplinks={"lan": "eth7"})))
    nic = vif(0, macvtap(), host.links)
    host.plug(nic)
    host.ask("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth2")
    with pytest.raises(Contradiction, match="stands on another interface than eth1"):
        host.plug(vif(0, macvtap(), HostLinks(uplinks={"lan": "eth1"})))
    host.unplug(nic)
    assert nic.tap not in host.ask("ip", "link")
    host.ask("ip", "link", "add", "theirs", "type", "bridge")
    host.ask("ip", "link", "set", "eth0", "master", "theirs")
    with pytest.raises(DoesNotFit, match="eth0 of this host is on a bridge"):
        host.plug(nic)
    host.unplug(nic)


def test_a_network_with_a_larger_mtu_than_the_interface_does_not_fit(lan: Lan) -> None:
    with pytest.raises(DoesNotFit, match="an MTU of 9000, interface eth0 of this host 1500"):
        lan[0].plug(vif(0, macvtap(mtu=9000), lan[0].links))


def _rest(seen: dict[str, dict[str, dict[str, object]]]) -> dict[str, object]:
    return {key: value for key, value in seen["linkinfo"]["info_data"].items() if key != "mode"}


@contextmanager
def _made(host: LanHost, name: str, mac: str) -> Iterator[None]:
    host.ask("ip", "link", "add", "link", "eth0", "name", name, "address", mac, "type", "macvtap", "mode", "bridge")
    yield
    if name in host.ask("ip", "link"):
        host.ask("ip", "link", "del", name)
    assert not Path(f"/sys/class/net/{name}").exists()
