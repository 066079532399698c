"""A joint that is a link of ours: made, marked, put on its bridge, removed. Knows not what kind of link it is.

Like a bridge it can't be given its alias in the message that makes it, but its MAC: a link of our name and that MAC without an
alias is one of ours, half made.
"""

from collections.abc import Callable

import structlog

from net.links.link import BRIDGE, Link
from net.links.netlink import Netlink
from net.links.sysctl import ensure_no_ipv6
from net.plan import joint_mac_for, network_owner_for
from taskvisor.model.errors import Contradiction, DoesNotFit
from taskvisor.model.ids import NetworkId
from taskvisor.model.plan import VifPlan

log = structlog.get_logger(__name__)

Make = Callable[[str, str], None]
"""Makes the link of that name with that MAC, unless one of the name or the segment exists."""


def ensure_joint(netlink: Netlink, vif: VifPlan, bridge: Link, *, name: str, kind: str, make: Make) -> Link:
    """The link is there, ours, of the network's MTU, on the bridge and up; it was put on the bridge before it was up.

    Contradiction when its name is a stranger's; DoesNotFit when another link of this host has its segment.
    """
    link = netlink.read_link(name) or _made(netlink, vif, name, kind, make)
    if link.kind != kind or not is_ours(link, vif.network_id):
        raise Contradiction(
            f"link {name} ({link.kind}, alias {link.alias or 'none'}) is not the {kind} of network {vif.network_id} and was"
            " left alone; rename or remove it, then retry"
        )
    if link.segment != vif.segment:
        raise Contradiction(
            f"{kind} {name} has segment {link.segment}, not {vif.segment}, and was left alone; it is removed with the"
            " network's last port on this host"
        )
    netlink.ensure_alias(link, network_owner_for(vif.network_id))
    ensure_no_ipv6(name)
    netlink.ensure_mtu(link, vif.mtu)
    netlink.ensure_port(link, bridge)
    return link


def is_ours(link: Link, network_id: NetworkId) -> bool:
    """Whether a link, which may be a bridge, was made as the network's joint."""
    return link.kind != BRIDGE and is_marked(link, network_id)


def is_marked(link: Link, network_id: NetworkId) -> bool:
    """Whether a link that is no bridge bears the network's mark, as its joint does."""
    half_made = link.alias is None and link.mac == joint_mac_for(network_id)
    return link.alias == network_owner_for(network_id) or half_made


def ensure_joints_absent(netlink: Netlink, network_id: NetworkId) -> None:
    """No joint of the network is left, whatever it was called: the host may have been told other names meanwhile."""
    for link in netlink.list_links():
        if is_ours(link, network_id):
            netlink.ensure_link_absent(link)
            log.info("joint_removed", link=link.name, network_id=network_id)


def _made(netlink: Netlink, vif: VifPlan, name: str, kind: str, make: Make) -> Link:
    make(name, joint_mac_for(vif.network_id))
    link = netlink.read_link(name)
    if link is None:
        others = (other for other in netlink.list_links() if other.kind == kind and other.segment == vif.segment)
        holder = next((f"{other.name} (alias {other.alias or 'none'})" for other in others), "another link")
        raise DoesNotFit(
            f"{kind} {vif.segment} can't be made on this host: {holder} has that segment; remove it if nothing uses it, or"
            " give the network another"
        )
    log.info("joint_made", link=name, network_id=vif.network_id)
    return link
