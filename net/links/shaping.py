"""How fast a port's TAP may be, in both directions, and what of that is made and removed with the port.

What the guest receives leaves the host by the TAP: a token bucket (tbf) stands on it. What the guest sends comes in by the TAP,
where nothing can wait: it takes a detour by a link of kind ifb, which has a bucket of its own (net/filters/diversion.py). The
ifb is called after its port ("ifb" for "tap") and has the port's owner in its alias.

Linux can't give an ifb its alias in the message that makes it, so, as with bridges, its MAC says whose it is until then.

Nothing is removed to be changed: a bucket is changed where it stands, with what waits in it.
"""

from dataclasses import dataclass

import structlog

from net.bandwidth import bucket_for
from net.filters.diversion import ensure_detour, ensure_no_detour
from net.links.link import IFB, Link
from net.links.netlink import Netlink
from net.links.sysctl import ensure_no_ipv6
from net.links.token_bucket import Bucket
from net.plan import ID_CHARS, marking_mac_for
from taskvisor.model.errors import Contradiction, Retryable
from taskvisor.model.ids import PortId
from taskvisor.model.network import Bandwidth, Qos
from taskvisor.model.plan import VifPlan

log = structlog.get_logger(__name__)

IFB_PREFIX = "ifb"


@dataclass(frozen=True, kw_only=True)
class ShapePlan:
    """The buckets of a port. None: that direction has no limit."""

    tap: str
    ifb: str
    ifb_mac: str
    owner: str
    inbound: Bucket | None
    outbound: Bucket | None


def shape_plan_for(vif: VifPlan) -> ShapePlan:
    """What a NIC's limits come to. They are sane: net/plan.py refuses others."""

    def bucket(limit: Bandwidth | None) -> Bucket | None:
        return None if limit is None else bucket_for(limit, mtu=vif.mtu)

    qos = vif.qos or Qos()
    return ShapePlan(
        tap=vif.tap,
        ifb=ifb_name_for(vif.port_id),
        ifb_mac=ifb_mac_for(vif.port_id),
        owner=vif.owner,
        inbound=bucket(qos.inbound),
        outbound=bucket(qos.outbound),
    )


def ensure_shaped(netlink: Netlink, tap: Link, plan: ShapePlan) -> None:
    """The TAP has these limits and no others of ours. Contradiction when the ifb's name is a stranger's: it is left alone."""
    if plan.inbound is None:
        netlink.ensure_no_bucket(tap)
    else:
        netlink.ensure_bucket(tap, plan.inbound)
    if plan.outbound is None:
        _ensure_no_detour(netlink, plan)
    else:
        _ensure_outbound(netlink, plan, plan.outbound)


def ensure_unshaped(netlink: Netlink, plan: ShapePlan) -> None:
    """Nothing is left of the limits, after the TAP has gone with its own bucket. A stranger's ifb is left alone."""
    _ensure_no_detour(netlink, plan)


def ifb_name_for(port_id: PortId) -> str:
    """The link that limits what a port's guest sends."""
    return IFB_PREFIX + port_id[:ID_CHARS]


def ifb_mac_for(port_id: PortId) -> str:
    """No frame ever bears it."""
    return marking_mac_for("ifb", port_id)


def _ensure_outbound(netlink: Netlink, plan: ShapePlan, bucket: Bucket) -> None:
    """The limit is in force before anything is sent its way; while the ifb is down, what is sent its way is dropped."""
    ifb = netlink.read_link(plan.ifb) or _make_ifb(netlink, plan)
    if not _is_ours(ifb, plan):
        raise Contradiction(
            f"link {ifb.name} ({ifb.kind}, alias {ifb.alias or 'none'}) is not the one that limits {plan.owner} and was left "
            "alone; rename or remove it, then retry"
        )
    netlink.ensure_alias(ifb, plan.owner)
    ensure_no_ipv6(ifb.name)
    netlink.ensure_bucket(ifb, bucket)
    netlink.ensure_up(ifb)
    ensure_detour(plan.tap, ifb.name, plan.owner)


def _ensure_no_detour(netlink: Netlink, plan: ShapePlan) -> None:
    """The ifb is made first and goes last: without it there is no detour either, and nft need not be asked."""
    ifb = netlink.read_link(plan.ifb)
    if ifb is None:
        return
    if not _is_ours(ifb, plan):
        log.warning("ifb_of_a_stranger_left_alone", link=ifb.name, alias=ifb.alias, kind=ifb.kind)
        return
    ensure_no_detour(plan.tap)
    netlink.ensure_link_absent(ifb)
    log.info("outbound_limit_removed", tap=plan.tap)


def _make_ifb(netlink: Netlink, plan: ShapePlan) -> Link:
    netlink.ensure_ifb_exists(plan.ifb, mac=plan.ifb_mac)
    link = netlink.read_link(plan.ifb)
    if link is None:
        raise Retryable(f"{plan.ifb} was removed by somebody while it was being made; try again")
    return link


def _is_ours(link: Link, plan: ShapePlan) -> bool:
    half_made = link.alias is None and link.mac == plan.ifb_mac
    return link.kind == IFB and (link.alias == plan.owner or half_made)
