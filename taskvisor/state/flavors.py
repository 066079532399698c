"""Flavors as records, found by name or id.

Until the first change nothing is recorded, and the default ones are there all the same; the first change records them with
it (`revisions` tells), and from then on a default one that was deleted stays deleted.

Invariant: a name or an id stands for one flavor, and no flavor's name is another's id.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from taskvisor.model.errors import Refused, StoreConflict
from taskvisor.model.flavor_record import FlavorRecord
from taskvisor.model.flavors import DEFAULT_FLAVORS, unknown_flavor
from taskvisor.state.codec import OnUnreadable, decode, decode_each, encode, log_unreadable
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys
from taskvisor.state.networks import move_revision, read_revision
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Outcome, Writer

if TYPE_CHECKING:
    import redis

LIST = "flavors"
FLAVORS_LIMIT = 4096

LOOK_UP_SCRIPT = """
return {redis.call('GET', ARGV[2] .. (redis.call('HGET', KEYS[1], ARGV[1]) or ARGV[1])), redis.call('HGET', KEYS[2], ARGV[3])}
"""
"""The record of that id, else of that name; and whether flavors have ever changed."""


class Flavors:
    """Every flavor. `on_unreadable` is told of each record that a list leaves out."""

    def __init__(self, client: "redis.Redis", keys: Keys, on_unreadable: OnUnreadable = log_unreadable) -> None:
        self._client = client
        self._keys = keys
        self._on_unreadable = on_unreadable
        self._look_up = client.register_script(LOOK_UP_SCRIPT)

    def find(self, name_or_id: str, project: str) -> FlavorRecord:
        """The flavor of that name or id, for a project that may have it. Refused, in the same words, for others and for none."""
        found = self.look_up(name_or_id)
        if found is None or not found.is_for(project):
            raise unknown_flavor(name_or_id)
        return found

    def look_up(self, name_or_id: str) -> FlavorRecord | None:
        """The flavor of that name or id, whoever may have it; None when there is none."""
        with asking(f"look up flavor {name_or_id}"):
            keys = [self._keys.flavor_ids, self._keys.revisions]
            text, changed = self._look_up(keys=keys, args=[name_or_id, self._keys.flavor(""), LIST])
        if changed is None:
            known = DEFAULT_FLAVORS.values()
            return next((one for one in known if name_or_id in (one.flavor.name, one.id)), None)
        return decode(str(text), FlavorRecord, f"flavor {name_or_id}") if text else None

    def list(self) -> tuple[FlavorRecord, ...]:
        """All of them, by name."""
        if self.read_revision() == 0:
            return _by_name(DEFAULT_FLAVORS.values())
        with asking("list flavors"):
            names = sorted(cast("list[str]", self._client.hkeys(self._keys.flavors)))
            texts = self._client.mget([self._keys.flavor(name) for name in names]) if names else []
        named = ((f"flavor {name}", text) for name, text in zip(names, texts, strict=True))
        return _by_name(decode_each(named, FlavorRecord, self._on_unreadable))

    def read_revision(self) -> int:
        """How often flavors have changed. Who decides on what it reads afterwards shows it to the writer."""
        return read_revision(self._client, self._keys, LIST)


class FlavorChanges:
    """The one writer of flavors' records. StoreConflict means: look again and decide again.

    `seen` is the revision that was read before the flavor was looked at.
    """

    def __init__(self, client: "redis.Redis", writer: Writer) -> None:
        self._client = client
        self._writer = writer
        self._keys: Keys = writer.keys

    def create(self, record: FlavorRecord, seen: int, answer: Outcome) -> None:
        """The flavor is there, and its caller told. StoreConflict when any has changed since; Refused when there are too many."""
        with asking("count flavors"):
            known = self._client.hlen(self._keys.flavors)
        if int(known) >= FLAVORS_LIMIT:
            raise Refused(f"name: there are {known} flavors, and may be no more; delete one first")
        tx = self._changing(seen)
        self._require_free(tx, record)
        self._write(tx, record)
        self._finish(tx, record, answer)

    def change(self, record: FlavorRecord, seen: int, answer: Outcome) -> None:
        """The flavor of that name is so now. StoreConflict when any has changed since."""
        tx = self._changing(seen)
        self._write(tx, record)
        self._finish(tx, record, answer)

    def delete(self, record: FlavorRecord, seen: int, answer: Outcome) -> None:
        """The flavor is gone; instances that were built with it keep it. StoreConflict when any has changed since."""
        keys, tx = self._keys, self._changing(seen)
        tx.do("DEL", keys.flavor(record.flavor.name))
        tx.do("HDEL", keys.flavors, record.flavor.name)
        tx.do("HDEL", keys.flavor_ids, record.id)
        self._finish(tx, record, answer)

    def _changing(self, seen: int) -> Transaction:
        tx = Transaction()
        move_revision(tx, self._keys, LIST, seen)
        if seen == 0:
            for record in DEFAULT_FLAVORS.values():
                self._write(tx, record)
        return tx

    def _require_free(self, tx: Transaction, record: FlavorRecord) -> None:
        """Name and id are nobody's. Who has seen the revision has found them so; these guards are for the invariant."""
        for index in (self._keys.flavors, self._keys.flavor_ids):
            for word in dict.fromkeys((record.flavor.name, record.id)):
                tx.require_absent(index, word, StoreConflict)

    def _write(self, tx: Transaction, record: FlavorRecord) -> None:
        keys, name = self._keys, record.flavor.name
        tx.do("SET", keys.flavor(name), encode(record))
        tx.do("HSET", keys.flavors, name, record.id)
        tx.do("HSET", keys.flavor_ids, record.id, name)

    def _finish(self, tx: Transaction, record: FlavorRecord, answer: Outcome) -> None:
        self._writer.outcome(tx, answer)
        tx.run(self._client, f"write flavor {record.flavor.name}")


def _by_name(records: Iterable[FlavorRecord]) -> tuple[FlavorRecord, ...]:
    return tuple(sorted(records, key=lambda record: record.flavor.name))
