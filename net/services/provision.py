"""What a network's guests are served on this host, as one: the guard, DHCP and names, metadata, and the link they stand on.

Composes; each part's rules are in its own module. Callers hold the network's lock.
"""

from collections.abc import Mapping
from pathlib import Path

from net.filters.service_guard import ServiceGuard
from net.filters.transactions import Transactions
from net.links.link import Link
from net.links.netlink import Netlink
from net.links.service_link import ensure_service_link, ensure_service_link_absent
from net.plan import bridge_name_for
from net.services import dhcp, metadata
from net.services.dnsmasq import Paths, paths_for
from net.services.site import ON_LINK_KINDS, site_for
from taskvisor.model.errors import CannotAsk
from taskvisor.model.ids import NetworkId
from taskvisor.model.observed import DhcpFacts
from taskvisor.model.plan import VifPlan


class Services:
    """Those of one host. `directory` has one for each network's files."""

    def __init__(self, directory: Path, transactions: Transactions) -> None:
        self._directory = directory
        self._guard = ServiceGuard(transactions)

    def ensure_served(self, netlink: Netlink, vif: VifPlan, bridge: Link | None) -> None:
        """The NIC's guest is served; `bridge` is that of its network, None for a kind that has none. The guard first: no question
        of a guest may leave this host, and no other may be answered.

        Errors as of net/services/dhcp.py and net/services/metadata.py.
        """
        self._guard.ensure_guarded(vif)
        link = bridge
        if bridge is not None and vif.kind in ON_LINK_KINDS:
            link = ensure_service_link(netlink, vif, bridge)
        dhcp.ensure_served(vif, bridge_index=link.index if link else None, paths=self.paths_of(vif))
        metadata.ensure_served(netlink, post=metadata.post_for(vif, link), place=self._place_of(vif))

    def ensure_unserved(self, netlink: Netlink, vif: VifPlan) -> None:
        """The NIC's guest is served no more. The last one takes the service link with it: nothing but guests keeps a bridge."""
        paths, place = self.paths_of(vif), self._place_of(vif)
        dhcp.ensure_forgotten(vif, interface=_link_heard(netlink, vif), paths=paths)
        metadata.ensure_untold(netlink, vif, place=place)
        self._guard.ensure_port_unguarded(vif)
        if dhcp.read_entries(paths):
            return
        if vif.kind in ON_LINK_KINDS:
            self.ensure_network_absent(vif)
            ensure_service_link_absent(netlink, vif)
        self._guard.ensure_network_unguarded(vif)

    def ensure_network_absent(self, vif: VifPlan) -> None:
        """No server of the network runs, and its files are gone."""
        metadata.ensure_absent(self._place_of(vif))
        dhcp.ensure_absent(self.paths_of(vif))

    def ensure_told(self, netlink: Netlink, vif: VifPlan, documents: Mapping[str, str]) -> None:
        """See `Fabric.ensure_told`. Of no effect for a NIC whose guest is not served, or not plugged."""
        if not documents:
            metadata.ensure_untold(netlink, vif, place=self._place_of(vif))
            return
        interface = site_for(vif).interface
        link = netlink.read_link(interface or vif.tap) if vif.dhcp else None
        if link is not None:
            post = metadata.post_for(vif, link if interface else None)
            metadata.ensure_told(netlink, vif, documents, post=post, place=self._place_of(vif))

    def has_dhcp(self, vif: VifPlan) -> bool:
        """The network's DHCP runs, and was told of the NIC. Touches nothing. CannotAsk when it can't be told."""
        try:
            return dhcp.is_served(vif, paths=self.paths_of(vif))
        except OSError as error:
            raise CannotAsk(f"can't tell whether DHCP knows {vif.mac}: {error}") from error

    def has_metadata(self, vif: VifPlan) -> bool:
        """The NIC's guest is answered, if it was told anything. Touches nothing. CannotAsk when it can't be told."""
        return metadata.is_served(vif, place=self._place_of(vif))

    def list_dhcp(self) -> tuple[DhcpFacts, ...]:
        """What the dnsmasq of each network is told, in the order of networks. A host without networks has no such files."""
        try:
            names = sorted(path.name for path in self._directory.iterdir())
            found = [
                (name, entry)
                for name in names
                for entry in dhcp.read_entries(paths_for(self._directory, NetworkId(name)))
            ]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise CannotAsk(f"cannot read what DHCP is told below {self._directory}: {error.strerror}") from error
        return tuple(
            DhcpFacts(
                bridge=bridge_name_for(NetworkId(name)), mac=entry.mac, address=entry.address, hostname=entry.hostname
            )
            for name, entry in found
        )

    def paths_of(self, vif: VifPlan) -> Paths:
        """Where the files of the NIC's network are."""
        return paths_for(self._directory, vif.network_id)

    def _place_of(self, vif: VifPlan) -> metadata.Place:
        return metadata.Place(directory=self.paths_of(vif).directory)


def _link_heard(netlink: Netlink, vif: VifPlan) -> str | None:
    """A link by which the network's dnsmasq hears what this host itself sends; None when there is none.

    Where it stands on all TAPs, that of the port has gone by then, and any other will do.
    """
    site = site_for(vif)
    if site.interface is not None:
        return site.interface
    holders = netlink.list_holders(site.server)
    return next((link.name for link in netlink.list_links() if link.index in holders), None) if holders else None
