"""Kinds with a bridge of ours, made with the first port and removed with the last, and what joins it to other hosts."""

from typing import Protocol

import structlog

from net.links.bridge import ensure_bridge, ensure_bridge_absent_when_unused, read_bridge
from net.links.link import Link
from net.links.netlink import Netlink
from net.links.tap import ensure_tap_on_bridge
from net.plan import bridge_plan_for, parse_owner
from net.segments.taps import TapSegment
from taskvisor.model.errors import Retryable
from taskvisor.model.network import Surroundings
from taskvisor.model.plan import VifPlan

log = structlog.get_logger(__name__)


class Joint(Protocol):
    """What joins a network's bridge to other hosts. Errors as of `Segment`."""

    def require(self, netlink: Netlink, vif: VifPlan) -> None:
        """This host has what the joint is made on. DoesNotFit, in words, when it lacks it; nothing was touched then."""
        ...

    def ensure(self, netlink: Netlink, vif: VifPlan, bridge: Link) -> None:
        """The joint is there, on the bridge and up."""
        ...

    def is_joint(self, link: Link, vif: VifPlan) -> bool:
        """Whether a link on the network's bridge is its joint."""
        ...

    def ensure_absent(self, netlink: Netlink, vif: VifPlan) -> None:
        """What we made of the joint is gone; what was there before is off the bridge."""
        ...

    def ensure_reached(self, netlink: Netlink, around: Surroundings) -> None:
        """See `Segment.ensure_reached`."""
        ...


class Unjoined:
    """`nat`: the bridge is local to the host."""

    def require(self, netlink: Netlink, vif: VifPlan) -> None:
        """It needs nothing."""

    def ensure(self, netlink: Netlink, vif: VifPlan, bridge: Link) -> None:
        """There is none."""

    def is_joint(self, link: Link, vif: VifPlan) -> bool:  # noqa: ARG002 - as every Joint
        return False

    def ensure_absent(self, netlink: Netlink, vif: VifPlan) -> None:
        """There is none."""

    def ensure_reached(self, netlink: Netlink, around: Surroundings) -> None:
        """Guests are on one host."""


class BridgedSegment(TapSegment):
    """`nat`, `flat`, `vlan`, `vxlan`: TAPs on a bridge of ours, which has a joint."""

    def __init__(self, joint: Joint) -> None:
        self._joint = joint

    def ensure_device(self, netlink: Netlink, vif: VifPlan) -> Link:
        self._joint.require(netlink, vif)
        return super().ensure_device(netlink, vif)

    def ensure_made(self, netlink: Netlink, vif: VifPlan) -> Link | None:
        bridge = ensure_bridge(netlink, bridge_plan_for(vif))
        self._joint.ensure(netlink, vif, bridge)
        return bridge

    def ensure_joined(self, netlink: Netlink, vif: VifPlan, device: Link) -> None:
        bridge = read_bridge(netlink, bridge_plan_for(vif))
        if bridge is None:
            raise Retryable(f"bridge {vif.bridge} was removed by somebody while {vif.tap} was plugged; try again")
        ensure_tap_on_bridge(netlink, device, bridge)

    def is_unused(self, netlink: Netlink, vif: VifPlan) -> bool:
        bridge = read_bridge(netlink, bridge_plan_for(vif))
        if bridge is None:
            return True
        ports = [port for port in netlink.list_ports(bridge) if not self._joint.is_joint(port, vif)]
        strangers = [port.name for port in ports if parse_owner(port.alias) is None]
        if strangers:
            log.warning("bridge_kept_for_links_of_strangers", bridge=bridge.name, links=strangers)
        return not ports

    def ensure_absent(self, netlink: Netlink, vif: VifPlan) -> None:
        self._joint.ensure_absent(netlink, vif)
        ensure_bridge_absent_when_unused(netlink, bridge_plan_for(vif))

    def ensure_reached(self, netlink: Netlink, around: Surroundings) -> None:
        self._joint.ensure_reached(netlink, around)
