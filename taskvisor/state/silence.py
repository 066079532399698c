"""Which hosts have fallen silent, and since when that is known. Each change is told once: with its note, in one transaction."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from taskvisor.model.errors import StoreConflict
from taskvisor.model.ids import HostName
from taskvisor.state.connection import asking
from taskvisor.state.counters import CounterName, field_for
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Writer

if TYPE_CHECKING:
    import redis


class Silence:
    """The hosts that are noted as silent."""

    def __init__(self, client: "redis.Redis", writer: Writer) -> None:
        self._client = client
        self._writer = writer
        self._key = writer.keys.silent

    def read(self) -> dict[HostName, float]:
        """Each with when its silence was noticed."""
        with asking("read which hosts are silent"):
            found = self._client.hgetall(self._key)
        return {HostName(str(host)): float(since) for host, since in found.items()}

    def note_silent(self, host: HostName, *, task: str, at: float) -> None:
        """It is silent from now on: an event says so. StoreConflict when that was noted already."""
        tx = Transaction()
        tx.require_absent(self._key, host, StoreConflict)
        tx.do("HSET", self._key, host, f"{at:.3f}")
        self._writer.event_of_node(tx, host, task=task, phase="silent", outcome=f"since {at:.0f}", at=at)
        self._writer.count(tx, (field_for(CounterName.HOSTS_FELL_SILENT),))
        tx.run(self._client, f"note that host {host} is silent")

    def note_back(self, host: HostName, *, task: str, since: float, at: float) -> None:
        """It is heard of again: an event says so, and since when it was silent. StoreConflict when that was noted already."""
        tx = Transaction()
        tx.require_present(self._key, host, StoreConflict)
        tx.do("HDEL", self._key, host)
        self._writer.event_of_node(tx, host, task=task, phase="back", outcome=f"silent since {since:.0f}", at=at)
        self._writer.count(tx, (field_for(CounterName.HOSTS_CAME_BACK),))
        tx.run(self._client, f"note that host {host} is back")

    def forget(self, hosts: Iterable[HostName]) -> None:
        """Nothing is noted of hosts that are no more."""
        names = tuple(hosts)
        if names:
            with asking("forget hosts that are no more"):
                self._client.hdel(self._key, *names)
