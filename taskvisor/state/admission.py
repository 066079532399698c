"""Letting an operation in: it exists with its instance's record, name, claim, ports and lease, or not at all."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskvisor.model.errors import Conflicting, Refused, StoreConflict
from taskvisor.model.history import Cause, cause_of
from taskvisor.model.ids import InstanceId, OperationId
from taskvisor.model.observed import PlugPart
from taskvisor.model.operation import Operation
from taskvisor.model.records import Claim, Instance
from taskvisor.model.states import Phase
from taskvisor.state.codec import decode
from taskvisor.state.connection import asking
from taskvisor.state.counters import CounterName, field_for
from taskvisor.state.keys import Keys
from taskvisor.state.security_groups import require_groups
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Writer

if TYPE_CHECKING:
    import redis


@dataclass(frozen=True, kw_only=True)
class Lease:
    """Who may change an instance: one operation, and the token of its last step."""

    operation_id: OperationId
    token: int


@dataclass(frozen=True, kw_only=True)
class Holding:
    """An instance's record and who holds it, seen in one look. `record` is the record as it is stored."""

    instance: Instance
    record: str
    lease: Lease | None


LOOK_SCRIPT = """
return {redis.call('GET', KEYS[1]), redis.call('HGET', KEYS[2], 'op'), redis.call('HGET', KEYS[2], 'token')}
"""


class Admission:
    """The door of the store. Each `admit_` is one transaction; none is repeated when it was carried out before."""

    def __init__(self, client: "redis.Redis", writer: Writer) -> None:
        self._client = client
        self._writer = writer
        self._keys: Keys = writer.keys
        self._look = client.register_script(LOOK_SCRIPT)

    def read_holding(self, instance_id: InstanceId) -> Holding | None:
        """The instance and who holds it now; None when there is no such instance."""
        keys = [self._keys.instance(instance_id), self._keys.lease(instance_id)]
        with asking(f"read instance {instance_id} and its lease"):
            record, holder, token = self._look(keys=keys)
        if record is None:
            return None
        return Holding(
            instance=decode(record, Instance, f"instance {instance_id}"),
            record=record,
            lease=Lease(operation_id=OperationId(holder), token=int(token)) if holder is not None else None,
        )

    def admit_build(self, operation: Operation, instance: Instance, claim: Claim) -> None:
        """A build with its new instance: a new operation (revision 0), or an ended one that begins again.

        Refused when the name is taken; DoesNotFit when the host has no room left; StoreConflict when the operation is
        not at the revision before, or one of the ports is not the instance's any more.
        """
        tx = Transaction()
        self._require_new(tx, operation)
        self._require_free_lease(tx, instance.id)
        tx.require_absent(self._keys.names, instance.name, lambda owner: _name_taken(instance.name, owner))
        self._writer.keep_ports(tx, instance)
        require_groups(tx, self._keys, instance.ports)
        self._writer.hold_volumes(tx, instance)
        self._writer.claim(tx, claim)
        self._writer.operation(tx, operation, instance)
        self._writer.new_instance(tx, instance, cause_of(operation))
        self._take_lease(tx, operation)
        tx.run(self._client, f"admit operation {operation.id}")

    def admit_change(
        self, operation: Operation, instance: Instance, seen: Holding, image_name: str | None = None
    ) -> None:
        """A new operation on an instance that nobody holds. StoreConflict when somebody does or did since it was seen.

        `image_name` is reserved for it: Refused when it is taken. Volumes that the instance has now and had not are held for
        it: Refused when another holds one. So are ports: StoreConflict when one was given back meanwhile.
        """
        tx = Transaction()
        self._require_new(tx, operation)
        tx.require_same(self._keys.instance(instance.id), seen.record, StoreConflict)
        tx.require_absent(self._keys.lease(instance.id), "op", StoreConflict)
        self._writer.keep_ports(tx, instance, seen.instance)
        require_groups(tx, self._keys, instance.ports)
        if image_name is not None:
            self._writer.reserve_image_name(tx, image_name, operation)
        self._writer.hold_volumes(tx, instance, seen.instance)
        self._writer.operation(tx, operation, instance)
        self._writer.instance(tx, instance, cause_of(operation))
        self._take_lease(tx, operation)
        tx.run(self._client, f"admit operation {operation.id}")

    def admit_over(self, operation: Operation, instance: Instance, seen: Holding, holder: Operation | None) -> None:
        """A new operation in place of the one that holds the instance and runs no step now. `holder` is its end.

        StoreConflict when it or the instance moved since it was seen: look again.
        """
        tx = Transaction()
        self._require_new(tx, operation)
        self._require_held_as_seen(tx, seen)
        if holder is not None:
            tx.require(self._keys.operation(holder.id), "rev", holder.revision - 1, StoreConflict)
        self._writer.operation(tx, operation, instance)
        if holder is not None:
            self._writer.operation(tx, holder, None)
        self._writer.instance(tx, instance, cause_of(operation))
        self._take_lease(tx, operation)
        tx.run(self._client, f"admit operation {operation.id}")

    def admit_waiting(self, operation: Operation, seen: Holding, holder: Operation) -> None:
        """A new operation in phase WAITING, and the holder with the note that it is to stop and hand over.

        StoreConflict when the holder or the instance moved since it was seen: look again.
        """
        tx = Transaction()
        self._require_new(tx, operation)
        self._require_held_as_seen(tx, seen)
        tx.require(self._keys.operation(holder.id), "rev", holder.revision - 1, StoreConflict)
        self._writer.operation(tx, operation, seen.instance)
        self._writer.operation(tx, holder, seen.instance)
        tx.run(self._client, f"admit operation {operation.id}")

    def write_at_rest(self, former: Instance, instance: Instance, cause: Cause) -> None:
        """Note what was seen of an instance that no operation holds. Conflicting when one does, or has since it was read."""
        seen = self.read_holding(former.id)
        if seen is None or seen.lease is not None or seen.instance != former:
            raise Conflicting(f"instance {former.name} is not at rest any more")
        tx = Transaction()
        self._require_free_lease(tx, instance.id)
        tx.require_same(self._keys.instance(instance.id), seen.record, Conflicting)
        self._writer.instance(tx, instance, cause)
        tx.run(self._client, f"write instance {instance.id}")

    def heal_at_rest(self, former: Instance, healed: Instance, *, was: str, at: float) -> None:
        """As `write_at_rest`, of a record that said `was` while nobody was at it; an event says so."""
        seen = self.read_holding(former.id)
        if seen is None or seen.lease is not None or seen.instance != former:
            raise Conflicting(f"instance {former.name} is held, or has changed since it was read")
        tx = Transaction()
        self._require_free_lease(tx, healed.id)
        tx.require_same(self._keys.instance(healed.id), seen.record, Conflicting)
        self._writer.instance(tx, healed, Cause(by="host.recover", at=at, reason=f"it was {was}, and nobody was at it"))
        self._writer.event_of_host(tx, healed, task="host.recover", phase="healed", outcome=was, at=at)
        tx.run(self._client, f"heal the record of instance {healed.id}")

    def note_plug_restored(self, instance: Instance, parts: Iterable[PlugPart], *, task: str, at: float) -> None:
        """The host has plugged a guest of its again, which lacked these parts: an event, and one more on the counter."""
        tx = Transaction()
        outcome = ",".join(part.value for part in parts)
        self._writer.event_of_host(tx, instance, task=task, phase="plug_restored", outcome=outcome, at=at)
        self._writer.count(tx, (field_for(CounterName.PLUGS_RESTORED),))
        tx.run(self._client, f"note that the plug of instance {instance.id} was restored")

    def _require_new(self, tx: Transaction, operation: Operation) -> None:
        def known(_: str) -> Exception:
            return StoreConflict(f"operation {operation.id} is known already")

        key = self._keys.operation(operation.id)
        if operation.revision == 0:
            tx.require_absent(key, "rev", known)
        else:
            tx.require(key, "rev", operation.revision - 1, StoreConflict)

    def _require_free_lease(self, tx: Transaction, instance_id: InstanceId) -> None:
        def held(holder: str) -> Exception:
            return Conflicting(f"operation {holder} holds instance {instance_id}")

        tx.require_absent(self._keys.lease(instance_id), "op", held)

    def _require_held_as_seen(self, tx: Transaction, seen: Holding) -> None:
        assert seen.lease is not None  # noqa: S101 - nobody is to be stopped where nobody holds the instance
        lease = self._keys.lease(seen.instance.id)
        tx.require_same(self._keys.instance(seen.instance.id), seen.record, StoreConflict)
        tx.require(lease, "op", seen.lease.operation_id, StoreConflict)
        tx.require(lease, "token", seen.lease.token, StoreConflict)

    def _take_lease(self, tx: Transaction, operation: Operation) -> None:
        assert operation.phase is Phase.RUNNING  # noqa: S101 - who waits holds nothing
        tx.do("HSET", self._keys.lease(operation.instance_id), "op", operation.id, "token", operation.token)


def _name_taken(name: str, owner: str) -> Exception:
    return Refused(f"name: {name!r} is the name of instance {owner}; choose another, or delete that one first")
