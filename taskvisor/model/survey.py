"""All that is recorded, read at one time, for whoever compares it with itself and with the hosts.

Unlike the records themselves these values may disagree with each other: that is what an audit looks for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from taskvisor.model.flavor_record import FlavorRecord
from taskvisor.model.host_mark import HostMark
from taskvisor.model.ids import HostName, InstanceId, NetworkId, OperationId, PortId, SecurityGroupId
from taskvisor.model.network import Member, Network
from taskvisor.model.operation import Operation
from taskvisor.model.records import Image, Instance, Inventory, Resources


@dataclass(frozen=True, kw_only=True)
class LeaseRecord:
    """Who may change an instance, as it is stored."""

    operation_id: OperationId
    token: int


@dataclass(frozen=True, kw_only=True)
class HostRecord:
    """A host. `incarnation` is that of its living node, None when it is silent; `used` and `claims` were read in one look."""

    inventory: Inventory | None
    disabled_reason: str | None
    incarnation: str | None
    power_synced_at: float | None
    used: Resources
    claims: Mapping[InstanceId, Resources]
    forced_down: HostMark | None = None
    held: Mapping[str, InstanceId] = field(default_factory=dict)
    """What one instance alone has of it, by the thing's name."""


@dataclass(frozen=True, kw_only=True)
class NetworkRecord:
    """A network and what is given out on it. `network` is None when there is no record that could be read.

    `addresses6` and `ports6` are of IPv6; those of a network without it are empty. `members` are what others know of
    its ports.
    """

    network: Network | None
    addresses: Mapping[str, PortId]
    ports: Mapping[PortId, str]
    addresses6: Mapping[str, PortId] = field(default_factory=dict)
    ports6: Mapping[PortId, str] = field(default_factory=dict)
    members: Mapping[PortId, Member] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GroupedPort:
    """A port as the index of a security group has it."""

    network_id: NetworkId
    member: Member


@dataclass(frozen=True, kw_only=True)
class AllocationNote:
    """A port that was given out to a request that was not yet an operation."""

    network_id: NetworkId
    port_id: PortId
    mac: str
    noted_at: float


@dataclass(frozen=True, kw_only=True)
class QueueDepth:
    """Messages of one queue: waiting, in flight by consumer, and in the dead-letter list."""

    waiting: int
    in_flight: Mapping[HostName, int]
    dead: int


@dataclass(frozen=True, kw_only=True)
class Indexes:
    """The sets by which records are found, as they are stored. `operations` are those of the operations read that `ops` lists.
    `servers` are the members of server groups, by the group's id, and the hosts that they are noted on.
    """

    instances: frozenset[str]
    instances_on: Mapping[HostName, frozenset[str]]
    operations: frozenset[str]
    unsettled: frozenset[str]
    operations_on: Mapping[HostName, frozenset[str]]
    stuck: frozenset[str]
    hosts: frozenset[str]
    networks: Mapping[str, str]
    flavors: Mapping[str, str] = field(default_factory=dict)
    """Names to ids."""
    flavor_ids: Mapping[str, str] = field(default_factory=dict)
    """Ids to names."""
    histories: frozenset[str] = frozenset()
    """Instances of which moves are kept."""
    servers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Records:
    """The records at one time.

    `operations` are those that still matter: unsettled, STUCK, or named by a lease, an index or an image's name.
    `images` are by name, as `image_names` (name to the id of an image, or of the operation that makes it). `macs` are by
    network and MAC. `unreadable` are keys (as taskvisor/state/keys.py lists them) whose content is not known, and why: what
    they stand for *may* be there. `volumes` are by identity: who holds each, and how. `nics` (by instance: the network and
    the groups that each of its ports is placed in) and `grouped` (by security group) are, with the networks' members, the index
    of who is on which network and in which group.
    """

    read_at: float
    instances: Mapping[InstanceId, Instance]
    operations: Mapping[OperationId, Operation]
    leases: Mapping[InstanceId, LeaseRecord]
    hosts: Mapping[HostName, HostRecord]
    names: Mapping[str, InstanceId]
    images: Mapping[str, Image]
    image_names: Mapping[str, str]
    networks: Mapping[NetworkId, NetworkRecord]
    macs: Mapping[tuple[NetworkId, str], PortId]
    allocating: tuple[AllocationNote, ...]
    queues: Mapping[str, QueueDepth]
    indexes: Indexes
    unreadable: Mapping[str, str] = field(default_factory=dict)
    volumes: Mapping[str, Mapping[InstanceId, str]] = field(default_factory=dict)
    nics: Mapping[InstanceId, Mapping[PortId, tuple[str, ...]]] = field(default_factory=dict)
    grouped: Mapping[SecurityGroupId, Mapping[PortId, GroupedPort]] = field(default_factory=dict)
    flavors: Mapping[str, FlavorRecord] = field(default_factory=dict)
    """By name. None while no flavor has ever been changed."""

    def unsettled(self) -> tuple[Operation, ...]:
        """The operations of which something is still to be done."""
        return tuple(operation for operation in self.operations.values() if not operation.phase.settled)

    def reported_hosts(self) -> tuple[HostName, ...]:
        """Hosts that have told what they have."""
        return tuple(name for name, host in self.hosts.items() if host.inventory is not None)

    def is_silent(self, host: HostName) -> bool:
        """No node of the host is heard of."""
        record = self.hosts.get(host)
        return record is None or record.incarnation is None

    def waiting_in(self, queue: str) -> int:
        """Messages that no worker has taken yet."""
        depth = self.queues.get(queue)
        return depth.waiting if depth else 0

    def is_unreadable(self, *names: str) -> bool:
        """The record of one of these could not be read."""
        return any(key.partition(":")[2] in names for key in self.unreadable)

    def any_unreadable(self, *kinds: str) -> bool:
        """Some record of one of these kinds (the beginning of its key) could not be read."""
        return any(key.startswith(kinds) for key in self.unreadable)
