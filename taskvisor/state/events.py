"""Every change of state, in order, readable from a cursor: one bounded stream. docs/events.md is its schema."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from taskvisor.model.errors import Refused, UnreadableRecord
from taskvisor.model.event import Event, EventKind
from taskvisor.model.ids import OperationId
from taskvisor.state.codec import log_unreadable
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys

if TYPE_CHECKING:
    import redis

FROM_NOW = "$"
FROM_OLDEST = "0-0"
CURSOR = re.compile(r"(\d{1,20})(?:-(\d{1,20}))?")


@dataclass(frozen=True, kw_only=True)
class StreamBounds:
    """`oldest` and `newest` are cursors of entries, FROM_OLDEST where there are none. `gone`: so many entries were let go since
    the stream began; None: Redis does not say (before 7.0).
    """

    oldest: str
    newest: str
    gone: int | None

    def missed_after(self, cursor: str) -> str:
        """What may be missing between the cursor and the oldest entry, as people say it; empty when nothing is."""
        if self.gone == 0 or order_of(cursor) >= order_of(self.oldest):
            return ""
        return "entries may be missing" if self.gone is None else f"{self.gone} entries may be missing"


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

    def read_bounds(self) -> StreamBounds:
        """What is kept now (https://redis.io/docs/latest/commands/xinfo-stream/)."""
        key = self._keys.events
        with asking("tell which events are kept"):
            if not self._client.exists(key):
                return StreamBounds(oldest=FROM_OLDEST, newest=FROM_OLDEST, gone=0)
            found = cast("dict[str, object]", self._client.xinfo_stream(key))
        added = found.get("entries-added")
        first = cast("tuple[object, object] | None", found.get("first-entry"))
        return StreamBounds(
            oldest=FROM_OLDEST if first is None else str(first[0]),
            newest=str(found["last-generated-id"]),
            gone=None if added is None else max(0, int(str(added)) - int(str(found["length"]))),
        )


def order_of(cursor: str) -> tuple[int, int]:
    """Cursors compare by this. Refused for what is no cursor."""
    found = CURSOR.fullmatch(cursor)
    if found is None:
        raise Refused(f"{cursor!r} is no cursor of the stream of events; one looks like 1763769600000-0")
    return int(found[1]), int(found[2] or 0)


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
        kind=EventKind(fields["kind"]) if "kind" in fields else _former_kind(fields),
        number=int(fields.get("number", "0")),
        of=int(fields.get("of", "0")),
        tried=fields.get("tried", ""),
        by=fields.get("by", ""),
        reason=fields.get("reason", ""),
    )


def _former_kind(fields: dict[str, str]) -> EventKind:
    """Of an entry that a former version wrote, which did not say."""
    if not fields["instance"]:
        return EventKind.HOST
    return EventKind.OPERATION if fields["op"] else EventKind.INSTANCE
