"""One entry of the stream of events, and how it is shown: the same in `taskvisor events -f json` and in a webhook's body.

docs/events.md has every field of every kind.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict

from taskvisor.model.ids import OperationId


class EventKind(StrEnum):
    """What an event is about."""

    OPERATION = "operation"  # one write of an operation's record
    INSTANCE = "instance"  # what its host did for an instance at rest, by no operation
    HOST = "host"  # what was said, done or noticed of a whole host


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that changed. `cursor` is where to read on.

    Of an operation `step` is the one that runs or is next, the `number`th `of` so many; `tried` and `outcome` are the step and
    the end of the last try, if none is under way. Of what was done to a whole host `flow` is the request's task, `by` and
    `reason` are who and why, and no instance is named.
    """

    cursor: str
    operation_id: OperationId
    flow: str
    instance_id: str
    instance_name: str
    host: str
    phase: str
    step: str
    outcome: str
    at: float
    kind: EventKind = EventKind.OPERATION
    number: int = 0
    of: int = 0
    tried: str = ""
    by: str = ""
    reason: str = ""


class EventView(TypedDict):
    """An event as JSON. What does not apply is an empty text, or 0."""

    cursor: str
    kind: str
    at: float
    operation: str
    flow: str
    instance: str
    name: str
    host: str
    phase: str
    step: str
    number: int
    of: int
    tried: str
    outcome: str
    by: str
    reason: str


def event_view(event: Event) -> EventView:
    return {
        "cursor": event.cursor,
        "kind": event.kind.value,
        "at": event.at,
        "operation": event.operation_id,
        "flow": event.flow,
        "instance": event.instance_id,
        "name": event.instance_name,
        "host": event.host,
        "phase": event.phase,
        "step": event.step,
        "number": event.number,
        "of": event.of,
        "tried": event.tried,
        "outcome": event.outcome,
        "by": event.by,
        "reason": event.reason,
    }
