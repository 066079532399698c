"""What an operator said of a host: what, why, who and when. The record of it, and its last entries."""

from dataclasses import dataclass
from enum import StrEnum

from taskvisor.model.ids import HostName, OperationId


class HostAct(StrEnum):
    """What is recorded of a host, by the task that did it."""

    DRAIN = "host.drain"
    DRAIN_ENDED = "host.drain_ended"
    UNDRAIN = "host.undrain"
    FORCE_DOWN = "host.force_down"
    FORCE_UP = "host.force_up"
    REMOVE = "host.remove"


@dataclass(frozen=True, kw_only=True)
class HostMark:
    """Something that holds of a host because somebody said so."""

    reason: str
    by: str
    at: float


@dataclass(frozen=True, kw_only=True)
class HostEvent:
    """Something that was done to a host. `request_id`: by which request."""

    act: HostAct
    host: HostName
    request_id: OperationId
    by: str
    reason: str
    outcome: str
    at: float
