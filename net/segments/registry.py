"""Which kind of network is made how. The only place that knows all kinds."""

from collections.abc import Mapping

from net.segments.bridged import BridgedSegment, Unjoined
from net.segments.existing import ExistingSegment
from net.segments.flat import FlatJoint
from net.segments.macvtap import MacvtapSegment
from net.segments.routed import RoutedSegment
from net.segments.segment import Segment
from net.segments.vlan import VlanJoint
from net.segments.vxlan import VxlanJoint
from taskvisor.model.errors import DoesNotFit
from taskvisor.model.network import NetworkKind

SEGMENTS: Mapping[NetworkKind, Segment] = {
    NetworkKind.NAT: BridgedSegment(Unjoined()),
    NetworkKind.FLAT: BridgedSegment(FlatJoint()),
    NetworkKind.VLAN: BridgedSegment(VlanJoint()),
    NetworkKind.VXLAN: BridgedSegment(VxlanJoint()),
    NetworkKind.EXISTING: ExistingSegment(),
    NetworkKind.MACVTAP: MacvtapSegment(),
    NetworkKind.ROUTED: RoutedSegment(),
}


def segment_for(kind: NetworkKind) -> Segment:
    """How networks of that kind are made. DoesNotFit for a kind that this host has no part for."""
    segment = SEGMENTS.get(kind)
    if segment is None:
        raise DoesNotFit(f"networks of kind {kind} can't be plugged on this host; use another host or network")
    return segment
