"""Networks onto a physical interface, as it is: hosts on a switch, whose eth0 has no addresses."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from taskvisor.model.errors import DoesNotFit
from taskvisor.model.network import HostLinks, Network, NetworkKind
from tests.net.lan import LanHost, guest_at, no_link_is_touched, open_lan
from tests.net.plans import network, open_vif

pytestmark = pytest.mark.real


@pytest.fixture
def bare(tmp_state_dir: Path) -> Iterator[tuple[LanHost, ...]]:
    """Two hosts whose eth0 has no address."""
    with open_lan(tmp_state_dir, 2, with_addresses=False) as hosts:
        yield hosts


def flat(number: int = 9, *, mtu: int = 1500) -> Network:
    return replace(network(number, dhcp=False, mtu=mtu), kind=NetworkKind.FLAT, physical="lan")


def test_guests_of_two_hosts_reach_each_other_with_full_frames(bare: tuple[LanHost, ...]) -> None:
    on, (one, two) = flat(), bare
    first, second = open_vif(0, on, one.links), open_vif(1, on, two.links)
    one.plug(first)
    two.plug(second)
    tag = one.namespace[:6]
    with guest_at(one, first, f"{tag}g0") as guest, guest_at(two, second, f"{tag}g1"):
        assert guest.reaches(second.address, payload_bytes=1472)
    one.unplug(first)
    two.unplug(second)


def test_the_interface_is_lent_and_given_back_as_it_was(bare: tuple[LanHost, ...]) -> None:
    host, on = bare[0], flat()
    before = _eth0(host)
    nics = [open_vif(number, on, host.links) for number in (0, 1)]
    for nic in nics:
        host.plug(nic)
        host.plug(nic)
    assert _eth0(host)["master"] == nics[0].bridge
    assert host.ask("ip", "-4", "-o", "addr", "show", nics[0].bridge) == "", "the gateway is somebody else's"
    host.unplug(nics[0])
    assert _eth0(host)["master"] == nics[0].bridge
    host.unplug(nics[1])
    host.unplug(nics[1])
    assert _eth0(host) == before
    assert {link["ifname"] for link in json.loads(host.ask("ip", "-j", "link"))} == {"lo", "eth0"}


def test_an_interface_with_addresses_is_not_taken(bare: tuple[LanHost, ...]) -> None:
    host = bare[0]
    host.ask("ip", "addr", "add", "192.0.2.1/24", "dev", "eth0")
    host.ask("ip", "addr", "add", "fd00:2::1/64", "dev", "eth0", "nodad")
    before = _eth0(host)
    with pytest.raises(DoesNotFit, match=r"eth0 of this host has 192\.0\.2\.1/24, fd00:2::1/64.*kind existing"):
        host.plug(open_vif(0, flat(), host.links))
    host.unplug(open_vif(0, flat(), host.links))
    assert _eth0(host) == before


def test_an_interface_on_another_bridge_is_not_taken(bare: tuple[LanHost, ...]) -> None:
    host = bare[0]
    host.ask("ip", "link", "add", "theirs", "type", "bridge")
    host.ask("ip", "link", "set", "eth0", "master", "theirs")
    with pytest.raises(DoesNotFit, match="eth0 of this host is on theirs already"):
        host.plug(open_vif(0, flat(), host.links))
    host.unplug(open_vif(0, flat(), host.links))
    assert _eth0(host)["master"] == "theirs"


def test_a_second_flat_network_on_the_interface_does_not_fit(bare: tuple[LanHost, ...]) -> None:
    host = bare[0]
    first, second = open_vif(0, flat(9), host.links), open_vif(0, flat(8), host.links)
    host.plug(first)
    with pytest.raises(DoesNotFit, match=f"is on {first.bridge} already"):
        host.plug(second)
    host.unplug(second)
    assert _eth0(host)["master"] == first.bridge
    host.unplug(first)


@pytest.mark.parametrize(
    ("links", "mtu", "sentence"),
    [
        (HostLinks(), 1500, "TASKVISOR_PHYSICAL_NETWORKS"),
        (HostLinks(uplinks={"lan": "eth7"}), 1500, "no interface eth7 on this host"),
        (HostLinks(uplinks={"lan": "eth0"}), 9000, "an MTU of 9000, interface eth0 of this host 1500"),
    ],
)
def test_a_host_that_lacks_the_interface_does_not_fit_and_no_link_is_touched(
    bare: tuple[LanHost, ...], tmp_path: Path, links: HostLinks, mtu: int, sentence: str
) -> None:
    nic = open_vif(0, flat(mtu=mtu), links)
    with no_link_is_touched(bare[0].namespace, tmp_path), pytest.raises(DoesNotFit, match=sentence):
        bare[0].plug(nic)
    bare[0].unplug(nic)


def _eth0(host: LanHost) -> dict[str, object]:
    """What `ip` says of the interface, but for what it counts."""
    (said,) = json.loads(host.ask("ip", "-d", "-j", "addr", "show", "eth0"))
    for held in said["addr_info"]:
        held.pop("tentative", None)  # for a second or so of a new link's life
    return {key: value for key, value in said.items() if key not in ("promiscuity", "allmulti")}
