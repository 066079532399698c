"""Which machine each host is, where its nodes started last, and which boot of it was recovered from.

Knows nothing of what follows from it: `taskvisor.compute.identity` judges.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from taskvisor.model.errors import StoreConflict
from taskvisor.model.identity import Beat, IdentityRecord, KnownHost, Role
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.records import Instance
from taskvisor.state.closing import closed_for
from taskvisor.state.codec import decode, encode
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys
from taskvisor.state.transaction import Transaction

if TYPE_CHECKING:
    import redis

IDENTITY, RECOVERED_BOOT = "identity", "recovered_boot"
"""Fields of `host:<host>`."""

LOOK_SCRIPT = """
return {
  redis.call('HGET', KEYS[1], ARGV[1]), redis.call('HEXISTS', KEYS[1], 'inventory'), redis.call('SCARD', KEYS[2]),
  redis.call('GET', KEYS[3]), redis.call('PTTL', KEYS[3]), redis.call('GET', KEYS[4]), redis.call('PTTL', KEYS[4]),
  redis.call('GET', KEYS[5])
}
"""


class Identities:
    """The identities of hosts in one store."""

    def __init__(self, client: "redis.Redis", keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._look = client.register_script(LOOK_SCRIPT)

    def read(self, host: HostName) -> KnownHost:
        """All that is known of the host, in one look. UnreadableRecord when a newer version wrote its identity."""
        keys = self._keys
        looked_at = [keys.host(host), keys.instances_on(host), keys.alive(host), keys.taking(host), keys.closed]
        with asking(f"read the identity of host {host}"):
            text, reported, instances, alive, alive_ms, taking, taking_ms, door = self._look(
                keys=looked_at, args=[IDENTITY]
            )
        beats = ((Role.STEPS, alive, alive_ms), (Role.CONTROL, taking, taking_ms))
        return KnownHost(
            record=None if text is None else decode(text, IdentityRecord, f"identity of host {host}"),
            text=text,
            reported=bool(reported),
            instances=int(instances),
            beats=tuple(
                Beat(role=role, incarnation=by, left_ms=int(left)) for role, by, left in beats if by is not None
            ),
            store_closed=door is not None and closed_for(str(door)) is not None,
        )

    def register(self, host: HostName, record: IdentityRecord, seen: KnownHost) -> None:
        """The host is that machine, in that seat. StoreConflict when its identity has changed since it was seen."""
        key, tx = self._keys.host(host), Transaction()
        if seen.text is None:
            tx.require_absent(key, IDENTITY, StoreConflict)
        else:
            tx.require(key, IDENTITY, seen.text, StoreConflict)
        tx.do("HSET", key, IDENTITY, encode(record))
        tx.run(self._client, f"register host {host}")

    def count_instances(self, host: HostName) -> int:
        """How many instances are recorded on the host."""
        with asking(f"count the instances of host {host}"):
            return int(self._client.scard(self._keys.instances_on(host)))

    def list_hosts_of(self, instances: Iterable[InstanceId]) -> dict[InstanceId, HostName]:
        """The host of each of these that there is a record of. UnreadableRecord: of one that can't be read it is not told."""
        ids = list(instances)
        if not ids:
            return {}
        with asking("look up guests by their ids"):
            texts = self._client.mget([self._keys.instance(one) for one in ids])
        found = {one: str(text) for one, text in zip(ids, texts, strict=True) if text is not None}
        return {one: decode(text, Instance, f"instance {one}").host for one, text in found.items()}

    def read_recovered_boot(self, host: HostName) -> str | None:
        """The boot of the host that was recovered from last; None when none ever was."""
        with asking(f"ask which boot of {host} was recovered from"):
            found = self._client.hget(self._keys.host(host), RECOVERED_BOOT)
        return None if found is None else str(found)

    def note_recovered_boot(self, host: HostName, boot_id: str) -> None:
        """Guests that ran when the host went down have been seen to, in that boot of it."""
        with asking(f"note which boot of {host} was recovered from"):
            self._client.hset(self._keys.host(host), RECOVERED_BOOT, boot_id)
