"""What is on a bridge."""

import pytest
from pyroute2 import IPRoute

from net.links.link import TAP
from net.links.netlink import open_netlink

MANY = 70  # more than one answer holds


@pytest.mark.real
def test_every_port_is_listed_as_it_is_and_nothing_else(host_namespace: str) -> None:
    with open_netlink() as netlink, IPRoute() as ipr:
        for name in ("br0", "br1"):
            ipr.link("add", ifname=name, kind="bridge")
        bridge, other = netlink.read_link("br0"), netlink.read_link("br1")
        assert bridge is not None
        assert other is not None
        assert netlink.list_ports(bridge) == ()
        for number in range(MANY):
            ipr.link("add", ifname=f"t{number}", kind="tuntap", mode=TAP)
            index = ipr.link_lookup(ifname=f"t{number}")[0]
            on = other if number == 0 else bridge
            ipr.link("set", index=index, master=on.index, **({"ifalias": f"port {number} é"} if number % 2 else {}))
        assert {(port.index, port.name, port.alias, port.mac) for port in netlink.list_ports(bridge)} == {
            (port["index"], port.get("ifname"), port.get("ifalias"), port.get("address"))
            for port in ipr.get_links(master=bridge.index)
        }
        assert [port.name for port in netlink.list_ports(other)] == ["t0"]
