"""Networks on a VLAN. This kernel has no 8021q: what is sent is compared with what `ip` sends, and its refusal is seen."""

import struct
from dataclasses import replace
from typing import Any

import pytest
from pyroute2 import IPBatch
from pyroute2.netlink.exceptions import NetlinkError

from net.kinds import vlan_name_for
from net.links.link import VLAN, Link
from net.links.netlink import Netlink
from net.plan import joint_mac_for, network_owner_for
from net.segments.vlan import VlanJoint
from taskvisor.model.errors import Contradiction, DoesNotFit
from taskvisor.model.network import HostLinks, Network, NetworkKind
from taskvisor.model.plan import VifPlan
from tests.net.lan import LanHost
from tests.net.plans import network, vif

LINKS = HostLinks(uplinks={"lan": "eth0"})
UPLINK = Link(index=2, name="eth0", kind=None, alias=None, mac="02:00:00:00:00:01", mtu=1500, master=None, up=True)
BRIDGE = replace(UPLINK, index=3, name="brq", kind="bridge")


def vlan(segment: int = 42) -> Network:
    return replace(network(9, dhcp=False), kind=NetworkKind.VLAN, physical="lan", segment=segment)


def nic(segment: int = 42) -> VifPlan:
    return vif(0, vlan(segment), LINKS)


class Recorded:
    """A kernel with 8021q, as far as these links go: it keeps links, and every request as it came."""

    def __init__(self, *links: Link) -> None:
        self.links = {link.name: link for link in links}
        self.requests: list[dict[str, Any]] = []

    def link(self, verb: str, **request: Any) -> Any:
        if verb == "get":
            return [_message_of(self.links[request["ifname"]])] if request["ifname"] in self.links else _no_device()
        self.requests.append({"verb": verb, **request})
        if verb == "add":
            self.links[request["ifname"]] = replace(
                UPLINK,
                index=9,
                name=request["ifname"],
                kind=VLAN,
                mac=request["address"],
                segment=request["vlan_id"],
                up=False,
            )
        return []

    def get_links(self) -> Any:
        return [_message_of(link) for link in self.links.values()]


def test_the_requests_are_those_of_ip_link_add_type_vlan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("net.segments.owned_joint.ensure_no_ipv6", lambda _: None)
    kernel = Recorded(UPLINK, BRIDGE)
    VlanJoint().ensure(Netlink(kernel), nic(), BRIDGE)
    name, mac = "eth0.42", joint_mac_for(vlan().id)
    assert kernel.requests == [
        {"verb": "add", "ifname": name, "kind": "vlan", "link": 2, "vlan_id": 42, "address": mac},
        {"verb": "set", "index": 9, "ifalias": network_owner_for(vlan().id)},
        {"verb": "set", "index": 9, "mtu": 1450},
        {"verb": "set", "index": 9, "master": 3},
        {"verb": "set", "index": 9, "state": "up"},
    ]


def test_the_message_holds_what_the_kernel_reads_of_a_vlan() -> None:
    batch = IPBatch()  # pyroute2's own recording: it sends nothing
    Netlink(batch).ensure_vlan_exists("eth0.42", mac="02:00:00:00:00:09", lower=UPLINK, segment=42)
    sent = bytes(batch.batch)
    batch.close()
    attributes = {
        "IFLA_LINK": struct.pack("=HHI", 8, 5, 2),
        "IFLA_INFO_KIND": struct.pack("=HH", 9, 1) + b"vlan\0",
        "IFLA_VLAN_ID": struct.pack("=HHH", 6, 1, 42),
        "IFLA_IFNAME": struct.pack("=HH", 12, 3) + b"eth0.42\0",
        "IFLA_ADDRESS": struct.pack("=HH", 10, 1) + bytes.fromhex("020000000009"),
    }  # linux/if_link.h
    assert [name for name, raw in attributes.items() if raw not in sent] == []


@pytest.mark.real
def test_a_kernel_without_vlans_does_not_fit_and_what_was_plugged_is_unplugged(lan: tuple[LanHost, ...]) -> None:
    host = lan[0]
    with pytest.raises(
        DoesNotFit, match=r"can't make VLAN link eth0\.42 on eth0: this kernel can't .* load its module"
    ):
        host.plug(nic())
    host.unplug(nic())


def test_a_strangers_link_of_that_name_is_left_alone() -> None:
    theirs = replace(UPLINK, index=9, name="eth0.42", kind=VLAN, segment=42)
    kernel = Recorded(UPLINK, BRIDGE, theirs)
    with pytest.raises(Contradiction, match=r"eth0\.42 \(vlan, alias none\) is not the vlan of network"):
        VlanJoint().ensure(Netlink(kernel), nic(), BRIDGE)
    VlanJoint().ensure_absent(Netlink(kernel), nic())
    assert kernel.requests == []


def test_ours_is_removed_whatever_the_host_calls_its_interface_by_now() -> None:
    ours = replace(UPLINK, index=9, name="eth0.42", kind=VLAN, segment=42, alias=network_owner_for(vlan().id))
    kernel = Recorded(UPLINK, BRIDGE, ours)
    VlanJoint().ensure_absent(Netlink(kernel), replace(nic(), uplink=None))
    assert kernel.requests == [{"verb": "del", "index": 9}]


@pytest.mark.parametrize(
    ("uplink", "segment", "name"),
    [
        ("eth0", 7, "eth0.7"),
        ("enp65s0f0n", 4094, "enp65s0f0n.4094"),
        ("enp65s0f0np", 4094, "enp65b4886.4094"),
        ("enp65s0f0np", 7, "enp65b4886.7"),
    ],
)
def test_names_are_those_of_neutron(uplink: str, segment: int, name: str) -> None:
    assert vlan_name_for(uplink, segment) == name
    assert len(name) <= 15


def _no_device() -> Any:

    raise NetlinkError(19)


class _Attributes(dict[str, Any]):
    def get_attr(self, name: str) -> Any:
        return self.get(name)


def _message_of(link: Link) -> Any:
    info = _Attributes(IFLA_INFO_KIND=link.kind, IFLA_INFO_DATA=_Attributes(IFLA_VLAN_ID=link.segment))
    return _Attributes(
        index=link.index,
        flags=1 if link.up else 0,
        IFLA_IFNAME=link.name,
        IFLA_LINKINFO=info,
        IFLA_IFALIAS=link.alias,
        IFLA_ADDRESS=link.mac,
        IFLA_MTU=link.mtu,
        IFLA_MASTER=link.master,
    )
