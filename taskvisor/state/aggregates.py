"""Aggregates of hosts: all of them are in one hash, for placement reads them together.

Changes are one after another (`revisions`), so that no host is ever in two zones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from taskvisor.model.aggregate import Aggregate, second_zone_of
from taskvisor.model.errors import Refused
from taskvisor.model.ids import HostName
from taskvisor.state.codec import OnUnreadable, encode, log_unreadable
from taskvisor.state.connection import asking
from taskvisor.state.host_record import aggregates_from, unknown_host
from taskvisor.state.keys import AGGREGATES, Keys
from taskvisor.state.networks import move_revision, read_revision
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Outcome, Writer

if TYPE_CHECKING:
    import redis

AGGREGATES_LIMIT = 1000


@dataclass(frozen=True, kw_only=True)
class SeenAggregates:
    """All aggregates by name, and the revision of their list, which was read before them."""

    aggregates: tuple[Aggregate, ...]
    revision: int

    def find(self, name: str) -> Aggregate | None:
        return next((aggregate for aggregate in self.aggregates if aggregate.name == name), None)


class Aggregates:
    """The read side. `on_unreadable` is told of each record that a list leaves out."""

    def __init__(self, client: "redis.Redis", keys: Keys, on_unreadable: OnUnreadable = log_unreadable) -> None:
        self._client = client
        self._keys = keys
        self._on_unreadable = on_unreadable

    def read(self) -> SeenAggregates:
        """All of them."""
        revision = read_revision(self._client, self._keys, AGGREGATES)
        with asking("list aggregates"):
            answer = cast("dict[str, str]", self._client.hgetall(self._keys.aggregates))
        return SeenAggregates(aggregates=aggregates_from(answer, self._on_unreadable), revision=revision)


class AggregateChanges:
    """The one writer of aggregates. StoreConflict means: look again and decide again."""

    def __init__(self, client: "redis.Redis", writer: Writer) -> None:
        self._client = client
        self._writer = writer
        self._keys: Keys = writer.keys

    def write(self, aggregate: Aggregate, seen: SeenAggregates, answer: Outcome) -> None:
        """The aggregate is so from now on. Refused when a host of it would be in two zones, or has never reported."""
        others = [one for one in seen.aggregates if one.name != aggregate.name]
        if len(others) >= AGGREGATES_LIMIT:
            raise Refused(f"name: there are {len(others)} aggregates, and may be no more; delete one first")
        twice = second_zone_of((*others, aggregate))
        if twice is not None:
            host, first, second = twice
            raise Refused(
                f"host {host} would be in two zones, {first} and {second}; take it out of an aggregate of one of them first"
            )
        tx, former = Transaction(), seen.find(aggregate.name)
        move_revision(tx, self._keys, AGGREGATES, seen.revision)
        for host in aggregate.hosts:
            if former is None or host not in former.hosts:
                tx.require_present(self._keys.host(host), "inventory", _never_reported(host))
        tx.do("HSET", self._keys.aggregates, aggregate.name, encode(aggregate))
        self._writer.outcome(tx, answer)
        tx.run(self._client, f"write aggregate {aggregate.name}")

    def delete(self, aggregate: Aggregate, seen: SeenAggregates, answer: Outcome) -> None:
        """The aggregate is gone. Refused while a host is in it."""
        if aggregate.hosts:
            raise Refused(
                f"aggregate: {aggregate.name!r} has hosts ({', '.join(aggregate.hosts[:5])}); take them out of it first"
            )
        tx = Transaction()
        move_revision(tx, self._keys, AGGREGATES, seen.revision)
        tx.do("HDEL", self._keys.aggregates, aggregate.name)
        self._writer.outcome(tx, answer)
        tx.run(self._client, f"delete aggregate {aggregate.name}")


def _never_reported(host: HostName) -> Callable[[str], Exception]:
    return lambda _: unknown_host(host)
