"""The journal in Redis: an operation and its instance are read in one look and written in one transaction.

An operation's outcome for its caller (a Celery result) is written in that same transaction: no crash can part the two.
"""

from typing import TYPE_CHECKING

from taskvisor.model.change import Change, LeaseMove, Loaded
from taskvisor.model.errors import Fenced, StoreConflict
from taskvisor.model.history import cause_of
from taskvisor.model.ids import OperationId
from taskvisor.model.operation import Operation
from taskvisor.model.records import Instance
from taskvisor.state.codec import decode, decode_operation, encode
from taskvisor.state.connection import asking
from taskvisor.state.counters import fields_for_change
from taskvisor.state.histograms import amounts_for_change
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Writer

if TYPE_CHECKING:
    import redis

PROGRESS_KEEP_S = 60

LOAD_SCRIPT = """
local doc = redis.call('HGET', KEYS[1], 'doc')
if not doc then return {false, false} end
local id = string.match(doc, '"instance_id":"([^"]+)"')
return {doc, id and redis.call('GET', ARGV[1] .. id) or false}
"""
"""The instance's id is cut out of the JSON instead of parsing it: documents are some kilobytes, and this runs per step."""


class RedisJournal:
    """Implements the flow engine's `Journal`. One per process; safe in threads."""

    def __init__(self, client: "redis.Redis", writer: Writer) -> None:
        self._client = client
        self._writer = writer
        self._keys = writer.keys
        self._load = client.register_script(LOAD_SCRIPT)

    def load(self, operation_id: OperationId) -> Loaded | None:
        with asking(f"read operation {operation_id}"):
            doc, instance = self._load(keys=[self._keys.operation(operation_id)], args=[self._keys.instance("")])
        if doc is None:
            return None
        return Loaded(
            operation=decode_operation(doc, operation_id),
            instance=decode(instance, Instance, f"instance of operation {operation_id}") if instance else None,
        )

    def commit(self, change: Change) -> None:
        tx = Transaction()
        self._require_unmoved(tx, change.before)
        if change.lease is not LeaseMove.WATCH:
            self._require_lease(tx, change.before)
        self._writer.operation(tx, change.after, change.instance)
        self._writer.count(tx, fields_for_change(change))
        self._writer.add(tx, amounts_for_change(change))
        self._writer.credit(tx, change)
        if change.after.host != change.before.host:
            tx.do("SREM", self._keys.operations_on(change.before.host), change.before.id)
        self._add_instance(tx, change)
        self._add_lease(tx, change)
        for image in change.images:
            self._writer.image(tx, image)
        if change.released_image_name is not None:
            self._writer.release_image_name(tx, change.released_image_name, change.before.id)
        self._writer.release_volumes(tx, change.before.instance_id, change.released_volumes)
        self._writer.release_ports(tx, change.released_ports)
        tx.run(self._client, f"write operation {change.after.id}")

    def note_progress(self, operation: Operation, step: str, done_bytes: int, total_bytes: int | None) -> bool:
        """Overwritten each time, and gone a minute after the last note."""
        note = encode({"step": step, "done_bytes": done_bytes, "total_bytes": total_bytes})
        with asking("note progress"), self._client.pipeline(transaction=False) as pipe:
            pipe.set(self._keys.progress(operation.id), note, ex=PROGRESS_KEEP_S)
            pipe.hget(self._keys.operation(operation.id), "rev")
            revision = pipe.execute()[1]
        if revision == str(operation.revision):
            return False
        loaded = self.load(operation.id)
        return loaded is not None and loaded.operation.told_to_stop

    def _require_unmoved(self, tx: Transaction, before: Operation) -> None:
        def moved(found: str) -> Exception:
            return StoreConflict(f"operation {before.id} is at revision {found or 'none'}, not {before.revision}")

        tx.require(self._keys.operation(before.id), "rev", before.revision, moved)

    def _require_lease(self, tx: Transaction, before: Operation) -> None:
        def fenced(found: str) -> Exception:
            return Fenced(f"the lease of instance {before.instance_id} has moved on, to {found or 'nobody'}")

        lease = self._keys.lease(before.instance_id)
        tx.require(lease, "op", before.id, fenced)
        tx.require(lease, "token", before.token, fenced)

    def _add_instance(self, tx: Transaction, change: Change) -> None:
        if change.instance is None:
            return
        if change.forget_instance:
            self._writer.forget_instance(tx, change.instance)
            return
        if change.claim is not None:
            self._writer.move_claim(tx, change.before.host, change.claim)
        self._writer.instance(tx, change.instance, cause_of(change.after))

    def _add_lease(self, tx: Transaction, change: Change) -> None:
        lease = self._keys.lease(change.before.instance_id)
        if change.lease is LeaseMove.RENEW:
            tx.do("HSET", lease, "token", change.after.token)
        elif change.lease is LeaseMove.RELEASE:
            tx.do("DEL", lease)
        elif change.lease is LeaseMove.HAND_OVER and change.successor is not None:
            waiting = change.successor
            tx.require(self._keys.operation(waiting.id), "rev", waiting.revision - 1, StoreConflict)
            self._writer.operation(tx, waiting, change.instance)
            tx.do("HSET", lease, "op", waiting.id, "token", waiting.token)
