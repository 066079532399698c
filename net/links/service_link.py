"""The link that serves a network whose bridge bears no address of ours: a pair, one end of it a port of that bridge.

So the bridge itself, which may be the operator's, is not touched: it gets one more port, as a guest's. The host's end has
only link-local addresses and forwards nothing; what may come to it, and from whom, is the filters' (net/filters/
service_guard.py). Both ends bear the network's alias. A process may die between making the pair and that, so the MACs,
which follow from the network's id and are part of the message that makes it, prove a half-made one ours.
"""

from ipaddress import IPv4Interface

import structlog

from net.links.link import PAIR, Link
from net.links.netlink import Netlink
from net.links.sysctl import ROOT, ensure_no_ipv6, ensure_sysctl
from net.plan import marking_mac_for, network_owner_for
from net.services.site import LINK_SERVER_ADDRESS, service_name_for, service_port_for
from taskvisor.model.errors import Contradiction, Retryable
from taskvisor.model.plan import VifPlan

log = structlog.get_logger(__name__)

SERVER = IPv4Interface(f"{LINK_SERVER_ADDRESS}/32")
RP_FILTER = "ipv4/conf/{}/rp_filter"
NO_CHECK, LOOSE = "0", "2"


def ensure_service_link(netlink: Netlink, vif: VifPlan, bridge: Link) -> Link:
    """The network's pair is there, ours, one end on the bridge, both up; returns the host's end.

    Contradiction when a link of either name is another's; it is left alone.
    """
    name, peer = service_name_for(vif), service_port_for(vif)
    end = netlink.read_link(name) or _make_pair(netlink, vif)
    _ensure_owned(netlink, vif, end)
    port = _seen(netlink, peer)
    _ensure_owned(netlink, vif, port)
    ensure_sysctl(f"ipv4/conf/{name}/arp_ignore", "1")
    _ensure_guests_are_heard(name)
    if SERVER not in netlink.list_addresses_of(end):
        netlink.ensure_address(end, SERVER)
    netlink.ensure_port(port, bridge)
    netlink.ensure_up(port)
    netlink.ensure_up(end)
    return end


def ensure_service_link_absent(netlink: Netlink, vif: VifPlan) -> None:
    """The network's pair is gone. A stranger's link of that name is left alone."""
    name = service_name_for(vif)
    link = netlink.read_link(name)
    if link is None:
        return
    if not _is_ours(link, network_owner_for(vif.network_id), mac_for(vif, name)):
        log.warning("service_link_of_a_stranger_left_alone", link=name, alias=link.alias, kind=link.kind)
        return
    netlink.ensure_link_absent(link)
    log.info("service_link_removed", link=name)


def mac_for(vif: VifPlan, name: str) -> str:
    """The MAC of an end of the network's pair: the same on every host, and used on one."""
    return marking_mac_for(name, vif.network_id)


def _ensure_owned(netlink: Netlink, vif: VifPlan, link: Link) -> None:
    """The end is ours, and says so."""
    owner = network_owner_for(vif.network_id)
    if not _is_ours(link, owner, mac_for(vif, link.name)):
        raise Contradiction(
            f"link {link.name} ({link.kind}, alias {link.alias or 'none'}) is not the service link of {owner} and was left "
            "alone; rename or remove it, then retry"
        )
    netlink.ensure_alias(link, owner)
    netlink.ensure_mtu(link, vif.mtu)
    ensure_no_ipv6(link.name)


def _ensure_guests_are_heard(name: str) -> None:
    """The host has no route to the guests by this link, so a check of senders against routes would drop what they send.

    The stricter of the switch for all links and of the link's own counts; under a strict one only a loose one helps.
    """
    of_all = (ROOT / RP_FILTER.format("all")).read_text().strip()
    ensure_sysctl(RP_FILTER.format(name), NO_CHECK if of_all == NO_CHECK else LOOSE)


def _make_pair(netlink: Netlink, vif: VifPlan) -> Link:
    name, peer = service_name_for(vif), service_port_for(vif)
    netlink.ensure_pair_exists(name, mac=mac_for(vif, name), peer=peer, peer_mac=mac_for(vif, peer))
    log.info("service_link_made", link=name)
    return _seen(netlink, name)


def _seen(netlink: Netlink, name: str) -> Link:
    link = netlink.read_link(name)
    if link is None:
        raise Retryable(f"link {name} could not be made, or was removed by somebody meanwhile; try again")
    return link


def _is_ours(link: Link, owner: str, mac: str) -> bool:
    return link.kind == PAIR and (link.alias == owner or (link.alias is None and link.mac == mac))
