"""A network's bridge on this host: made, owned, addressed, removed when nothing is on it. Knows nothing of what is on it.

Linux can't give a bridge its alias in the message that makes it (the kernel's rtnl_create_link does not read
IFLA_IFALIAS), so a process may die between the two. The MAC, which is derived from the network's id, *is* part of that
message: a bridge of our name and our MAC that has no alias is one of ours, half made.
"""

import structlog

from net.links.gateway6 import ensure_gateway6
from net.links.link import BRIDGE, Link
from net.links.netlink import Netlink
from net.links.sysctl import ensure_no_ipv6, ensure_sysctl
from net.plan import BridgePlan
from taskvisor.model.errors import Contradiction, DoesNotFit, Retryable

log = structlog.get_logger(__name__)


def ensure_bridge(netlink: Netlink, plan: BridgePlan) -> Link:
    """The bridge exists, is ours, has its MAC, MTU and gateway addresses, speaks IPv6 only where it is a gateway, and is up.

    Contradiction when a link of that name is another's or no bridge; it is left alone. DoesNotFit when another link
    of this host has an address in the network: its routes would fight with the bridge's.
    """
    link = netlink.read_link(plan.name) or _make_bridge(netlink, plan)
    if not _is_ours(link, plan):
        raise Contradiction(
            f"link {plan.name} ({link.kind}, alias {link.alias or 'none'}) is not the bridge of {plan.owner} and was left "
            "alone; rename or remove it, then retry"
        )
    netlink.ensure_alias(link, plan.owner)
    netlink.ensure_mac(link, plan.mac)
    netlink.ensure_mtu(link, plan.mtu)
    if plan.gateway6 is None:
        ensure_no_ipv6(plan.name)
    # Answer ARP only for addresses of this very bridge: a guest must not learn the host's other addresses from it.
    ensure_sysctl(f"ipv4/conf/{plan.name}/arp_ignore", "1")
    _ensure_gateway(netlink, link, plan)
    if plan.gateway6 is not None:
        ensure_gateway6(netlink, link, plan.gateway6)
    netlink.ensure_up(link)
    return link


def read_bridge(netlink: Netlink, plan: BridgePlan) -> Link | None:
    """The network's bridge; None when there is none of that name, or it is another's (which is none of ours)."""
    link = netlink.read_link(plan.name)
    if link is None or _is_ours(link, plan):
        return link
    log.warning("bridge_of_a_stranger_left_alone", bridge=plan.name, alias=link.alias, kind=link.kind)
    return None


def ensure_bridge_absent_when_unused(netlink: Netlink, plan: BridgePlan) -> None:
    """Our bridge is gone, unless something is on it. A stranger's link of that name is left alone."""
    bridge = read_bridge(netlink, plan)
    if bridge is not None and not netlink.list_ports(bridge):
        netlink.ensure_link_absent(bridge)
        log.info("bridge_removed", bridge=plan.name)


def _make_bridge(netlink: Netlink, plan: BridgePlan) -> Link:
    netlink.ensure_bridge_exists(plan.name, mac=plan.mac)
    link = netlink.read_link(plan.name)
    if link is None:
        raise Retryable(f"bridge {plan.name} was removed by somebody while it was being made; try again")
    log.info("bridge_made", bridge=plan.name)
    return link


def _is_ours(link: Link, plan: BridgePlan) -> bool:
    half_made = link.alias is None and link.mac == plan.mac
    return link.kind == BRIDGE and (link.alias == plan.owner or half_made)


def _ensure_gateway(netlink: Netlink, link: Link, plan: BridgePlan) -> None:
    if plan.gateway is None or plan.gateway in netlink.list_addresses_of(link):
        return
    for held in netlink.list_addresses():
        if held.index != link.index and held.interface.ip in plan.gateway.network:
            holder = next((other.name for other in netlink.list_links() if other.index == held.index), "a link")
            raise DoesNotFit(
                f"{plan.gateway.network} can't be on bridge {plan.name}: {holder} of this host has {held.interface} in "
                "it; choose another cidr for the network, or another host"
            )
    netlink.ensure_address(link, plan.gateway)
