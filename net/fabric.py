"""The network side of this host, for steps: plug, unplug, list. Composes; each part's rules are in its own module.

Layout below the state directory: `net/networks/<network id>/` (DHCP), `net/filters/` (what filters of ports follow from),
`net/surroundings/` (what was told of each network, for a store that was lost), `net/locks/` (and what the firewall is known to
hold), `net/ovs/` (a note for each port that may be on an Open vSwitch bridge), and `net/forwarding` when it was we who switched
forwarding on.

One lock per network makes plug and unplug take turns, so the last unplug can't take the bridge from under a first
plug. Order of a plug: what may be refused first (the device's name, the bridge's), the guest's link up last, when its
filters and DHCP are there. An unplug goes by what it finds on the bridge, not by what a plug is said to have done.
What each kind of network is made of is in net/segments.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from net.filters.connections import Connections
from net.filters.firewall import Firewall
from net.filters.port_filters import PortFilters
from net.filters.port_rules import PortRules, port_rules_for
from net.filters.ruleset import network_rules_for
from net.filters.transactions import Transactions
from net.kept_surroundings import KeptSurroundings, ports_in
from net.links.counters import read_outward_counters
from net.links.link import MACVTAP, TAP, Link
from net.links.netlink import Netlink, open_netlink
from net.links.outer import announce, ensure_held, ensure_let_go, list_held
from net.links.shaping import ensure_shaped, ensure_unshaped, shape_plan_for
from net.links.sysctl import ensure_forwarding
from net.locks import ensure_locked
from net.ovs.segment import SwitchSegment
from net.plan import FILTERED_KINDS, bridge_name_for, parse_owner
from net.plugged import LinksSeen, lacking_in
from net.segments.registry import segment_for
from net.segments.segment import Segment
from net.services.provision import Services
from taskvisor.model.holdings import NetworkCopy
from taskvisor.model.ids import NetworkId, PortId
from taskvisor.model.measured import TrafficCounters
from taskvisor.model.network import NetworkKind, Surroundings
from taskvisor.model.observed import DhcpFacts, LinkFacts, PlugLack, PlugMemory
from taskvisor.model.plan import VifPlan

log = structlog.get_logger(__name__)

OVSDB = "unix:/run/openvswitch/db.sock"
"""Where Open vSwitch's packages let its database listen."""


class LinuxFabric:
    """The Fabric of a Linux host (taskvisor/flow/ports.py). Any number of processes may have one of the same directory.

    Make it after fork: it remembers what its own process has seen of the firewall. No socket or lock is kept.
    """

    def __init__(self, state_dir: Path, *, ovsdb: str = OVSDB) -> None:
        self._directory = state_dir / "net"
        self._locks = self._directory / "locks"
        transactions = Transactions(self._locks / "firewall")
        self._firewall = Firewall(transactions)
        self._filters = PortFilters(transactions, self._directory / "filters")
        self._connections = Connections(self._directory / "filters")
        self._services = Services(self._directory / "networks", transactions)
        self._switch = SwitchSegment(ovsdb, self._directory / "ovs")
        self._kept = KeptSurroundings(self._directory / "surroundings")

    def ensure_plugged(self, vif: VifPlan) -> None:
        """The port's device, what its network is made of here, filters, NAT and DHCP entry are there; the device is on it
        and up.

        Contradiction when a name that is ours by right is a stranger's; DoesNotFit when this host lacks a program, a device,
        a right, or what the kind of network needs, or has the network's addresses on another link; Busy when the network is
        locked for 20 s.
        """
        segment = self._segment(vif.kind)
        with self._locked(vif.network_id), open_netlink() as netlink:
            device = segment.ensure_device(netlink, vif)
            if vif.kind is not NetworkKind.MACVTAP:
                ensure_shaped(netlink, device, shape_plan_for(vif))
            bridge = segment.ensure_made(netlink, vif)
            rules = network_rules_for(vif)
            if rules is not None:
                self._firewall.ensure_network(rules)
            if vif.kind is NetworkKind.ROUTED or (rules is not None and rules.nat):
                ensure_forwarding(self._directory / "forwarding")
            if vif.dhcp:
                self._services.ensure_served(netlink, vif, bridge)
            self._ensure_filtered(vif, bridge)
            self._filters.ensure_tap_served(vif)
            segment.ensure_joined(netlink, vif, device)

    def ensure_unplugged(self, vif: VifPlan) -> None:
        """The device and the DHCP entry are gone; the last port's removal takes what we made for the network with it.

        A bridge that a stranger put a link on stays, with its DHCP and rules. Contradiction when the TAP's name is a
        stranger's; Busy as above.
        """
        segment = self._segment(vif.kind)
        with self._locked(vif.network_id), open_netlink() as netlink:
            segment.ensure_device_absent(netlink, vif)
            if vif.kind is not NetworkKind.MACVTAP:
                ensure_unshaped(netlink, shape_plan_for(vif))
            # Held is read before translated: another network's new address is that first, then held.
            held = list_held(netlink)
            ensure_let_go(netlink, held - self._filters.ensure_gone(vif))
            self._connections.ensure_forgotten(vif)
            self._services.ensure_unserved(netlink, vif)
            if segment.is_unused(netlink, vif):
                # Any order would converge: what finds no bridge removes all the rest, too. The users before the used.
                self._services.ensure_network_absent(vif)
                if network_rules_for(vif) is not None:
                    self._firewall.ensure_network_absent(vif.bridge)
                self._filters.ensure_bridge_absent(vif.bridge)
                self._connections.ensure_network_absent(bridge_name_for(vif.network_id))
                segment.ensure_absent(netlink, vif)
            self._ensure_kept_if_used(netlink, vif.network_id)

    def ensure_told(self, vif: VifPlan, documents: Mapping[str, str]) -> None:
        """See `Fabric.ensure_told`. Errors as of net/services/metadata.py; Busy as above."""
        with self._locked(vif.network_id), open_netlink() as netlink:
            self._services.ensure_told(netlink, vif, documents)

    def ensure_surroundings(self, around: Surroundings) -> None:
        """See `Fabric.ensure_surroundings`. Errors as of `ensure_plugged`."""
        with self._locked(around.network.id), open_netlink() as netlink:
            self._segment(around.network.kind).ensure_reached(netlink, around)
            here = _ports_in(netlink)
            ports = self._filters.ensure_groups(around, here)
            self._connections.ensure_judged(ports, around, lambda: _addresses_of(netlink))
            self._ensure_floating(netlink, around, here)
            if not ports_in(around).isdisjoint(_owned_ports_in(netlink)):
                self._kept.ensure_kept(around)

    def list_missing(self, vifs: Sequence[VifPlan]) -> tuple[PlugLack, ...]:
        """See `Fabric.list_missing`: one look at all links, one at the filters, and one at each network's DHCP."""
        if not vifs:
            return ()
        with open_netlink() as netlink:
            links = LinksSeen.of(netlink)
        ports = [rules for vif in vifs if (rules := _port_rules_for(vif, links.by_name.get(vif.bridge))) is not None]
        unfiltered = self._filters.list_lacking(ports)
        lacks = lacking_in(
            vifs, links=links, filters=self._firewall.read(), unfiltered=unfiltered, services=self._services
        )
        return tuple(lack for lack in lacks if lack.parts)

    def read_traffic(self) -> TrafficCounters | None:
        """What has gone over the interfaces that lead out of this host, together; None when it has none."""
        return read_outward_counters()

    def find_plug(self, tap: str) -> PlugMemory | None:
        """See `Fabric.find_plug`: by what its filters follow from. A port on no bridge (`routed`) has none to be found by."""
        rules = self._filters.find_remembered(tap)
        if rules is None or rules.segment is None:
            return None
        return PlugMemory(bridge=rules.segment.bridge, mac=rules.mac, address=rules.addresses[0])

    def list_links(self) -> tuple[LinkFacts, ...]:
        """TAPs and macvtaps on this host that bear our alias."""
        with open_netlink() as netlink:
            taps = [link for link in netlink.list_links() if link.kind in (TAP, MACVTAP)]
        return tuple(
            LinkFacts(name=tap.name, owner=tap.alias)
            for tap in taps
            if tap.alias and parse_owner(tap.alias) is not None
        )

    def list_dhcp(self) -> tuple[DhcpFacts, ...]:
        """What the dnsmasq of each network is told, in the order of networks. A host without networks has no such files."""
        return self._services.list_dhcp()

    def list_kept_networks(self) -> tuple[NetworkCopy, ...]:
        """See `Fabric.list_kept_networks`."""
        return self._kept.list_all()

    def _segment(self, kind: NetworkKind) -> Segment:
        return self._switch if kind is NetworkKind.OVS else segment_for(kind)

    def _ensure_floating(self, netlink: Netlink, around: Surroundings, here: frozenset[PortId]) -> None:
        """What is translated, then who answers for it. An address that has come is announced even if whoever gave it to the
        host died before it did; one that goes is let go last, so that it is known until nothing uses it.
        """
        name, before = bridge_name_for(around.network.id), self._filters.list_outer()
        pairs = self._filters.ensure_floating(around, here)
        ensure_held(netlink, pairs)
        held = list_held(netlink)  # before what is translated: another network's new address is that first, then held
        gone = (before | held) - self._filters.list_outer()
        if gone or not self._connections.is_translation_settled(name, pairs):
            announce(netlink, pairs)
            self._connections.ensure_translated(name, pairs, gone)
        ensure_let_go(netlink, gone)

    def _ensure_filtered(self, vif: VifPlan, bridge: Link | None) -> None:
        """The port's filter is there, before its device is up. A port without anti-spoofing has none, nor has one whose frames
        pass neither a bridge nor the routing of this host.
        """
        rules = _port_rules_for(vif, bridge)
        if rules is not None:
            self._filters.ensure_port(rules)
            return
        self._filters.ensure_port_absent(vif.tap)
        if vif.anti_spoofing:
            log.warning("port_without_filters", tap=vif.tap, kind=vif.kind)

    def _ensure_kept_if_used(self, netlink: Netlink, network_id: NetworkId) -> None:
        """What was told of the network goes with its last port here."""
        if self._kept.ports_of(network_id).isdisjoint(_owned_ports_in(netlink)):
            self._kept.ensure_gone(network_id)

    @contextmanager
    def _locked(self, network_id: NetworkId) -> Iterator[None]:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o755)  # dnsmasq is an unprivileged user and has its files below
        self._locks.mkdir(mode=0o700, exist_ok=True)  # whoever can open a lock file can hold it
        with ensure_locked(self._locks / network_id, f"network {network_id}"):
            yield


def _port_rules_for(vif: VifPlan, bridge: Link | None) -> PortRules | None:
    """How the port is filtered; None for one that is not."""
    if not vif.anti_spoofing or vif.kind not in FILTERED_KINDS:
        return None
    return port_rules_for(vif, bridge_mac=bridge.mac if bridge else None)


def _addresses_of(netlink: Netlink) -> frozenset[str]:
    """This host's own addresses, of both families."""
    own = (str(held.interface.ip) for held in netlink.list_addresses())
    return frozenset((*own, *(str(held.interface.ip) for held in netlink.list_addresses6())))


def _ports_in(netlink: Netlink, kinds: tuple[str, ...] = (TAP,)) -> frozenset[PortId]:
    """The ports that have a TAP of ours on this host."""
    owners = (parse_owner(link.alias) for link in netlink.list_links() if link.kind in kinds)
    return frozenset(owner.port_id for owner in owners if owner is not None)


def _owned_ports_in(netlink: Netlink) -> frozenset[PortId]:
    """The ports that have any device of ours on this host."""
    return _ports_in(netlink, (TAP, MACVTAP))
