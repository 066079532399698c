"""What mends a finding: a change of records under conditions, or what is asked of somebody; or why only a person can.

A key is named as `taskvisor/state/keys.py` lists it, without the prefix. Values only: who decides is `compute/repairs.py`, who
writes is `state/repairs.py`, who acts on a host is `tasks/host_repair.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from taskvisor.model.finding import Code
from taskvisor.model.flavor_record import FlavorRecord
from taskvisor.model.history import Cause
from taskvisor.model.ids import HostName, InstanceId, NetworkId, PortId
from taskvisor.model.network import Network
from taskvisor.model.operation import Operation
from taskvisor.model.records import Claim, Image, Instance
from taskvisor.model.spec import Spec


class RepairSpec(Spec):
    """One finding that is to be mended, as `taskvisor verify` names it."""

    code: Annotated[Code, Field(strict=False)]
    subject: Annotated[str, Field(min_length=1, max_length=512)]
    host: Annotated[str, Field(min_length=1, max_length=64)] | None = None


@dataclass(frozen=True, kw_only=True)
class FieldIs:
    """That hash has that field, with this value."""

    key: str
    field: str
    value: str


@dataclass(frozen=True, kw_only=True)
class FieldAbsent:
    """That hash has no such field, or is not there."""

    key: str
    field: str


@dataclass(frozen=True, kw_only=True)
class FieldThere:
    """That hash has that field, whatever it says."""

    key: str
    field: str


@dataclass(frozen=True, kw_only=True)
class KeyAbsent:
    """There is no such key."""

    key: str


@dataclass(frozen=True, kw_only=True)
class Unchanged:
    """The record under that key, of this kind, is as it was read, to the letter."""

    key: str
    record: Instance | Image | Network | FlavorRecord


@dataclass(frozen=True, kw_only=True)
class NotedBefore:
    """That sorted set has the member, with a score of at most `at_most`."""

    key: str
    member: str
    at_most: float


@dataclass(frozen=True, kw_only=True)
class NotNoted:
    """That sorted set has no such member."""

    key: str
    member: str


@dataclass(frozen=True, kw_only=True)
class HeldAlone:
    """Nobody but the holder has the volume, or all who have it share it, as the holder does."""

    identity: str
    holder: InstanceId
    mode: str


Condition = FieldIs | FieldAbsent | FieldThere | KeyAbsent | Unchanged | NotedBefore | NotNoted | HeldAlone


@dataclass(frozen=True, kw_only=True)
class PutField:
    """That hash has the field with this value."""

    key: str
    field: str
    value: str


@dataclass(frozen=True, kw_only=True)
class DropField:
    """That hash has no such field."""

    key: str
    field: str


@dataclass(frozen=True, kw_only=True)
class DropKey:
    """There is no such key."""

    key: str


@dataclass(frozen=True, kw_only=True)
class AddMember:
    """That set has the member; a sorted one with its `score`."""

    key: str
    member: str
    score: float | None = None


@dataclass(frozen=True, kw_only=True)
class DropMember:
    """That set, sorted or not, has no such member."""

    key: str
    member: str
    is_sorted: bool


@dataclass(frozen=True, kw_only=True)
class PutInstance:
    """The instance's record is this, and that is why."""

    instance: Instance
    cause: Cause


@dataclass(frozen=True, kw_only=True)
class PlacePorts:
    """The instance's ports, and no others of it, are members of their networks and groups."""

    instance: Instance


@dataclass(frozen=True, kw_only=True)
class ForgetPorts:
    """No port of the instance is a member of any network or group."""

    instance_id: InstanceId


@dataclass(frozen=True, kw_only=True)
class PutClaim:
    """What the instance has of its host is held for it, whether or not there is room: it is in use."""

    claim: Claim


@dataclass(frozen=True, kw_only=True)
class DropClaim:
    """Nothing of the host is held for the instance."""

    host: HostName
    instance_id: InstanceId


@dataclass(frozen=True, kw_only=True)
class FreeThings:
    """These things of the host are nobody's."""

    host: HostName
    things: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class HoldThing:
    """That thing of the host is the instance's alone."""

    host: HostName
    thing: str
    instance_id: InstanceId


@dataclass(frozen=True, kw_only=True)
class SumClaims:
    """What is noted as used of the host is the sum of its claims."""

    host: HostName


@dataclass(frozen=True, kw_only=True)
class FreePort:
    """The port's addresses and these MACs are given back."""

    network_id: NetworkId
    port_id: PortId
    macs: tuple[str, ...]


Change = (
    PutField
    | DropField
    | DropKey
    | AddMember
    | DropMember
    | PutInstance
    | PlacePorts
    | ForgetPorts
    | PutClaim
    | DropClaim
    | FreeThings
    | HoldThing
    | SumClaims
    | FreePort
)


@dataclass(frozen=True, kw_only=True)
class RecordRepair:
    """Records are changed, all or none, if every condition still holds then. `done` says what was done, as a sentence."""

    done: str
    conditions: tuple[Condition, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True, kw_only=True)
class HostRepair:
    """The host looks for itself, under the instance's lock, and mends what it then finds."""

    host: HostName


@dataclass(frozen=True, kw_only=True)
class SendOn:
    """The operation is sent on from where its journal says it is, which is harmless once too often."""

    done: str
    operation: Operation


@dataclass(frozen=True, kw_only=True)
class AskRemoval:
    """The image's host is asked once more to remove its file."""

    done: str
    image: Image


@dataclass(frozen=True, kw_only=True)
class ByHand:
    """Nothing is done: why, and what a person may do."""

    why: str


Repair = RecordRepair | HostRepair | SendOn | AskRemoval | ByHand

REPAIRS: Mapping[Code, str] = {
    Code.DOMAIN_MISSING: "the domain is defined anew from its record, off, if its directory is there",
    Code.POWER_DIFFERS: "the record follows the hypervisor",
    Code.LINK_WITHOUT_RECORD: "the link, its filters and its DHCP entry are removed, if no domain of the host has it",
    Code.LINK_MISSING: "the plug is made whole",
    Code.LINK_NOT_OPEN: "the guest is given the NIC anew",
    Code.FILTER_MISSING: "the plug is made whole",
    Code.DHCP_MISSING: "the plug is made whole",
    Code.METADATA_MISSING: "the plug is made whole",
    Code.IMAGE_DELETION_OVERDUE: "the host is asked once more to remove the file",
    Code.GUEST_DRIFTED: "the domain is defined anew from its record; a guest that runs has it from its next start",
    Code.CLAIM_WITHOUT_INSTANCE: "the claim, or what was held, is given back",
    Code.INSTANCE_WITHOUT_CLAIM: "what the instance has is claimed, also beyond what there is: the guest is there",
    Code.THING_NOT_HELD: "the thing is held for the instance, if nobody else has it",
    Code.USED_DIFFERS: "the amounts become the sum of the claims",
    Code.NAME_WITHOUT_INSTANCE: "the name is given back",
    Code.INSTANCE_WITHOUT_NAME: "the name is the instance's, if no other instance has it",
    Code.INSTANCE_WITHOUT_OPERATION: "the record says that it is at rest; one that was being built is in error",
    Code.ADDRESS_WITHOUT_PORT: "the address is given back",
    Code.PORT_WITHOUT_ADDRESS: "the address is noted as the port's",
    Code.PORT_WITHOUT_INSTANCE: "the port's addresses and MAC are given back",
    Code.INSTANCE_WITHOUT_PORT: "address and MAC are noted as its port's, if nobody else has them",
    Code.MAC_WITHOUT_PORT: "the MAC is given back",
    Code.ALLOCATION_FORGOTTEN: "the address is given back, as a sweep does it",
    Code.ALLOCATION_OF_INSTANCE: "the note is removed",
    Code.MEMBER_DIFFERS: "the port's places are noted anew, as the record has them",
    Code.MEMBER_WITHOUT_PORT: "the entry is removed, if no request is being let in for the port",
    Code.LEASE_WITHOUT_OPERATION: "the lease is given back, if nobody waits for it",
    Code.OPERATION_WITHOUT_LEASE: "the operation gets its lease back, if the record shows that no other has held it since",
    Code.OPERATION_OVERDUE: "the operation is sent on once more",
    Code.IMAGE_NAME_WITHOUT_IMAGE: "the name is given back",
    Code.VOLUME_NOT_HELD: "the volume is held for the instance, if nobody else has it",
    Code.CONNECTION_WITHOUT_RECORD: "the volume is disconnected, if no domain of the host has it",
    Code.CONNECTION_MISSING: "the volume is connected for the instance, which changes nothing for a guest that has it",
    Code.INDEX_DIFFERS: "the set lists what there is a record of, and nothing else",
}
"""What `verify --fix` does about each finding that it may mend. docs/verify.md says why each is safe."""

_QUARANTINED = "whether anybody needs it can't be told at one look; `taskvisor orphans` tells what becomes of it"

NOT_REPAIRED: Mapping[Code, str] = {
    Code.DOMAIN_WITHOUT_RECORD: _QUARANTINED,
    Code.DOMAIN_ELSEWHERE: "which of the two is in use can't be told from here",
    Code.DIRECTORY_WITHOUT_RECORD: _QUARANTINED,
    Code.DIRECTORY_MISSING: "what was on its disks is not known here",
    Code.DISK_WITHOUT_RECORD: "the pool may be shared with other fleets, and a disk that is removed is lost",
    Code.DHCP_WITHOUT_RECORD: "whose it was can't be told from the entry; with the port's link it goes by itself",
    Code.IMAGE_FILE_WITHOUT_RECORD: "a file that is removed is lost",
    Code.IMAGE_FILE_MISSING: "what was in the file is not known here",
    Code.HOST_FORCED_DOWN_SPEAKS: "whether it is dead, and whoever called it so was wrong, only a person can see",
    Code.HOST_SILENT: "a host that does not answer can't be asked to do anything, and its silence proves nothing",
    Code.DISK_DRIFTED: "a guest's data would be lost",
    Code.HOST_MARKED: "what the host says of itself can't be true; only the host, or its settings, can be put right",
    Code.USAGE_DIFFERS: "which of its guests is another than recorded is a finding of its own, and is mended as that",
    Code.CLAIM_BEYOND_CAPACITY: "it would take a guest away, or give the host more than it has",
    Code.ADDRESS_HELD_TWICE: "one of two guests would lose its address",
    Code.OPERATION_WITHOUT_INSTANCE: "what the operation is about is known to nobody",
    Code.OPERATION_STUCK: "what it left alone is for a person to judge",
    Code.VOLUME_HOLD_LEFT: "a host that is not asked, or silent, may still write to it",
    Code.VOLUME_HELD_TWICE: "one of two guests would lose its volume",
    Code.RECORD_UNREADABLE: "what it says can't be known",
    Code.DEAD_LETTERS: "they are kept for somebody to read",
    Code.QUEUE_ORPHANED: "the messages are the silent host's",
}
"""Why it does nothing about the others; `ADVICE` says what to do by hand."""
