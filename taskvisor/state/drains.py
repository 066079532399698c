"""Drains: one record a host, and the set of hosts whose drain is still to be carried on.

Whether the host takes newcomers is in the host's own record, and moves with the drain's in one transaction.
Invariant: a drain is written only on what was seen of it (its text): of two who advance it, one finds out.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from taskvisor.model.drain import Drain, DrainPhase, disabled_reason_for, is_disabled_for
from taskvisor.model.errors import StoreConflict
from taskvisor.model.host_mark import HostEvent
from taskvisor.model.ids import HostName
from taskvisor.state.codec import decode, encode
from taskvisor.state.connection import asking
from taskvisor.state.host_events import record_host_event
from taskvisor.state.host_record import unknown_host
from taskvisor.state.keys import Keys
from taskvisor.state.moved import note_moved
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Outcome, Writer

if TYPE_CHECKING:
    import redis


@dataclass(frozen=True, kw_only=True)
class StoredDrain:
    """A drain, and its record as it is stored."""

    drain: Drain
    record: str


class Drains:
    """The read side."""

    def __init__(self, client: "redis.Redis", keys: Keys) -> None:
        self._client = client
        self._keys = keys

    def read(self, host: HostName) -> StoredDrain | None:
        """The host's last drain; None when it never had one. UnreadableRecord when it does not parse."""
        with asking(f"read the drain of host {host}"):
            text = self._client.get(self._keys.drain(host))
        return (
            None if text is None else StoredDrain(drain=decode(str(text), Drain, f"drain of {host}"), record=str(text))
        )

    def list_active(self) -> tuple[HostName, ...]:
        """Hosts whose drain is still to be carried on, by name."""
        with asking("list the hosts that are being drained"):
            return tuple(sorted(HostName(str(host)) for host in self._client.smembers(self._keys.drains)))


class DrainChanges:
    """The one writer of drains. StoreConflict: it moved since it was seen; look again."""

    def __init__(self, client: "redis.Redis", writer: Writer) -> None:
        self._client = client
        self._writer = writer
        self._keys = writer.keys

    def begin(
        self, drain: Drain, seen: StoredDrain | None, disabled: str | None, event: HostEvent, answer: Outcome
    ) -> StoredDrain:
        """The host takes no newcomers, for the drain. Refused when no host of that name ever reported.

        `disabled`: why it was disabled when it was seen; StoreConflict also when that has changed since.
        """
        tx, key = self._unmoved(drain.host, seen), self._keys.host(drain.host)
        tx.require_present(key, "inventory", lambda _: unknown_host(drain.host))
        if disabled is None:
            tx.require_absent(key, "disabled", StoreConflict)
        else:
            tx.require(key, "disabled", disabled, StoreConflict)
        tx.do("HSET", key, "disabled", disabled_reason_for(drain))
        return self._write(tx, drain, seen, event, answer)

    def write(
        self, drain: Drain, seen: StoredDrain, disabled: str | None = None, event: HostEvent | None = None
    ) -> StoredDrain:
        """How far it has come. A host that is disabled for the drain stays so, with how far as the reason; one that was
        enabled, or disabled for something else, stays as it is. `disabled` as in `begin`.
        """
        tx, key = self._unmoved(drain.host, seen), self._keys.host(drain.host)
        before, after = disabled_reason_for(seen.drain), disabled_reason_for(drain)
        if drain.phase is DrainPhase.OVER:
            tx.do("HDEL", key, "draining")
        elif disabled is not None and disabled == before != after:
            tx.require(key, "disabled", before, StoreConflict)
            tx.do("HSET", key, "disabled", after)
        return self._write(tx, drain, seen, event)

    def give_back(
        self, drain: Drain, seen: StoredDrain, disabled: str | None, event: HostEvent, answer: Outcome
    ) -> StoredDrain:
        """The host takes newcomers as it did before the drain. One that is disabled for something else stays so. `disabled` as in
        `begin`.
        """
        tx, key = self._unmoved(drain.host, seen), self._keys.host(drain.host)
        if disabled is not None and is_disabled_for(seen.drain, disabled):
            tx.require(key, "disabled", disabled, StoreConflict)
            if drain.former_reason is None:
                tx.do("HDEL", key, "disabled")
            else:
                tx.do("HSET", key, "disabled", drain.former_reason)
        tx.do("HDEL", key, "draining")
        return self._write(tx, drain, seen, event, answer)

    def _write(
        self,
        tx: Transaction,
        drain: Drain,
        seen: StoredDrain | None,
        event: HostEvent | None = None,
        answer: Outcome | None = None,
    ) -> StoredDrain:
        drain = replace(drain, revision=0 if seen is None else seen.drain.revision + 1)
        record = encode(drain)
        tx.do("SET", self._keys.drain(drain.host), record)
        tx.do("SADD" if drain.phase.is_active else "SREM", self._keys.drains, drain.host)
        if drain.phase not in (DrainPhase.OVER, DrainPhase.STARTING):
            tx.do("HSET", self._keys.host(drain.host), "draining", drain.phase.value)
        note_moved(tx, self._keys, drain.host)
        if event is not None:
            record_host_event(tx, self._writer, event)
        if answer is not None:
            self._writer.outcome(tx, answer)
        tx.run(self._client, f"write the drain of host {drain.host}")
        return StoredDrain(drain=drain, record=record)

    def _unmoved(self, host: HostName, seen: StoredDrain | None) -> Transaction:
        tx, key = Transaction(), self._keys.drain(host)
        if seen is None:
            tx.require_gone(key, StoreConflict)
        else:
            tx.require_same(key, seen.record, StoreConflict)
        return tx
