"""What a hypervisor tells of its guests as it happens, in Nova's words: no facts to go by, but reasons to look."""

from dataclasses import dataclass
from enum import StrEnum

from taskvisor.model.ids import InstanceId


class LifecycleChange(StrEnum):
    """What has happened to a guest."""

    STARTED = "started"
    STOPPED = "stopped"  # it is off, whoever or whatever ended it
    PAUSED = "paused"
    RESUMED = "resumed"
    SUSPENDED = "suspended"
    CRASHED = "crashed"  # the guest has panicked; its QEMU is still there
    SHUTDOWN = "shutdown"  # it has shut down and its QEMU is about to end: STOPPED follows
    MIGRATION_PAUSED = "migration_paused"  # at the end of a migration, done or failed: only the host's state says which
    POSTCOPY_STARTED = "postcopy_started"


@dataclass(frozen=True, kw_only=True)
class GuestEvent:
    """A change of one guest. `detail` is the hypervisor's own word for how it came about, for logs."""

    instance_id: InstanceId
    change: LifecycleChange
    detail: str


@dataclass(frozen=True, kw_only=True)
class Hearing:
    """From now on every event is heard. What happened before may have been missed."""


@dataclass(frozen=True, kw_only=True)
class Deaf:
    """No event is heard until the next `Hearing`, because of `reason`."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Missed:
    """So many events were not taken in time, and are lost."""

    events: int


Said = GuestEvent | Hearing | Deaf | Missed
"""Whatever one who listens to a hypervisor has to say."""
