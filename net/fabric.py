"""The network side of this host, for steps: plug, unplug, list. Composes; each part's rules are in its own module.

Layout below the state directory: `net/networks/<network id>/` (DHCP), `net/locks/`, and `net/forwarding` when it was
we who switched forwarding on.

One lock per network makes plug and unplug take turns, so the last unplug can't take the bridge from under a first
plug. Order of a plug: what may be refused first (the TAP's name, the bridge's), the guest's link up last, when its
filters and DHCP are there. An unplug goes by what it finds on the bridge, not by what a plug is said to have done.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from net.filters.firewall import Firewall
from net.filters.ruleset import NetworkRules
from net.links.bridge import ensure_bridge, ensure_bridge_absent_when_unused, read_bridge
from net.links.netlink import TAP, Netlink, open_netlink
from net.links.sysctl import ensure_forwarding
from net.links.tap import ensure_tap, ensure_tap_absent, ensure_tap_on_bridge
from net.locks import ensure_locked
from net.plan import bridge_name_for, bridge_plan_for, parse_owner
from net.services.dhcp import ensure_absent, ensure_forgotten, ensure_served, read_entries
from net.services.dnsmasq import Paths, paths_for
from taskvisor.model.errors import CannotAsk
from taskvisor.model.ids import NetworkId
from taskvisor.model.network import Surroundings
from taskvisor.model.observed import DhcpFacts, LinkFacts
from taskvisor.model.plan import VifPlan

log = structlog.get_logger(__name__)


class LinuxFabric:
    """The Fabric of a Linux host (taskvisor/flow/ports.py). Any number of processes may have one of the same directory.

    Make it after fork: it remembers what its own process has seen of the firewall. No socket or lock is kept.
    """

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir / "net"
        self._locks = self._directory / "locks"
        self._firewall = Firewall(self._locks / "firewall")

    def ensure_plugged(self, vif: VifPlan) -> None:
        """Bridge, TAP, NAT and DHCP entry are there, and the TAP is on the bridge and up.

        Contradiction when the TAP's or the bridge's name is a stranger's; DoesNotFit when this host lacks a program, a
        device, a right, or has the network's addresses on another link; Busy when the network is locked for 20 s.
        """
        with self._locked(vif.network_id), open_netlink() as netlink:
            tap = ensure_tap(netlink, name=vif.tap, owner=vif.owner, mtu=vif.mtu)
            bridge = ensure_bridge(netlink, bridge_plan_for(vif))
            self._firewall.ensure_network(NetworkRules(bridge=vif.bridge, cidr=vif.cidr, nat=vif.nat))
            if vif.nat:
                ensure_forwarding(self._directory / "forwarding")
            if vif.dhcp:
                ensure_served(vif, bridge_index=bridge.index, paths=self._paths(vif))
            ensure_tap_on_bridge(netlink, tap, bridge)

    def ensure_unplugged(self, vif: VifPlan) -> None:
        """The TAP and the DHCP entry are gone; the last port's removal takes what we made for the network with it.

        A bridge that a stranger put a link on stays, with its DHCP and rules. Contradiction when the TAP's name is a
        stranger's; Busy as above.
        """
        with self._locked(vif.network_id), open_netlink() as netlink:
            ensure_tap_absent(netlink, name=vif.tap, owner=vif.owner)
            ensure_forgotten(vif, paths=self._paths(vif))
            if self._is_unused(netlink, vif):
                self._ensure_network_absent(netlink, vif)

    def ensure_surroundings(self, around: Surroundings) -> None:
        """See `Fabric.ensure_surroundings`."""

    def list_links(self) -> tuple[LinkFacts, ...]:
        """TAPs on this host that bear our alias."""
        with open_netlink() as netlink:
            taps = [link for link in netlink.list_links() if link.kind == TAP]
        return tuple(
            LinkFacts(name=tap.name, owner=tap.alias)
            for tap in taps
            if tap.alias and parse_owner(tap.alias) is not None
        )

    def list_dhcp(self) -> tuple[DhcpFacts, ...]:
        """What the dnsmasq of each network is told, in the order of networks. A host without networks has no such files."""
        networks = self._directory / "networks"
        try:
            names = sorted(path.name for path in networks.iterdir())
            found = [(name, entry) for name in names for entry in read_entries(paths_for(networks, NetworkId(name)))]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise CannotAsk(f"cannot read what DHCP is told below {networks}: {error.strerror}") from error
        return tuple(
            DhcpFacts(
                bridge=bridge_name_for(NetworkId(name)), mac=entry.mac, address=entry.address, hostname=entry.hostname
            )
            for name, entry in found
        )

    def _is_unused(self, netlink: Netlink, vif: VifPlan) -> bool:
        bridge = read_bridge(netlink, bridge_plan_for(vif))
        if bridge is None:
            return True
        ports = netlink.list_ports(bridge)
        strangers = [port.name for port in ports if parse_owner(port.alias) is None]
        if strangers:
            log.warning("bridge_kept_for_links_of_strangers", bridge=bridge.name, links=strangers)
        return not ports

    def _ensure_network_absent(self, netlink: Netlink, vif: VifPlan) -> None:
        """Any order would converge: an unplug that finds no bridge removes all the rest, too. The users before the used."""
        ensure_absent(self._paths(vif))
        self._firewall.ensure_network_absent(vif.bridge)
        ensure_bridge_absent_when_unused(netlink, bridge_plan_for(vif))

    def _paths(self, vif: VifPlan) -> Paths:
        return paths_for(self._directory / "networks", vif.network_id)

    @contextmanager
    def _locked(self, network_id: NetworkId) -> Iterator[None]:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o755)  # dnsmasq is an unprivileged user and has its files below
        self._locks.mkdir(mode=0o700, exist_ok=True)  # whoever can open a lock file can hold it
        with ensure_locked(self._locks / network_id, f"network {network_id}"):
            yield
