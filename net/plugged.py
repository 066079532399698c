"""What the plug of a NIC lacks: somebody removed a link, flushed the rules, or ended the DHCP server. Touches nothing.

Looks once for many NICs. It must never conclude anything from what can't be asked: those look-ups raise.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface

from net.filters.ruleset import Listing, network_rules_for
from net.links.link import TAP, Link
from net.links.netlink import Netlink
from net.plan import bridge_plan_for
from net.services.provision import Services
from taskvisor.model.network import NetworkKind
from taskvisor.model.observed import PlugLack, PlugPart
from taskvisor.model.plan import VifPlan

UNBRIDGED = frozenset({NetworkKind.ROUTED, NetworkKind.OVS, NetworkKind.MACVTAP})
"""Kinds whose device is on no Linux bridge."""


@dataclass(frozen=True, kw_only=True)
class LinksSeen:
    """The links and addresses of this host, as one look found them."""

    by_name: Mapping[str, Link]
    addresses: frozenset[tuple[int, IPv4Interface]]

    @classmethod
    def of(cls, netlink: Netlink) -> "LinksSeen":
        """As they are now."""
        return cls(
            by_name={link.name: link for link in netlink.list_links()},
            addresses=frozenset((held.index, held.interface) for held in netlink.list_addresses()),
        )

    def holds(self, vif: VifPlan) -> bool:
        """The NIC's device is there, ours, up, and on its bridge, which holds the gateway's address where that is ours."""
        tap = self.by_name.get(vif.tap)
        if tap is None or tap.alias != vif.owner or not tap.up:
            return False
        if vif.kind in UNBRIDGED:
            return True
        bridge, plan = self.by_name.get(vif.bridge), bridge_plan_for(vif)
        if bridge is None or tap.master != bridge.index:
            return False
        return plan.gateway is None or (bridge.index, plan.gateway) in self.addresses

    def is_open(self, vif: VifPlan) -> bool:
        """A QEMU holds the guest's end. Told of TAPs only: the carrier of others is their lower device's."""
        tap = self.by_name.get(vif.tap)
        return tap is not None and (tap.kind != TAP or tap.carrier)


def lacking_in(
    vifs: Sequence[VifPlan],
    *,
    links: LinksSeen,
    filters: Listing,
    unfiltered: frozenset[str],
    services: Services,
) -> Iterator[PlugLack]:
    """What each NIC lacks, in their order; of one whose plug is whole, no parts. `unfiltered`: TAPs whose own filters lack."""
    for vif in vifs:
        checks = {
            PlugPart.LINK: links.holds(vif),
            PlugPart.GUEST: links.is_open(vif),
            PlugPart.FILTER: vif.tap not in unfiltered and _holds_network(filters, vif),
            PlugPart.DHCP: not vif.dhcp or services.has_dhcp(vif),
            PlugPart.METADATA: not vif.dhcp or services.has_metadata(vif),
        }
        yield PlugLack(port_id=vif.port_id, parts=tuple(part for part, whole in checks.items() if not whole))


def _holds_network(filters: Listing, vif: VifPlan) -> bool:
    rules = network_rules_for(vif)
    return rules is None or filters.holds(rules)
