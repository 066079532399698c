"""`vxlan`: our bridge, and a tunnel (RFC 7348) to every host that has ports of the network. No multicast, no learning.

The gateway is on every host's bridge, with one address and one MAC. Its ARP never leaves by the tunnel: the tunnel's bridge port
suppresses what asks for an address of this host's (`neigh_suppress`; net/bridge/br_arp_nd_proxy.c, br_is_local_ip), and the
bridge has no need to ask, since it is told the MAC of every port (net/reach.py). A tunnel learns nothing: where a guest is, is
said by the records, and a forged frame from the underlay changes nothing. Nor does its bridge port learn: the bridge would keep
a guest that came here behind the tunnel until it first speaks.

A new tunnel has no entry at all, so no frame leaves by it before it is told where to. Until then a guest reaches its own host.

Guests' broadcasts do leave by it. Each host's DHCP server has the same address: without a filter between tunnel and server
another host's, which does not know the guest, refuses what its own has offered (DHCPNAK; seen).
"""

from net.kinds import tunnel_name_for
from net.links.link import VXLAN, Link, PortSettings
from net.links.neighbours import open_neighbours
from net.links.netlink import Netlink
from net.links.sysctl import speaks_ipv6
from net.plan import bridge_name_for
from net.reach import changes_for, entries_for
from net.segments.owned_joint import ensure_joint, ensure_joints_absent, is_marked, is_ours
from taskvisor.model.errors import DoesNotFit
from taskvisor.model.network import Surroundings
from taskvisor.model.plan import VifPlan

OVERHEAD_BYTES = {4: 50, 6: 70}  # Ethernet 14, VXLAN 8, UDP 8, and IPv4's 20 or IPv6's 40
TOLD_BY_RECORDS = PortSettings(learning=False, neigh_suppress=True)


class VxlanJoint:
    """The `Joint` of a VXLAN network: `vxlan-<VNI>`."""

    def require(self, netlink: Netlink, vif: VifPlan) -> None:
        underlay = _require_underlay(netlink, vif.tunnel_address)
        overhead = OVERHEAD_BYTES[6 if ":" in (vif.tunnel_address or "") else 4]
        if underlay.mtu - overhead < vif.mtu:
            raise DoesNotFit(
                f"the network has an MTU of {vif.mtu}, and a tunnel by {underlay.name} of this host carries"
                f" {underlay.mtu - overhead} ({underlay.mtu} less {overhead}); give the network an MTU of at most"
                f" {underlay.mtu - overhead}, or raise that of {underlay.name} on all hosts and in between"
            )

    def ensure(self, netlink: Netlink, vif: VifPlan, bridge: Link) -> None:
        vni, local = vif.segment or 0, vif.tunnel_address or ""

        def make(name: str, mac: str) -> None:
            netlink.ensure_vxlan_exists(name, mac=mac, vni=vni, local=local)

        link = ensure_joint(netlink, vif, bridge, name=tunnel_name_for(vni), kind=VXLAN, make=make)
        if link.tunnel_address != local:
            raise DoesNotFit(
                f"tunnel {link.name} of this host ends at {link.tunnel_address}, and TASKVISOR_TUNNEL_ADDRESS is {local};"
                " set it back, or move the guests of its network away first: with the last of them the tunnel goes"
            )
        netlink.ensure_port_settings(link, TOLD_BY_RECORDS)
        netlink.ensure_up(link)

    def is_joint(self, link: Link, vif: VifPlan) -> bool:
        return is_marked(link, vif.network_id)

    def ensure_absent(self, netlink: Netlink, vif: VifPlan) -> None:
        ensure_joints_absent(netlink, vif.network_id)

    def ensure_reached(self, netlink: Netlink, around: Surroundings) -> None:
        """Converges by difference: what stays as it is is not touched, so the traffic of others goes on."""
        network = around.network
        tunnel = netlink.read_link(tunnel_name_for(network.segment or 0))
        bridge = netlink.read_link(bridge_name_for(network.id))
        if tunnel is None or bridge is None or not is_ours(tunnel, network.id) or tunnel.master != bridge.index:
            return
        families = frozenset({4, 6} if speaks_ipv6(bridge.name) else {4})
        with open_neighbours() as neighbours:
            present = (*neighbours.list_behind(tunnel.index), *neighbours.list_addresses(bridge.index))
            wanted = entries_for(around, tunnel=tunnel, bridge=bridge, families=families)
            neighbours.change(*changes_for(present, wanted))


def _require_underlay(netlink: Netlink, address: str | None) -> Link:
    if address is None:
        raise DoesNotFit("this host has no end of tunnels; set TASKVISOR_TUNNEL_ADDRESS to an address of it")
    holders = netlink.list_holders(address)
    for link in netlink.list_links() if holders else ():
        if link.index in holders:
            return link
    raise DoesNotFit(
        f"no interface of this host has {address}, which TASKVISOR_TUNNEL_ADDRESS says; correct it, or give it the address"
    )
