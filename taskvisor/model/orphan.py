"""What a host has that no record is of, while it is in quarantine: noted, confirmed by a second look much later, then by policy.

Values only. docs/verify.md says what is done with what, and when.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from taskvisor.model.ids import InstanceId
from taskvisor.model.observed import ConnectedVolume, DhcpFacts, DomainFacts, ImageFileFacts, LinkSeen
from taskvisor.model.spec import Spec


class OrphanKind(StrEnum):
    """What it is, in the order in which it is taken away: who uses before what is used."""

    DOMAIN = "domain"
    LINK = "link"
    CONNECTION = "connection"
    DIRECTORY = "directory"
    CLAIM = "claim"
    DHCP = "dhcp"
    DISK = "disk"
    IMAGE_FILE = "image-file"


REAPED = (OrphanKind.DOMAIN, OrphanKind.LINK, OrphanKind.CONNECTION, OrphanKind.DIRECTORY, OrphanKind.CLAIM)
"""The others are only ever told of: what is in them is lost when they go, or whose they were can't be told from them."""


class OrphanAction(StrEnum):
    """What is done with an orphan that is confirmed."""

    NOOP = "noop"
    LOG = "log"
    STOP = "stop"
    REAP = "reap"


@dataclass(frozen=True, kw_only=True)
class Stray:
    """One thing that no record is of, at one look. `ours` False: nothing shows that this installation made it."""

    kind: OrphanKind
    subject: str
    said: str
    instance_id: InstanceId | None = None
    ours: bool = True

    @property
    def key(self) -> str:
        """What it is known by on its host."""
        return f"{self.kind.value} {self.subject}"


@dataclass(frozen=True, kw_only=True)
class Orphan:
    """A stray in quarantine. `kept`: an operator wants it to stay. `predates`: it was there before the store knew this host.

    `begun_at`: when it began to be taken away; it names what is set aside, so that an interrupted removal goes on as the same.
    """

    stray: Stray
    first_seen: float
    last_seen: float
    times: int = 1
    kept: bool = False
    predates: bool = False
    begun_at: float | None = None
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class StoreSeen:
    """Which store this is, and how often this host has asked it. `run` changes when Redis is started anew, maybe from an older
    copy; `recorded`: it has a record of some instance.
    """

    birth: str
    ticks: int
    run: str
    recorded: bool


@dataclass(frozen=True, kw_only=True)
class StoreMemory:
    """What a host remembers of the store. `before`: keys of the strays that were there when it first saw that store."""

    birth: str
    ticks: int
    run: str
    before: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """All that a host has which could be an orphan, and what of it this installation is known to have made."""

    domains: tuple[DomainFacts, ...]
    directories: tuple[InstanceId, ...]
    links: tuple[LinkSeen, ...]
    remembered: frozenset[str]  # names of links that this installation plugged
    volumes: tuple[ConnectedVolume, ...]
    dhcp: tuple[DhcpFacts, ...]
    disks: tuple[InstanceId, ...]
    images: tuple[ImageFileFacts, ...]
    claims: tuple[InstanceId, ...]


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What the records explain, read by id: ids of instances that there is a record or a lease of, or an operation about."""

    instances: frozenset[InstanceId]
    images: frozenset[str]
    dhcp: frozenset[tuple[str, str]]  # bridge and MAC


class KeepSpec(Spec):
    """What is to stay: an instance's id, or the name of a thing, as `taskvisor orphans` shows them."""

    orphan: Annotated[str, Field(min_length=1, max_length=512)]
    host: Annotated[str, Field(min_length=1, max_length=64)] | None = None
