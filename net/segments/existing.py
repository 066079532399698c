"""`existing`: a Linux bridge that the operator made. Our TAP is put on it; the bridge itself is never changed or removed."""

from net.links.link import BRIDGE, Link
from net.links.netlink import Netlink
from net.links.tap import ensure_tap_on_bridge
from net.plan import parse_owner
from net.segments.taps import TapSegment
from taskvisor.model.errors import DoesNotFit
from taskvisor.model.plan import VifPlan


class ExistingSegment(TapSegment):
    """The `Segment` of such a network."""

    def ensure_device(self, netlink: Netlink, vif: VifPlan) -> Link:
        _require_bridge(netlink, vif)
        return super().ensure_device(netlink, vif)

    def ensure_made(self, netlink: Netlink, vif: VifPlan) -> Link | None:
        return _require_bridge(netlink, vif)

    def ensure_joined(self, netlink: Netlink, vif: VifPlan, device: Link) -> None:
        ensure_tap_on_bridge(netlink, device, _require_bridge(netlink, vif))

    def is_unused(self, netlink: Netlink, vif: VifPlan) -> bool:
        """Whether no port of ours is on that bridge, of this network or of another that is on it too."""
        bridge = netlink.read_link(vif.bridge)
        return bridge is None or all(parse_owner(port.alias) is None for port in netlink.list_ports(bridge))

    def ensure_absent(self, netlink: Netlink, vif: VifPlan) -> None:
        """Nothing was made."""


def _require_bridge(netlink: Netlink, vif: VifPlan) -> Link:
    bridge = netlink.read_link(vif.bridge)
    if bridge is None:
        raise DoesNotFit(f"there is no bridge {vif.bridge} on this host; make it, or use another host or network")
    if bridge.kind != BRIDGE:
        raise DoesNotFit(
            f"{vif.bridge} of this host is no Linux bridge (kind: {bridge.kind}); correct the network's bridge"
        )
    if bridge.mtu < vif.mtu:
        raise DoesNotFit(
            f"the network has an MTU of {vif.mtu}, bridge {bridge.name} of this host {bridge.mtu}; lower the one or raise"
            " the other"
        )
    return bridge
