"""`flat`: our bridge onto a physical interface, which becomes a port of it as it is, without tags.

The interface is the operator's: it has no mark of ours, it is only put on the bridge and set up, and taken off at the end. It
may have no addresses: a bridge port's are dead, and moving them to the bridge would cut the host off if it died in between.
"""

from net.links.link import Link
from net.links.netlink import Netlink
from net.segments.uplink import require_free_uplink, require_uplink
from taskvisor.model.network import Surroundings
from taskvisor.model.plan import VifPlan


class FlatJoint:
    """The `Joint` of a flat network: the interface itself."""

    def require(self, netlink: Netlink, vif: VifPlan) -> None:
        require_free_uplink(netlink, require_uplink(netlink, vif), vif.bridge)

    def ensure(self, netlink: Netlink, vif: VifPlan, bridge: Link) -> None:
        uplink = require_uplink(netlink, vif)
        netlink.ensure_port(uplink, bridge)
        netlink.ensure_up(uplink)

    def is_joint(self, link: Link, vif: VifPlan) -> bool:
        return link.name == vif.uplink

    def ensure_absent(self, netlink: Netlink, vif: VifPlan) -> None:
        uplink, bridge = netlink.read_link(vif.uplink or ""), netlink.read_link(vif.bridge)
        if uplink is not None and bridge is not None and uplink.master == bridge.index:
            netlink.ensure_no_port(uplink)

    def ensure_reached(self, netlink: Netlink, around: Surroundings) -> None:
        """Switches learn where guests are."""
