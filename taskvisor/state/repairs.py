"""Putting right what an audit found in the store, each repair one transaction that looks again at what it relies on.

Invariant: nothing is freed that an instance which is recorded there has.
"""

from typing import TYPE_CHECKING

from taskvisor.model.errors import Refused, StoreConflict
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.records import Instance
from taskvisor.state.codec import decode
from taskvisor.state.connection import asking
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Writer

if TYPE_CHECKING:
    import redis


class ClaimRepairs:
    """Of claims that are no instance's. Safe in threads."""

    def __init__(self, client: "redis.Redis", writer: Writer) -> None:
        self._client = client
        self._writer = writer
        self._keys = writer.keys

    def ensure_unclaimed(self, host: HostName, instance_id: InstanceId) -> None:
        """Nothing is claimed or held on the host for an instance that is not recorded there: what claim-without-instance finds.

        Refused when it is recorded there; StoreConflict when it came or moved while this was looked at: audit again. Done
        twice, it does nothing the second time.
        """
        key = self._keys.instance(instance_id)
        with asking(f"read instance {instance_id}"):
            record = self._client.get(key)
        tx = Transaction()
        if record is None:
            tx.require_gone(key, StoreConflict)
        else:
            instance = decode(str(record), Instance, f"instance {instance_id}")
            if instance.host == host:
                raise Refused(f"instance {instance.name} is on {host}, and has its claim there; delete it instead")
            tx.require_same(key, str(record), StoreConflict)
        self._writer.unclaim(tx, host, instance_id)
        tx.run(self._client, f"free the claim of {instance_id} on {host}")

    def ensure_used_summed(self, host: HostName) -> None:
        """What is noted as used of the host is the sum of its claims: what used-differs finds.

        StoreConflict when claims came or went meanwhile: audit again.
        """
        used_key, claims_key = self._keys.used(host), self._keys.claims(host)
        with asking(f"read the claims on {host}"), self._client.pipeline(transaction=True) as pipe:
            pipe.hgetall(used_key)
            pipe.hgetall(claims_key)
            used, claims = pipe.execute()
        total: dict[str, int] = dict.fromkeys(used, 0)
        tx = Transaction()
        for instance_id, text in claims.items():
            for name, amount in decode(text, dict[str, int], f"claim of {instance_id}").items():
                total[name] = total.get(name, 0) + amount
        for name, amount in total.items():
            if name in used:
                tx.require(used_key, name, used[name], StoreConflict)
            else:
                tx.require_absent(used_key, name, StoreConflict)
            tx.do("HSET", used_key, name, amount)
        tx.run(self._client, f"sum up the claims on {host}")
