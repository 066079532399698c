"""A host that is being emptied, as it is recorded: what was asked, by whom, how far it has come, what is in the way.

Knows nothing of how that is decided (`taskvisor.compute.drain`), stored or carried out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from taskvisor.model.ids import HostName, InstanceId, OperationId


class DrainPhase(StrEnum):
    """Where a drain is. In the first two something is still to be done."""

    DRAINING = "draining"
    STARTING = "starting"  # it is over, and the guests that it stopped are being started again
    DRAINED = "drained"  # nothing runs on the host
    PARTIAL = "partial"  # its deadline has passed, and something is still in the way
    OVER = "over"  # the host was given back

    @property
    def is_active(self) -> bool:
        return self in (DrainPhase.DRAINING, DrainPhase.STARTING)


class GuestPolicy(StrEnum):
    """What becomes of guests that run."""

    LEAVE = "leave"  # they run on until their owners stop or delete them
    STOP = "stop"


class BuildPolicy(StrEnum):
    """What becomes of builds that were let in for the host and have not begun."""

    WAIT = "wait"
    CANCEL = "cancel"


class Fate(StrEnum):
    """What will become of a guest, or of an operation on the host."""

    OFF = "off"
    STOPS = "stops"
    STARTS = "starts"
    STAYS = "stays"
    BUSY = "busy"
    CANCELS = "cancels"
    UNREACHABLE = "unreachable"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Prospect:
    """What will become of one guest, and why. `name` is its own, or what else is in the way."""

    name: str
    fate: Fate
    why: str
    instance_id: InstanceId | None = None


class ErrandKind(StrEnum):
    STOP = "instance.stop"
    START = "instance.start"


@dataclass(frozen=True, kw_only=True)
class Errand:
    """An operation that the drain asks for one guest. Noted before it is asked for, so that a crash between asks no other.

    `problem`: it was tried as often as it may be, and this came of it last.
    """

    kind: ErrandKind
    operation_id: OperationId
    tries: int = 1
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class Drain:
    """One drain of one host, known by the id of the request.

    `former_reason`: why the host was disabled before. `stopped`: guests that are off by this drain, or by one before it whose
    guests were not started again. `errands`: what is asked now, by guest. `prospects`: what was in the way at the last look.
    `revision` counts writes.
    """

    id: OperationId
    host: HostName
    reason: str
    by: str
    began_at: float
    deadline_at: float
    looked_at: float
    phase: DrainPhase = DrainPhase.DRAINING
    guests: GuestPolicy = GuestPolicy.LEAVE
    builds: BuildPolicy = BuildPolicy.WAIT
    former_reason: str | None = None
    errands: Mapping[InstanceId, Errand] = field(default_factory=dict)
    stopped: tuple[InstanceId, ...] = ()
    prospects: tuple[Prospect, ...] = ()
    revision: int = 0
    ended_at: float | None = None


def is_disabled_for(drain: Drain, disabled_reason: str | None) -> bool:
    """The host is disabled by this drain, and for nothing else."""
    return disabled_reason == disabled_reason_for(drain)


def disabled_reason_for(drain: Drain) -> str:
    """Why the host takes no newcomers, as placement says it."""
    return f"{drain.phase.value}: {drain.reason}"
