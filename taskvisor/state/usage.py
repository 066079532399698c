"""What each instance had, period by period: a stream of its own, bounded, for whoever accounts for it.

Separate from the stream of events, which it would flood: it holds one entry an instance and period.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from taskvisor.model.errors import UnreadableRecord
from taskvisor.model.ids import HostName
from taskvisor.state.codec import decode, encode, log_unreadable
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys

if TYPE_CHECKING:
    import redis

ENTRIES_KEPT = 100_000
"""About 300 bytes each."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What an instance had at the end of a period, the one from `began_at` to `ended_at`."""

    began_at: float
    ended_at: float
    instance: str
    name: str
    project: str
    host: str
    vm_state: str
    power_state: str
    flavor: str
    vcpus: int
    memory_mib: int
    disk_gib: int
    created_at: float
    launched_at: float | None


class UsageRecords:
    """The stream."""

    def __init__(self, client: "redis.Redis", keys: Keys) -> None:
        self._client = client
        self._keys = keys

    def read_period(self, host: HostName) -> int | None:
        """The number of the period that was audited last on that host."""
        with asking(f"read which period of {host} was audited last"):
            found = self._client.get(self._keys.usage_period(host))
        return int(found) if found else None

    def append(self, host: HostName, number: int, usages: Iterable[Usage]) -> None:
        """The host's entries of that period, and the note that it was audited: all or nothing."""
        with asking(f"write the usage of {host}"), self._client.pipeline(transaction=True) as pipe:
            for usage in usages:
                pipe.xadd(self._keys.usage, {"usage": encode(usage)}, maxlen=ENTRIES_KEPT, approximate=True)
            pipe.set(self._keys.usage_period(host), number)
            pipe.execute()

    def list_latest(self, limit: int) -> tuple[Usage, ...]:
        """The latest entries, newest first."""
        with asking("read usage"):
            answer = self._client.xrevrange(self._keys.usage, count=limit)
        found = []
        for cursor, fields in cast("list[tuple[str, dict[str, str]]]", answer):
            try:
                found.append(decode(fields.get("usage", ""), Usage, f"usage {cursor}"))
            except UnreadableRecord as problem:
                log_unreadable(problem)
        return tuple(found)
