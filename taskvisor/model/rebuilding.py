"""What is to be written to a store that lost its records, and what can't be, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from taskvisor.model.ids import FloatingId, HostName, InstanceId, NetworkId, PortId, SecurityGroupId
from taskvisor.model.network import FloatingAddress, Network, SecurityGroup
from taskvisor.model.records import Claim, Image, Instance


class ConflictKind(StrEnum):
    """Why something that is on the hosts can't be written as it is there. Somebody has to decide."""

    TWO_HOSTS = "two-hosts"
    UNREADABLE = "unreadable"
    NAME_TAKEN = "name-taken"
    ADDRESS_TAKEN = "address-taken"
    MAC_TAKEN = "mac-taken"
    VOLUME_HELD = "volume-held"
    NETWORK_UNKNOWN = "network-unknown"
    NETWORK_DIFFERS = "network-differs"
    IMAGE_NAME_TAKEN = "image-name-taken"


ADVICE: Mapping[ConflictKind, str] = {
    ConflictKind.TWO_HOSTS: "decide which host has the guest; --leave-out ID, or --without-host the other",
    ConflictKind.UNREADABLE: "upgrade that host, or mend what it names; or --leave-out ID and look after the guest by hand",
    ConflictKind.NAME_TAKEN: "--leave-out ID of one of them; it can be built anew from its disks under another name",
    ConflictKind.ADDRESS_TAKEN: "one of the guests must go: --leave-out ID of it, and shut it down on its host",
    ConflictKind.MAC_TAKEN: "one of the guests must go: --leave-out ID of it, and shut it down on its host",
    ConflictKind.VOLUME_HELD: "two guests write to one volume: shut one of them down, and --leave-out ID of it",
    ConflictKind.NETWORK_UNKNOWN: "let the hosts answer that have other ports of the network, or --leave-out ID",
    ConflictKind.NETWORK_DIFFERS: "--without-host the one that is wrong; its guests can be added later with --merge",
    ConflictKind.IMAGE_NAME_TAKEN: "--leave-out ID of one of the images; its file stays, and can be registered by its path",
}
"""What to do about each."""


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """One of them. `subject` is what --leave-out takes: the id of an instance, an image or a network."""

    kind: ConflictKind
    subject: str
    hosts: tuple[HostName, ...]
    message: str


@dataclass(frozen=True, kw_only=True)
class Note:
    """What the operator should know, and need not decide. `host` None: it is about no single one."""

    host: HostName | None
    subject: str
    message: str


@dataclass(frozen=True, kw_only=True)
class BoundFloating:
    """A floating address, and the instance whose port has it; None: no port has."""

    floating: FloatingAddress
    instance_id: InstanceId | None = None


@dataclass(frozen=True, kw_only=True)
class Reserved:
    """Addresses that a guest has which is not recorded: nobody else may be given them."""

    network_id: NetworkId
    port_id: PortId
    mac: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Present:
    """What a store has already, as far as records that are to be written could meet it there."""

    instances: frozenset[InstanceId] = frozenset()
    names: Mapping[str, InstanceId] = field(default_factory=dict)
    networks: Mapping[NetworkId, Network] = field(default_factory=dict)
    groups: Mapping[SecurityGroupId, SecurityGroup] = field(default_factory=dict)
    floating: Mapping[FloatingId, FloatingAddress] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)  # name to id, or to the operation that makes it
    addresses: Mapping[tuple[NetworkId, str], PortId] = field(default_factory=dict)
    macs: Mapping[tuple[NetworkId, str], PortId] = field(default_factory=dict)
    volumes: Mapping[str, Mapping[InstanceId, str]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Nothing is there that hosts could tell of."""
        return not (self.instances or self.networks)


@dataclass(frozen=True, kw_only=True)
class Rebuild:
    """What is to be written, all of it or nothing, and what stands against it.

    `silent`: hosts that others know of and that did not tell what they have, each with how many ports are known of it.
    """

    networks: tuple[Network, ...] = ()
    groups: tuple[SecurityGroup, ...] = ()
    floating: tuple[BoundFloating, ...] = ()
    instances: tuple[Instance, ...] = ()
    claims: tuple[Claim, ...] = ()
    images: tuple[Image, ...] = ()
    reserved: tuple[Reserved, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    notes: tuple[Note, ...] = ()
    silent: Mapping[HostName, int] = field(default_factory=dict)

    @property
    def writes_nothing(self) -> bool:
        """Everything is in the store already."""
        written = (self.networks, self.groups, self.floating, self.instances, self.images, self.reserved)
        return not any(written)
