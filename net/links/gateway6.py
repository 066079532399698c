"""A bridge that holds its network's IPv6 gateway: just that, and the link-local address that advertisements are sent from.

The host configures nothing from what guests send there: it takes no advertisement and makes no address of one. It looks for no
duplicate either (RFC 4862 §5.4): on a network with tunnels every host's bridge has the same addresses and MAC, on purpose.
Source: the kernel's Documentation/networking/ip-sysctl.rst.
"""

from ipaddress import IPv6Interface

from net.links.link import Link
from net.links.netlink import Netlink
from net.links.sysctl import ROOT, ensure_sysctl
from taskvisor.model.errors import DoesNotFit

SWITCHES = (
    ("accept_ra", "0"),
    ("autoconf", "0"),
    ("accept_dad", "0"),
    ("addr_gen_mode", "0"),  # the link-local address follows from the MAC (EUI-64)
    ("disable_ipv6", "0"),  # last: what was said before holds from its first moment
)


def ensure_gateway6(netlink: Netlink, bridge: Link, gateway: IPv6Interface) -> None:
    """The bridge speaks IPv6 and holds the address.

    DoesNotFit when this kernel has no IPv6, or another link of this host has an address in the network.
    """
    if not (ROOT / "ipv6").exists():
        raise DoesNotFit(
            f"{gateway} can't be on bridge {bridge.name}: this host's kernel has no IPv6; boot it without ipv6.disable=1, or use "
            "another host, or a network without cidr6"
        )
    held = netlink.list_addresses6()
    for other in held:
        if other.index != bridge.index and other.interface.ip in gateway.network:
            raise DoesNotFit(
                f"{gateway.network} can't be on bridge {bridge.name}: another link of this host has {other.interface} in it; "
                "choose another cidr6 for the network, or another host"
            )
    for name, value in SWITCHES:
        ensure_sysctl(f"ipv6/conf/{bridge.name}/{name}", value)
    if not any(other.index == bridge.index and other.interface == gateway for other in held):
        netlink.ensure_address6(bridge, gateway)
