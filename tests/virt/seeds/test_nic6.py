"""What seeds say of IPv6, and what Debian's own cloud-init makes of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskvisor.model.network import Ipv6Mode, NetworkKind
from taskvisor.model.plan import VifPlan
from tests.fixtures.debian import CloudInit
from tests.virt.sample_guests import INSTANCE, vif_of
from tests.virt.seeds.test_read import rendered
from virt.seeds.config_drive import config_drive_for
from virt.seeds.nocloud import seed_for

PORT = INSTANCE.ports[0]


def nic(*, dhcp: bool = True, mode: Ipv6Mode = Ipv6Mode.SLAAC, kind: NetworkKind = NetworkKind.NAT) -> VifPlan:
    """The guest's first NIC, on a network with IPv6."""
    return replace(
        vif_of(PORT, dhcp=dhcp),
        address6="fd00:9::5",
        cidr6="fd00:9::/64",
        gateway6="fd00:9::1",
        ipv6_mode=mode,
        kind=kind,
    )


def nocloud_of(vif: VifPlan) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(seed_for(INSTANCE, [vif]).network_config)["ethernets"]["nic0"]
    return found


def networks_of(vif: VifPlan) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(config_drive_for(INSTANCE, [vif]).network_data)["networks"]
    return found


def test_with_slaac_nocloud_says_nothing_and_network_data_that_it_is_so() -> None:
    assert nocloud_of(nic()) == nocloud_of(vif_of(PORT))
    assert [network["type"] for network in networks_of(nic())] == ["ipv4_dhcp", "ipv6_slaac"]


def test_with_dhcpv6_the_guest_is_told_to_ask() -> None:
    stateful = nic(mode=Ipv6Mode.DHCPV6)
    assert nocloud_of(stateful) == {**nocloud_of(vif_of(PORT)), "dhcp6": True}
    assert [network["type"] for network in networks_of(stateful)] == ["ipv4_dhcp", "ipv6_dhcp"]


def test_on_a_routed_network_dhcp_tells_the_one_address_and_the_seed_the_other() -> None:
    on_tap = nic(kind=NetworkKind.ROUTED, mode=Ipv6Mode.DHCPV6)
    assert nocloud_of(on_tap) == {
        **nocloud_of(vif_of(PORT)),
        "addresses": ["fd00:9::5/64"],
        "routes": [{"to": "::/0", "via": "fd00:9::1"}],
    }
    assert [network["type"] for network in networks_of(on_tap)] == ["ipv4_dhcp", "ipv6"]


def test_without_dhcp_the_address_is_told_and_a_router_only_where_it_leads_out() -> None:
    local, outer = nic(dhcp=False), nic(dhcp=False, kind=NetworkKind.MACVTAP)
    assert nocloud_of(local)["addresses"] == ["10.0.0.5/24", "fd00:9::5/64"]
    assert [route["to"] for route in nocloud_of(local)["routes"]] == ["0.0.0.0/0"]
    assert nocloud_of(outer)["routes"][1:] == [{"to": "::/0", "via": "fd00:9::1"}]
    assert networks_of(outer)[1] == {
        "id": "network0-ipv6",
        "link": outer.tap,
        "network_id": outer.network_id,
        "type": "ipv6",
        "ip_address": "fd00:9::5",
        "netmask": "ffff:ffff:ffff:ffff::",
        "routes": [{"network": "::", "netmask": "::", "gateway": "fd00:9::1"}],
    }
    assert networks_of(local)[1]["routes"] == []


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("how", ["netplan", "networkd", "eni", "sysconfig"])
@pytest.mark.parametrize("kind", ["yaml", "network_data.json"])
@pytest.mark.parametrize(
    ("vif", "words"),
    [
        (nic(dhcp=False, kind=NetworkKind.MACVTAP), ("fd00:9::5/64", "fd00:9::1")),
        (nic(mode=Ipv6Mode.DHCPV6), ("dhcp6: true", "DHCP=yes", "inet6 dhcp", "IPV6_AUTOCONF=no", "DHCPV6C=yes")),
    ],
    ids=["static", "dhcpv6"],
)
def test_every_renderer_makes_a_network_of_it(
    cloud_init: CloudInit, tmp_path: Path, kind: str, how: str, vif: VifPlan, words: tuple[str, ...]
) -> None:
    source = tmp_path / "source"
    source.write_text(
        seed_for(INSTANCE, [vif]).network_config if kind == "yaml" else config_drive_for(INSTANCE, [vif]).network_data
    )
    distro = "rhel" if how == "sysconfig" else "debian"
    everything = "\n".join(rendered(cloud_init, source, kind, how, distro, tmp_path / "out").values())
    assert any(word in everything for word in words), everything
