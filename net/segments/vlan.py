"""`vlan`: our bridge onto one VLAN (IEEE 802.1Q) of a physical interface, by a VLAN link of ours on it.

The interface itself may have addresses and be on a bridge: tagged frames are taken from it before those see them. Where these
tests are run the kernel has no 8021q: the messages that are sent were compared with what `ip link add type vlan` sends, and
what that kernel answers (EOPNOTSUPP) becomes DoesNotFit; frames with a tag were not seen.
"""

from net.kinds import vlan_name_for
from net.links.link import VLAN, Link
from net.links.netlink import Netlink
from net.segments.owned_joint import ensure_joint, ensure_joints_absent, is_marked
from net.segments.uplink import require_uplink
from taskvisor.model.network import Surroundings
from taskvisor.model.plan import VifPlan


class VlanJoint:
    """The `Joint` of a VLAN network: `<interface>.<VLAN>`."""

    def require(self, netlink: Netlink, vif: VifPlan) -> None:
        require_uplink(netlink, vif)

    def ensure(self, netlink: Netlink, vif: VifPlan, bridge: Link) -> None:
        uplink, segment = require_uplink(netlink, vif), vif.segment or 0

        def make(name: str, mac: str) -> None:
            netlink.ensure_vlan_exists(name, mac=mac, lower=uplink, segment=segment)

        link = ensure_joint(netlink, vif, bridge, name=vlan_name_for(uplink.name, segment), kind=VLAN, make=make)
        netlink.ensure_up(uplink)
        netlink.ensure_up(link)

    def is_joint(self, link: Link, vif: VifPlan) -> bool:
        return is_marked(link, vif.network_id)

    def ensure_absent(self, netlink: Netlink, vif: VifPlan) -> None:
        ensure_joints_absent(netlink, vif.network_id)

    def ensure_reached(self, netlink: Netlink, around: Surroundings) -> None:
        """Switches learn where guests are."""
