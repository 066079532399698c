"""Which machine a host is: what it keeps of itself on its disk, what the store has of it, and what is seen at a start.

Values only. Who judges them is `taskvisor.compute.identity`.
"""

from dataclasses import dataclass
from enum import StrEnum

from taskvisor.model.ids import HostName, InstanceId

IDENTITY_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class HostIdentity:
    """Who a host is, as its state directory says in `identity.json`. `id` is made once and never again.

    `machine_id` is machine-id(5), `hypervisor_id` libvirt's UUID of its host
    (https://libvirt.org/formatcaps.html#element-host) if that lasts; each None where there is none. `registered` False: the
    start that made the file has not come to its end, so the store may not know of it yet.
    """

    id: str
    host: HostName
    machine_id: str | None
    hypervisor_id: str | None
    created_at: float
    registered: bool = False
    schema: int = IDENTITY_SCHEMA


@dataclass(frozen=True, kw_only=True)
class Seat:
    """Where a node runs: this boot of this machine, over this state directory. Its locks hold within one seat."""

    machine_id: str | None
    boot_id: str
    state_dir: str


@dataclass(frozen=True, kw_only=True)
class IdentityRecord:
    """What the store has of a host's identity, and where its nodes started last."""

    id: str
    seat: Seat
    hypervisor_id: str | None
    registered_at: float


class Role(StrEnum):
    """What a node of a host is for."""

    STEPS = "steps"
    CONTROL = "control"


@dataclass(frozen=True, kw_only=True)
class Beat:
    """A heartbeat in the store: of whom, and for how long it holds if it is not renewed."""

    role: Role
    incarnation: str
    left_ms: int


@dataclass(frozen=True, kw_only=True)
class KnownHost:
    """All that the store has about one host that matters at its start, seen in one look. `text` is the record as stored.

    `reported`: it has told its inventory at some time. `instances` is how many are recorded on it. `store_closed`: the store is
    known to have lost its records, and lets nobody build until they are read back from the hosts.
    """

    record: IdentityRecord | None
    text: str | None
    reported: bool
    instances: int
    beats: tuple[Beat, ...]
    store_closed: bool = False


@dataclass(frozen=True, kw_only=True)
class GuestHere:
    """A domain with our metadata on this machine, by its own name. `recorded_on` is its host by the records, if it has one."""

    id: InstanceId
    name: str
    recorded_on: HostName | None = None


@dataclass(frozen=True, kw_only=True)
class HostLook:
    """What the hypervisor says at a start. Only of one that has answered is there a look."""

    hypervisor_id: str | None
    guests: tuple[GuestHere, ...]
