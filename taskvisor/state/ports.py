"""Ports of instances as requests change them while no operation holds the instance, and as an older version left them."""

from collections.abc import Iterator, Sequence

import redis

from taskvisor.model.errors import StoreConflict, UnreadableRecord
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.records import Instance
from taskvisor.state.admission import Holding
from taskvisor.state.codec import decode_each, log_unreadable
from taskvisor.state.connection import asking
from taskvisor.state.members import entries_of, place_ports
from taskvisor.state.security_groups import require_groups
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Outcome, Writer

BATCH = 500
"""Instances whose places are read in one round trip."""


class PortChanges:
    """Writes an instance's record together with what the caller of the request is told."""

    def __init__(self, client: redis.Redis, writer: Writer) -> None:
        self._client = client
        self._writer = writer

    def write(self, instance: Instance, seen: Holding, answer: Outcome) -> None:
        """The instance's ports are these now. StoreConflict when somebody holds it or has changed it since it was seen.

        Refused when a group that one of them is to be in is gone.
        """
        keys, tx = self._writer.keys, Transaction()
        tx.require_same(keys.instance(instance.id), seen.record, StoreConflict)
        tx.require_absent(keys.lease(instance.id), "op", StoreConflict)
        require_groups(tx, keys, instance.ports)
        self._writer.resting_instance(tx, instance)
        self._writer.outcome(tx, answer)
        tx.run(self._client, f"change the ports of instance {instance.id}")

    def ensure_placed(self, host: HostName) -> int:
        """The ports of all instances of the host are members of their networks and groups; returns of how many they were not.

        Every write of a record sees to that. Of a record that an older version wrote last, and nobody has since, or whose
        places somebody has changed, this does.
        """
        with asking(f"list the instances of {host}"):
            members = self._client.smembers(self._writer.keys.instances_on(host))
        ids = sorted(InstanceId(str(member)) for member in members)
        parts = (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))
        return sum(self._place(instance_id) for part in parts for instance_id in self._misplaced(part))

    def _misplaced(self, ids: Sequence[InstanceId]) -> tuple[InstanceId, ...]:
        """Those of which some place is not as their records make it. What can't be read is told of, and left as it is."""
        keys = self._writer.keys
        with asking("read where ports are placed"):
            texts = self._client.mget([keys.instance(instance_id) for instance_id in ids])
        named = [(f"instance {instance_id}", text) for instance_id, text in zip(ids, texts, strict=True)]
        instances = tuple(decode_each(named, Instance, log_unreadable))
        return tuple(
            instance.id
            for instance, found in zip(instances, self._read_places(instances), strict=True)
            if found is not None
            and found != [str(len(instance.ports)), *(text for *_, text in entries_of(keys, instance))]
        )

    def _read_places(self, instances: Sequence[Instance]) -> Iterator[list[str] | None]:
        """Of each: how many ports are noted as its own, and what is noted where its entries should be; None: of another type."""
        keys = self._writer.keys
        with asking("read where ports are placed"), self._client.pipeline(transaction=False) as pipe:
            for instance in instances:
                pipe.hlen(keys.nics(instance.id))
                for key, port_id, _ in entries_of(keys, instance):
                    pipe.hget(key, port_id)
            answers = iter(pipe.execute(raise_on_error=False))
        for instance in instances:
            found = [next(answers), *(next(answers) for _ in entries_of(keys, instance))]
            errors = [answer for answer in found if isinstance(answer, redis.ResponseError)]
            if errors:
                log_unreadable(
                    UnreadableRecord(f"where the ports of {instance.id} are placed can't be read: {errors[0]}")
                )
            yield None if errors else [str(answer) for answer in found]

    def _place(self, instance_id: InstanceId) -> bool:
        keys = self._writer.keys
        with asking(f"read instance {instance_id}"):
            text = self._client.get(keys.instance(instance_id))
        for instance in decode_each([(f"instance {instance_id}", text)], Instance, log_unreadable):
            tx = Transaction()
            tx.require_same(keys.instance(instance_id), str(text), StoreConflict)
            place_ports(tx, keys, instance)
            try:
                tx.run(self._client, f"place the ports of instance {instance_id}")
            except StoreConflict:
                return False  # whoever wrote it has placed them
            return bool(instance.ports)
        return False
