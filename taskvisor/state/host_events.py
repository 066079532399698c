"""What was done to hosts, by whom and why: in the stream of all events, and the last of each host beside its record."""

from typing import TYPE_CHECKING

from taskvisor.model.event import EventKind
from taskvisor.model.host_mark import HostEvent
from taskvisor.model.ids import HostName
from taskvisor.state.codec import OnUnreadable, decode_each, encode, log_unreadable
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Writer

if TYPE_CHECKING:
    import redis

KEPT = 100
"""Of each host."""


def record_host_event(tx: Transaction, writer: Writer, event: HostEvent) -> None:
    """Add to a transaction: the event is the host's newest."""
    key = writer.keys.host_events(event.host)
    tx.do("LPUSH", key, encode(event))
    tx.do("LTRIM", key, 0, KEPT - 1)
    stream_host_event(tx, writer, event)


def stream_host_event(tx: Transaction, writer: Writer, event: HostEvent) -> None:
    """The same, for those who follow the stream only: nothing is kept of a host that is gone."""
    fields = {
        "kind": EventKind.HOST.value,
        "op": event.request_id,
        "flow": event.act.value,
        "instance": "",
        "name": "",
        "host": event.host,
        "phase": event.outcome,
        "step": "",
        "outcome": "",
        "at": f"{event.at:.3f}",
        "by": event.by,
        "reason": event.reason,
    }
    flat = [part for pair in fields.items() for part in pair]
    tx.do("XADD", writer.keys.events, "MAXLEN", "~", writer.events_kept, "*", *flat)


class HostEvents:
    """The read side."""

    def __init__(self, client: "redis.Redis", keys: Keys, on_unreadable: OnUnreadable = log_unreadable) -> None:
        self._client = client
        self._keys = keys
        self._on_unreadable = on_unreadable

    def list_of(self, host: HostName) -> tuple[HostEvent, ...]:
        """What was done to the host, the newest first."""
        with asking(f"list what was done to host {host}"):
            found = self._client.lrange(self._keys.host_events(host), 0, KEPT - 1)
        named = ((f"event of host {host}", text) for text in found)
        return tuple(decode_each(named, HostEvent, self._on_unreadable))
