"""What hosts have in quarantine, and which store this is. Must never know what is done about an orphan.

`birth` is made when the store is first asked for it, and never changed: a store that was flushed, or is another one, has another.
In it each host's ticks are counted: a store that was restored from an older copy has fewer than its hosts remember.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from taskvisor.model.ids import HostName, InstanceId, NetworkId
from taskvisor.model.orphan import Orphan, StoreSeen
from taskvisor.state.codec import decode_each, encode, log_unreadable
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys
from taskvisor.state.networks import move_revision, read_revision
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Outcome, Writer

if TYPE_CHECKING:
    import redis

TICK_SCRIPT = """
redis.call('HSETNX', KEYS[1], 'id', ARGV[1])
return {redis.call('HGET', KEYS[1], 'id'), redis.call('HINCRBY', KEYS[1], ARGV[2], 1), redis.call('SCARD', KEYS[2])}
"""


@dataclass(frozen=True, kw_only=True)
class Quarantine:
    """What a host has in quarantine, by key. `stored`: every key, readable or not. `revision`: how often it had changed."""

    host: HostName
    orphans: Mapping[str, Orphan]
    stored: frozenset[str]
    revision: int


class Quarantines:
    """The quarantine of every host, for whoever only looks. CannotAsk when Redis is silent."""

    def __init__(self, client: "redis.Redis", keys: Keys) -> None:
        self._client = client
        self._keys = keys

    def read(self, host: HostName) -> Quarantine:
        """What the host has in quarantine. What can't be read is left out, and told of: it is seen for the first time then."""
        revision = read_revision(self._client, self._keys, _list_of(host))
        with asking(f"list what {host} has in quarantine"):
            found = self._client.hgetall(self._keys.orphans(host))
        read = decode_each(((f"orphan {key!s}", text) for key, text in found.items()), Orphan, log_unreadable)
        orphans = {orphan.stray.key: orphan for orphan in read}
        return Quarantine(host=host, orphans=orphans, stored=frozenset(map(str, found)), revision=revision)


class Orphans(Quarantines):
    """The same, for whoever writes it. Each method: CannotAsk when Redis is silent."""

    def __init__(self, client: "redis.Redis", writer: Writer) -> None:
        super().__init__(client, writer.keys)
        self._writer = writer
        self._tick = client.register_script(TICK_SCRIPT)

    def tick(self, host: HostName) -> StoreSeen:
        """Which store this is; the host has asked once more."""
        with asking("ask which store this is"):
            birth, ticks, recorded = self._tick(
                keys=[self._keys.birth, self._keys.instances], args=[uuid4().hex, f"ticks:{host}"]
            )
            run = str(self._client.info("server")["run_id"])
        return StoreSeen(birth=str(birth), ticks=int(ticks), run=run, recorded=int(recorded) > 0)

    def put(self, seen: Quarantine, orphans: Mapping[str, Orphan], *answers: Outcome) -> None:
        """This is what the host has in quarantine, and the callers are told. StoreConflict when it has changed since."""
        key, tx = self._keys.orphans(seen.host), Transaction()
        move_revision(tx, self._keys, _list_of(seen.host), seen.revision)
        for name in seen.stored - orphans.keys():
            tx.do("HDEL", key, name)
        for name, orphan in orphans.items():
            if seen.orphans.get(name) != orphan:
                tx.do("HSET", key, name, encode(orphan))
        for answer in answers:
            self._writer.outcome(tx, answer)
        tx.run(self._client, f"write what {seen.host} has in quarantine")

    def list_recorded(self, ids: Iterable[InstanceId]) -> frozenset[InstanceId]:
        """Those of which there is a record, readable or not, or which an operation holds: asked by key, not by any list."""
        wanted = sorted(set(ids))
        with asking("ask which instances are recorded"), self._client.pipeline(transaction=False) as pipe:
            for instance_id in wanted:
                pipe.exists(self._keys.instance(instance_id), self._keys.lease(instance_id))
            answers = pipe.execute()
        return frozenset(one for one, there in zip(wanted, answers, strict=True) if there)

    def list_claimed(self, host: HostName) -> tuple[InstanceId, ...]:
        """The instances that something of the host is held for, readable or not."""
        with asking(f"list the claims on {host}"):
            return tuple(sorted(InstanceId(str(member)) for member in self._client.hkeys(self._keys.claims(host))))

    def list_given(self, macs: Iterable[tuple[NetworkId, str]]) -> frozenset[tuple[NetworkId, str]]:
        """Those of the MACs, each with its network, that are given out."""
        wanted = sorted(set(macs))
        if not wanted:
            return frozenset()
        with asking("ask which MACs are given out"):
            owners = self._client.hmget(self._keys.macs, [f"{network_id} {mac}" for network_id, mac in wanted])
        return frozenset(one for one, owner in zip(wanted, owners, strict=True) if owner is not None)

    def list_image_owners(self) -> tuple[str, ...]:
        """What the names of images stand for: an image, or the operation that makes it; and operations that are STUCK."""
        with asking("list the owners of images"), self._client.pipeline(transaction=True) as pipe:
            pipe.hvals(self._keys.images)
            pipe.smembers(self._keys.stuck)
            owners, stuck = pipe.execute()
        return tuple(sorted({str(owner) for owner in (*owners, *stuck)}))


def _list_of(host: HostName) -> str:
    return f"orphans:{host}"
