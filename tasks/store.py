"""The store's parts under one name, as the door and the periodic work use them."""

from dataclasses import dataclass

from taskvisor.compute.resources.table import OUR_TABLE, ResourceTable
from taskvisor.model.ids import NetworkId, network_id_for
from taskvisor.model.network import Network, NetworkKind, Surroundings
from taskvisor.state.addresses import Addresses
from taskvisor.state.admission import Admission
from taskvisor.state.aggregates import AggregateChanges, Aggregates
from taskvisor.state.catalog import Catalog
from taskvisor.state.closing import Closing
from taskvisor.state.counters import Counters
from taskvisor.state.drains import DrainChanges, Drains
from taskvisor.state.explanations import Explanations
from taskvisor.state.flavors import FlavorChanges, Flavors
from taskvisor.state.fleet_view import FleetView
from taskvisor.state.floating import FloatingAddresses, FloatingChanges
from taskvisor.state.host_changes import HostChanges
from taskvisor.state.host_operations import HostOperations
from taskvisor.state.hosts import Hosts
from taskvisor.state.identities import Identities
from taskvisor.state.images import Images
from taskvisor.state.journal import RedisJournal
from taskvisor.state.networks import Networks
from taskvisor.state.orphans import Orphans
from taskvisor.state.ports import PortChanges
from taskvisor.state.repairs import Repairs
from taskvisor.state.security_groups import GroupChanges, SecurityGroups
from taskvisor.state.server_group_changes import ServerGroupChanges
from taskvisor.state.server_groups import ServerGroups
from taskvisor.state.silence import Silence
from taskvisor.state.surroundings import SurroundingsReader
from taskvisor.state.survey import Survey
from taskvisor.state.ticks import Ticks
from taskvisor.state.usage import UsageRecords
from taskvisor.state.waiting import Waiting

DEFAULT_NETWORK = "default"


@dataclass(frozen=True, kw_only=True)
class Store:
    """One process's view of all records."""

    catalog: Catalog
    admission: Admission
    addresses: Addresses
    hosts: Hosts
    identities: Identities
    images: Images
    journal: RedisJournal
    counters: Counters
    networks: Networks
    groups: SecurityGroups
    group_changes: GroupChanges
    floating: FloatingAddresses
    floating_changes: FloatingChanges
    port_changes: PortChanges
    flavors: Flavors
    flavor_changes: FlavorChanges
    surroundings: SurroundingsReader
    closing: Closing
    ticks: Ticks
    waiting: Waiting
    silence: Silence
    usage: UsageRecords
    fleet: FleetView
    aggregates: Aggregates
    aggregate_changes: AggregateChanges
    host_changes: HostChanges
    server_groups: ServerGroups
    server_group_changes: ServerGroupChanges
    explanations: Explanations
    survey: Survey
    repairs: Repairs
    orphans: Orphans
    drains: Drains
    drain_changes: DrainChanges
    host_operations: HostOperations
    default_network_cidr: str
    resources: ResourceTable = OUR_TABLE
    """The kinds of resources that guests claim."""

    def find_network(self, name: str) -> Network:
        """The network of that name. `default` is made at first use: it needs no configuration. Refused for others."""
        if name == DEFAULT_NETWORK:
            return self.networks.ensure(default_network_for(self.default_network_cidr))
        return self.catalog.find_network(name)


class RememberedNetworks:
    """Implements the flow engine's `Networks`: a network's record does not change while it has ports, so one look will do."""

    def __init__(self, catalog: Catalog, surroundings: SurroundingsReader) -> None:
        self._catalog = catalog
        self._surroundings = surroundings
        self._known: dict[NetworkId, Network] = {}

    def read_network(self, network_id: NetworkId) -> Network:
        network = self._known.get(network_id)
        if network is None:
            network = self._known[network_id] = self._catalog.read_network(network_id)
        return network

    def read_surroundings(self, network_id: NetworkId) -> Surroundings:
        """Never remembered: ports come and go."""
        return self._surroundings.read_surroundings(network_id)


def default_network_for(cidr: str) -> Network:
    """The network that needs no configuration: local to each host, translated on the way out."""
    base, _, _ = cidr.partition("/")
    first, second, third, fourth = (int(octet) for octet in base.split("."))
    return Network(
        id=network_id_for(DEFAULT_NETWORK),
        name=DEFAULT_NETWORK,
        kind=NetworkKind.NAT,
        cidr=cidr,
        gateway=f"{first}.{second}.{third}.{fourth + 1}",
    )
