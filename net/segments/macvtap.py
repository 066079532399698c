"""`macvtap`: a macvtap of ours straight on a physical interface, in mode bridge: guests of one host reach each other.

libvirt opens it as `<interface type='ethernet'><target dev='tap…' managed='no'/>`, as it does a TAP: since 5.7.0 it looks
whether the name is a macvtap's (virNetDevMacVLanIsMacvtap); seen with 9.0. So the device is ours, with our alias, before, during
and after, and its XML is like all others'. Rejected: type='direct', for which libvirt makes the device, with no owner, and takes
it away behind our back.

Nothing of the host is in between: no filter, no DHCP, and the host itself is not reached by its guests (the kernel's
Documentation/networking, macvlan). The network's router is somebody else's.
"""

import structlog

from net.links.link import MACVTAP, Link
from net.links.netlink import Netlink
from net.links.sysctl import ensure_no_ipv6
from net.segments.uplink import require_uplink
from taskvisor.model.errors import Contradiction, DoesNotFit, Retryable
from taskvisor.model.network import Surroundings
from taskvisor.model.plan import VifPlan

log = structlog.get_logger(__name__)


class MacvtapSegment:
    """The `Segment` of such a network."""

    def ensure_device(self, netlink: Netlink, vif: VifPlan) -> Link:
        uplink = _require_free(require_uplink(netlink, vif))
        link = netlink.read_link(vif.tap) or _made(netlink, vif, uplink)
        _require_ours(link, vif)
        if link.lower != uplink.index:
            raise Contradiction(
                f"macvtap {link.name} stands on another interface than {uplink.name}, and was left alone; set"
                " TASKVISOR_PHYSICAL_NETWORKS back, or stop its guest and remove it"
            )
        netlink.ensure_alias(link, vif.owner)
        ensure_no_ipv6(link.name)
        netlink.ensure_mtu(link, vif.mtu)
        return link

    def ensure_made(self, netlink: Netlink, vif: VifPlan) -> Link | None:
        netlink.ensure_up(require_uplink(netlink, vif))
        return None

    def ensure_joined(self, netlink: Netlink, vif: VifPlan, device: Link) -> None:  # noqa: ARG002 - as every Segment
        netlink.ensure_up(device)

    def ensure_device_absent(self, netlink: Netlink, vif: VifPlan) -> None:
        link = netlink.read_link(vif.tap)
        if link is not None:
            _require_ours(link, vif)
            netlink.ensure_link_absent(link)
            log.info("macvtap_removed", tap=vif.tap)

    def is_unused(self, netlink: Netlink, vif: VifPlan) -> bool:  # noqa: ARG002 - as every Segment
        """Nothing is made for the network as a whole."""
        return True

    def ensure_absent(self, netlink: Netlink, vif: VifPlan) -> None:
        """Nothing was made."""

    def ensure_reached(self, netlink: Netlink, around: Surroundings) -> None:
        """Switches learn where guests are."""


def _require_free(uplink: Link) -> Link:
    if uplink.master is not None:
        raise DoesNotFit(
            f"interface {uplink.name} of this host is on a bridge, where no macvtap can stand on it; take it off, or use a"
            " network of kind flat or existing"
        )
    return uplink


def _made(netlink: Netlink, vif: VifPlan, uplink: Link) -> Link:
    netlink.ensure_macvtap_exists(vif.tap, mac=vif.mac, lower=uplink)
    link = netlink.read_link(vif.tap)
    if link is None:
        raise Retryable(f"macvtap {vif.tap} was removed by somebody while it was being made; try again")
    log.info("macvtap_made", tap=vif.tap, uplink=uplink.name)
    return link


def _require_ours(link: Link, vif: VifPlan) -> None:
    half_made = link.alias is None and link.mac == vif.mac.lower()
    if link.kind != MACVTAP or (link.alias != vif.owner and not half_made):
        raise Contradiction(
            f"link {link.name} ({link.kind}, alias {link.alias or 'none'}) is not the macvtap of {vif.owner} and was left"
            " alone; remove it if nothing uses it, then retry"
        )
