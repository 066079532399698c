"""`routed`: no segment at all. Each TAP is a link of its own, and the host a router between them: a route to each guest.

The gateway's address is on every TAP of the network, and the host answers ARP there for whatever it has a way to (proxy ARP), so
guests that take their neighbours to be on the link reach them too. IPv6 guests must be told that nothing is on the link but the
gateway, as router advertisements without the L flag do (RFC 5942): proxying each neighbour (RFC 4389) would need an entry for
each pair. The routes bear protocol 84: a routing daemon that tells other hosts the way takes them from there.
"""

from net.links.link import TAP, Link
from net.links.netlink import Netlink
from net.links.sysctl import ensure_no_address_check, ensure_sysctl
from net.plan import parse_owner
from net.segments.taps import TapSegment
from taskvisor.model.errors import DoesNotFit
from taskvisor.model.plan import VifPlan


class RoutedSegment(TapSegment):
    """The `Segment` of such a network."""

    def ensure_device(self, netlink: Netlink, vif: VifPlan) -> Link:
        _require_no_other_gateway(netlink, vif)
        return super().ensure_device(netlink, vif)

    def ensure_made(self, netlink: Netlink, vif: VifPlan) -> Link | None:  # noqa: ARG002 - as every Segment
        """Each TAP is a link of its own."""
        return None

    def ensure_joined(self, netlink: Netlink, vif: VifPlan, device: Link) -> None:
        for name, value in _switches_for(vif):
            ensure_sysctl(name, value)
        netlink.ensure_host_address(device, vif.gateway)
        if vif.address6 is not None and vif.gateway6 is not None:
            ensure_no_address_check(device.name)
            netlink.ensure_host_address(device, vif.gateway6)
        netlink.ensure_up(device)
        for address in filter(None, (vif.address, vif.address6)):
            netlink.ensure_host_route(device, address)

    def is_unused(self, netlink: Netlink, vif: VifPlan) -> bool:
        """Whether no TAP of ours has the network's gateway."""
        holders = netlink.list_holders(vif.gateway)
        return not holders or not any(
            link.index in holders and parse_owner(link.alias) is not None for link in netlink.list_links()
        )

    def ensure_absent(self, netlink: Netlink, vif: VifPlan) -> None:
        """Addresses and routes went with their TAPs."""


def _switches_for(vif: VifPlan) -> tuple[tuple[str, str], ...]:
    return (
        (f"ipv4/conf/{vif.tap}/arp_ignore", "1"),  # only for this TAP's addresses: not for the host's others
        (f"ipv4/conf/{vif.tap}/proxy_arp", "1"),
        (f"ipv4/neigh/{vif.tap}/proxy_delay", "0"),  # else the host waits up to 0.8 s before it answers for another
    )


def _require_no_other_gateway(netlink: Netlink, vif: VifPlan) -> None:
    holders = netlink.list_holders(vif.gateway)
    for link in netlink.list_links() if holders else ():
        if link.index in holders and not (link.kind == TAP and parse_owner(link.alias) is not None):
            raise DoesNotFit(
                f"{link.name} of this host has {vif.gateway}, which is the gateway of the port's network; choose another"
                " gateway for it, or another host"
            )
