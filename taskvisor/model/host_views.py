"""What is said of whole hosts, as callers see it: plain JSON, the same in a task's result and on the command line."""

from collections.abc import Iterable
from typing import NotRequired, TypedDict

from taskvisor.model.drain import Drain, Prospect
from taskvisor.model.host_mark import HostEvent, HostMark


class ProspectView(TypedDict):
    """`name` is a guest's, or of what else is in the way; `fate` is off, stops, starts, stays, busy, cancels, unreachable or
    failed.
    """

    name: str
    instance: str | None
    fate: str
    why: str


class DrainView(TypedDict):
    """`in_the_way` is of the last look. `stopped`: ids of guests that are off by it. Times are seconds since the epoch."""

    id: str
    host: str
    phase: str
    reason: str
    by: str
    guests: str
    builds: str
    began_at: float
    deadline_at: float
    looked_at: float
    ended_at: float | None
    in_the_way: list[ProspectView]
    stopped: list[str]


class UndrainView(TypedDict):
    """The drain that was ended, as DrainView has it. `disabled_reason` None: the host takes newcomers. `already`: it was not
    being drained, and no more is said than host and phase.
    """

    host: str
    phase: str
    id: NotRequired[str]
    reason: NotRequired[str]
    by: NotRequired[str]
    guests: NotRequired[str]
    builds: NotRequired[str]
    began_at: NotRequired[float]
    deadline_at: NotRequired[float]
    looked_at: NotRequired[float]
    ended_at: NotRequired[float | None]
    in_the_way: NotRequired[list[ProspectView]]
    stopped: NotRequired[list[str]]
    disabled_reason: NotRequired[str | None]
    already: NotRequired[bool]


class DrainPlanView(TypedDict):
    """What a drain would come to now: everything on the host."""

    host: str
    up: bool
    prospects: list[ProspectView]


class HostMarkView(TypedDict):
    reason: str
    by: str
    at: float


class HostEventView(TypedDict):
    act: str
    by: str
    reason: str
    outcome: str
    at: float
    request: str


class ForcedDownView(TypedDict):
    """`forced_down` None: its heartbeat is believed. `already` is there, and true, when it was so before."""

    host: str
    forced_down: HostMarkView | None
    already: NotRequired[bool]


class RemovedHostView(TypedDict):
    """`messages`: so many of its own queues went with it; no operation needed them. `already`: there was no such host."""

    host: str
    state: str
    messages: int
    already: NotRequired[bool]


def prospect_views(prospects: Iterable[Prospect]) -> list[ProspectView]:
    """One after the other."""
    return [
        {"name": one.name, "instance": one.instance_id, "fate": one.fate.value, "why": one.why} for one in prospects
    ]


def drain_view(drain: Drain) -> DrainView:
    """The drain for its caller."""
    return {
        "id": drain.id,
        "host": drain.host,
        "phase": drain.phase.value,
        "reason": drain.reason,
        "by": drain.by,
        "guests": drain.guests.value,
        "builds": drain.builds.value,
        "began_at": drain.began_at,
        "deadline_at": drain.deadline_at,
        "looked_at": drain.looked_at,
        "ended_at": drain.ended_at,
        "in_the_way": prospect_views(drain.prospects),
        "stopped": list(drain.stopped),
    }


def mark_view(mark: HostMark | None) -> HostMarkView | None:
    """Who said so, why and when."""
    return None if mark is None else {"reason": mark.reason, "by": mark.by, "at": mark.at}


def event_view(event: HostEvent) -> HostEventView:
    """One entry of what was done to a host."""
    return {
        "act": event.act.value,
        "by": event.by,
        "reason": event.reason,
        "outcome": event.outcome,
        "at": event.at,
        "request": event.request_id,
    }
