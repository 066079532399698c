"""Ports of instances as requests change them while no operation holds the instance, and as an older version left them."""

from typing import TYPE_CHECKING

from taskvisor.model.errors import StoreConflict
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.records import Instance
from taskvisor.state.admission import Holding
from taskvisor.state.codec import decode_each, log_unreadable
from taskvisor.state.connection import asking
from taskvisor.state.members import place_ports
from taskvisor.state.security_groups import require_groups
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Outcome, Writer

if TYPE_CHECKING:
    import redis


class PortChanges:
    """Writes an instance's record together with what the caller of the request is told."""

    def __init__(self, client: "redis.Redis", writer: Writer) -> None:
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
        self._writer.instance(tx, instance)
        self._writer.outcome(tx, answer)
        tx.run(self._client, f"change the ports of instance {instance.id}")

    def ensure_placed(self, host: HostName) -> int:
        """The ports of all instances of the host are members of their networks and groups; returns of how many they were not.

        Every write of a record sees to that. Of a record that an older version wrote last, and nobody has since, this does.
        """
        keys = self._writer.keys
        with asking(f"list the instances of {host}"):
            ids = sorted(InstanceId(str(member)) for member in self._client.smembers(keys.instances_on(host)))
            with self._client.pipeline(transaction=False) as pipe:
                for instance_id in ids:
                    pipe.exists(keys.nics(instance_id))
                known = pipe.execute()
        lacking = (instance_id for instance_id, there in zip(ids, known, strict=True) if not there)
        return sum(self._place(instance_id) for instance_id in lacking)

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
