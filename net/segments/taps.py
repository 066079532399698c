"""The device of kinds whose guests have a TAP, and what kinds without a tunnel need not do. A base, not a kind."""

from net.links.link import Link
from net.links.netlink import Netlink
from net.links.tap import ensure_tap, ensure_tap_absent
from taskvisor.model.network import Surroundings
from taskvisor.model.plan import VifPlan


class TapSegment:
    """Of `Segment`, what is the same for every kind whose device is a TAP."""

    def ensure_device(self, netlink: Netlink, vif: VifPlan) -> Link:
        return ensure_tap(netlink, name=vif.tap, owner=vif.owner, mtu=vif.mtu, queues=vif.queues)

    def ensure_device_absent(self, netlink: Netlink, vif: VifPlan) -> None:
        ensure_tap_absent(netlink, name=vif.tap, owner=vif.owner)

    def ensure_reached(self, netlink: Netlink, around: Surroundings) -> None:
        """Others learn by themselves where guests are."""
