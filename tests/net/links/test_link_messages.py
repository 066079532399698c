"""Links and addresses as we read them, against what `ip` says of them."""

import json
import subprocess
from typing import Any

import pytest
from pyroute2 import IPRoute

from net.links.link import TAP, TUN, Link
from net.links.netlink import open_netlink

MADE = (
    "link add br0 address 02:00:00:00:00:01 type bridge",
    "tuntap add tap0 mode tap",
    "tuntap add tap1 mode tap multi_queue",
    "tuntap add tun0 mode tun",
    "link add v0 type veth peer name v1",
    "link add ifb0 type ifb",
    "link add vxlan-7 type vxlan id 7 local 192.0.2.1 dstport 4789",
    "link add vxlan-8 type vxlan id 8 local fd00::1 dstport 4790",
    "link add mv0 link v0 type macvtap mode bridge",
    "link set tap0 alias whose-it-is mtu 1400 master br0 up",
    "link set br0 up",
    "addr add 10.9.0.1/24 dev br0",
    "addr add 10.9.0.2/32 dev br0 label br0:x",
    "addr add 10.8.0.1 peer 10.8.0.2/32 dev v0",
)


def ip(words: str) -> Any:
    done = subprocess.run(["ip", "-j", "-d", *words.split()], check=True, capture_output=True, timeout=30)
    return json.loads(done.stdout) if done.stdout else None


@pytest.mark.real
def test_links_and_addresses_of_every_kind_are_read_as_ip_shows_them(host_namespace: str) -> None:
    for words in MADE:
        ip(words)
    shown = ip("link show")
    names = {link["ifname"]: link["ifindex"] for link in shown}
    with IPRoute() as ipr:  # of a link that is down `ip` does not tell
        carriers = {link.get("ifname"): bool(link.get("carrier")) for link in ipr.get_links()}
    with open_netlink() as netlink:
        links, addresses = netlink.list_links(), netlink.list_addresses()
        assert [netlink.read_link(name) for name in names] == list(links)
        assert netlink.read_link("none") is None
    assert links == tuple(link_of(found, names, carrier=carriers[found["ifname"]]) for found in shown)
    assert {(held.index, str(held.interface), held.label) for held in addresses} == {
        (link["ifindex"], f"{held['local']}/{held['prefixlen']}", held["label"])
        for link in ip("-4 addr show")
        for held in link.get("addr_info", [])
    }


def link_of(shown: Any, names: dict[str, int], *, carrier: bool) -> Link:
    info = shown.get("linkinfo", {})
    kind, data = info.get("info_kind"), info.get("info_data", {})
    return Link(
        index=shown["ifindex"],
        name=shown["ifname"],
        kind=TAP if (kind, data.get("type")) == (TUN, "tap") else kind,
        alias=shown.get("ifalias"),
        mac="" if shown["link_type"] == "none" else shown["address"],
        mtu=shown["mtu"],
        master=names.get(shown.get("master", "")),
        up="UP" in shown["flags"],
        lower=names.get(shown.get("link", "")),
        segment=data.get("id"),
        tunnel_address=data.get("local") or data.get("local6"),
        carrier=carrier,
        multi_queue=bool(data.get("multi_queue")),
        discipline=shown.get("qdisc", ""),
    )
