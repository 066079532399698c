"""Every change of state, in order, readable from a cursor: one bounded stream."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from taskvisor.model.errors import UnreadableRecord
from taskvisor.model.ids import OperationId
from taskvisor.state.codec import log_unreadable
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys

if TYPE_CHECKING:
    import redis

FROM_NOW = "$"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One write of an operation's record. `cursor` is where to read on; `outcome` is the last try's, if one just ended.

    Of what was done to a whole host `flow` is the request's task, `by` and `reason` are who and why, and no instance is named.
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
    by: str = ""
    reason: str = ""


class Events:
    def __init__(self, client: "redis.Redis", keys: Keys) -> None:
        self._client = client
        self._keys = keys

    def read_after(self, cursor: str, *, wait_s: float, limit: int = 500) -> tuple[Event, ...]:
        """Events after the cursor ("0" for the oldest kept, FROM_NOW for new ones), waiting up to `wait_s` for the first.

        `wait_s` must be below the connection's time-out.
        """
        with asking("read events"):
            answer = self._client.xread({self._keys.events: cursor}, count=limit, block=max(1, int(wait_s * 1000)))
        return tuple(_events_in(answer))


def _events_in(answer: object) -> Iterator[Event]:
    streams = cast("list[tuple[str, list[tuple[str, dict[str, str]]]]]", answer or [])
    for _, entries in streams:
        for cursor, fields in entries:
            try:
                yield _event_from(cursor, fields)
            except (KeyError, ValueError) as error:  # somebody else's: it must not end whoever follows the stream
                log_unreadable(UnreadableRecord(f"event {cursor} is none of ours: {error!r}"))


def _event_from(cursor: str, fields: dict[str, str]) -> Event:
    return Event(
        cursor=cursor,
        operation_id=OperationId(fields["op"]),
        flow=fields["flow"],
        instance_id=fields["instance"],
        instance_name=fields["name"],
        host=fields["host"],
        phase=fields["phase"],
        step=fields["step"],
        outcome=fields["outcome"],
        at=float(fields["at"]),
        by=fields.get("by", ""),
        reason=fields.get("reason", ""),
    )
