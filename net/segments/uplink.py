"""This host's interface on a physical network: found, and judged. Never changed here, but for being up."""

from net.links.link import Link
from net.links.netlink import Netlink
from taskvisor.model.errors import DoesNotFit
from taskvisor.model.plan import VifPlan


def require_uplink(netlink: Netlink, vif: VifPlan) -> Link:
    """The interface. DoesNotFit when this host was told of none, or it is not there, or its MTU is less than the network's."""
    if vif.uplink is None:
        raise DoesNotFit(
            f"port {vif.port_id} can't be plugged: this host was told of no interface on its {vif.kind} network's physical"
            " network; name it in TASKVISOR_PHYSICAL_NETWORKS"
        )
    uplink = netlink.read_link(vif.uplink)
    if uplink is None:
        raise DoesNotFit(
            f"there is no interface {vif.uplink} on this host, which TASKVISOR_PHYSICAL_NETWORKS names; correct it, or bring"
            " the interface back"
        )
    if uplink.mtu < vif.mtu:
        raise DoesNotFit(
            f"the network has an MTU of {vif.mtu}, interface {uplink.name} of this host {uplink.mtu}; lower the one or raise"
            " the other"
        )
    return uplink


def require_free_uplink(netlink: Netlink, uplink: Link, bridge: str) -> None:
    """The interface may be put on that bridge: it has no address, and is on no other one. DoesNotFit in words."""
    holder = netlink.read_link(bridge)
    if uplink.master is not None and (holder is None or uplink.master != holder.index):
        other = next((link.name for link in netlink.list_links() if link.index == uplink.master), "another link")
        raise DoesNotFit(
            f"interface {uplink.name} of this host is on {other} already and can't be on {bridge} too; take it off there, use"
            f" a network of kind existing with bridge {other}, or give the network an interface of its own"
        )
    addresses = netlink.list_global_addresses_of(uplink)
    if addresses:
        raise DoesNotFit(
            f"interface {uplink.name} of this host has {', '.join(addresses)}, which would be lost on a bridge; make a bridge"
            " that has the addresses and the interface yourself and use a network of kind existing, or use an interface"
            " without addresses"
        )
