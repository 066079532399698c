"""IPv6 for a network's guests: dnsmasq's arguments for router advertisements (RFC 4861, RFC 8106) and DHCPv6 (RFC 8415). Pure.

Advertised where our bridge holds the IPv6 gateway; elsewhere that segment's router does it. Where each TAP is a link of its own
(`routed`) nobody does: dnsmasq would advertise a prefix on one of the links that have it, and on the others answer only who asks
(its radv.c, iface_search), so that other guests' default routes would run out. Those guests are told by their seed. The
advertised router lifetime is 0: addresses are not translated for IPv6 and no route leads out of the bridge, so guests reach their
network, its DNS and each other, and must not take us for their way to anywhere else.
"""

from ipaddress import IPv6Network

from net.services.dhcp_options import of_family
from net.services.site import Site
from taskvisor.model.network import Ipv6Mode
from taskvisor.model.plan import VifPlan

LEASE_TIME_S = 600
"""Short: a lease is a DUID's, and a guest that is rebuilt has another; until the old one ends its address is not given out."""
PREFIX_TIME_S = 86400
INTERVAL_DEFAULT = 0
NO_ROUTER_S = 0


def ipv6_arguments_for(vif: VifPlan, site: Site) -> tuple[str, ...]:
    """None for a network without IPv6, or whose IPv6 router is elsewhere."""
    if vif.cidr6 is None or vif.gateway6 is None or site.on_link or site.interface is None:
        return ()
    return (
        "--enable-ra",
        f"--ra-param={site.interface},mtu:{vif.mtu},{INTERVAL_DEFAULT},{NO_ROUTER_S}",
        f"--dhcp-range={_range(IPv6Network(vif.cidr6), vif.ipv6_mode)}",
        *_servers("option6:dns-server", of_family(vif.dns, 6) if vif.dns else (vif.gateway6,)),
        *_servers("option6:ntp-server", of_family(vif.ntp, 6)),
    )


def _range(cidr: IPv6Network, mode: Ipv6Mode) -> str:
    first, length = cidr.network_address, cidr.prefixlen
    if mode is Ipv6Mode.SLAAC:
        return f"{first},ra-only,{length},{PREFIX_TIME_S}"
    return f"{first},static,{length},{LEASE_TIME_S}"  # known MACs only, as for IPv4


def _servers(option: str, addresses: tuple[str, ...]) -> tuple[str, ...]:
    named = ",".join(f"[{address}]" for address in addresses)
    return (f"--dhcp-option={option},{named}",) if addresses else ()
