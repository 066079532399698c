"""The read side: instances, operations, images and networks by name, id or all of them. What producers may import.

Invariant: nothing here changes an instance or an operation.
Invariant: one record that can't be read hides no other. Lists leave it out and tell of it; who asks for it alone is told.
So what is missing in a list is not proved to be gone.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import nsmallest
from typing import TYPE_CHECKING, TypeVar

from taskvisor.model.errors import Refused
from taskvisor.model.ids import HostName, InstanceId, NetworkId, OperationId
from taskvisor.model.network import Network
from taskvisor.model.operation import Operation
from taskvisor.model.records import Image, Instance
from taskvisor.state.codec import OnUnreadable, decode, decode_each, decode_operation, log_unreadable
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys

if TYPE_CHECKING:
    import redis

R = TypeVar("R")
BATCH = 500
"""Records read in one round trip."""


FORGET_SCRIPT = """
local gone = 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, ARGV[2] - 1)) do
  if redis.call('EXISTS', ARGV[1] .. id) == 0 then gone = gone + redis.call('ZREM', KEYS[1], id) end
end
return gone
"""


LOOK_UP_SCRIPT = "return redis.call('GET', ARGV[2] .. (redis.call('HGET', KEYS[1], ARGV[1]) or ARGV[1]))"
"""What is recorded under the id that a name stands for, or that is given."""


@dataclass(frozen=True, kw_only=True)
class _ProgressNote:
    """What `RedisJournal.note_progress` writes."""

    step: str
    done_bytes: int
    total_bytes: int | None


class Catalog:
    """Every record that people list or name. `on_unreadable` is told of each record that a list leaves out."""

    def __init__(self, client: "redis.Redis", keys: Keys, on_unreadable: OnUnreadable = log_unreadable) -> None:
        self._client = client
        self._keys = keys
        self._on_unreadable = on_unreadable
        self._forget = client.register_script(FORGET_SCRIPT)
        self._look_up = client.register_script(LOOK_UP_SCRIPT)

    def read_instance(self, instance_id: InstanceId) -> Instance | None:
        with asking(f"read instance {instance_id}"):
            text = self._client.get(self._keys.instance(instance_id))
        return decode(str(text), Instance, f"instance {instance_id}") if text else None

    def find_instance(self, name_or_id: str) -> Instance | None:
        """The instance of that name, else of that id; None when there is neither."""
        return self.read_instance(self.find_instance_id(name_or_id))

    def find_instance_id(self, name_or_id: str) -> InstanceId:
        """The id that the name stands for; what is no name may be an id."""
        with asking(f"look up instance {name_or_id}"):
            by_name = self._client.hget(self._keys.names, name_or_id)
        return InstanceId(str(by_name or name_or_id))

    def list_instances(self, host: HostName | None = None) -> tuple[Instance, ...]:
        """All of them, or those of one host, by name."""
        index = self._keys.instances if host is None else self._keys.instances_on(host)
        with asking("list instances"):
            ids = sorted(str(member) for member in self._client.smembers(index))
        found = self._read_many([(f"instance {one}", self._keys.instance(one)) for one in ids], Instance)
        return tuple(sorted(found, key=lambda instance: instance.name))

    def list_instance_ids(self, host: HostName) -> frozenset[InstanceId]:
        """The instances of that host, by id only."""
        with asking(f"list the instances on {host}"):
            return frozenset(InstanceId(str(one)) for one in self._client.smembers(self._keys.instances_on(host)))

    def read_instances(self, ids: Iterable[InstanceId]) -> tuple[Instance, ...]:
        """Those of them that are there and can be read, in that order."""
        return tuple(self._read_many([(f"instance {one}", self._keys.instance(one)) for one in ids], Instance))

    def page_instances(self, *, after: str, limit: int) -> tuple[Instance, ...]:
        """The first of those whose names come after `after` ("": all), by name, and no more than `limit`.

        One that lacks its name in the list of names is on no page; `taskvisor verify` finds such.
        """
        with asking("list instances"):
            names = (str(name) for name in self._client.hkeys(self._keys.names))
            page = nsmallest(limit, (name for name in names if name > after))
            ids = self._client.hmget(self._keys.names, page) if page else []
        return self.read_instances(InstanceId(str(one)) for one in ids if one is not None)

    def read_operation(self, operation_id: OperationId) -> Operation | None:
        with asking(f"read operation {operation_id}"):
            doc = self._client.hget(self._keys.operation(operation_id), "doc")
        return decode_operation(str(doc), operation_id) if doc else None

    def read_operations(self, ids: Iterable[OperationId]) -> tuple[Operation, ...]:
        """Those of them that are there and can be read."""
        wanted: list[str] = sorted(ids)
        batches = (wanted[start : start + BATCH] for start in range(0, len(wanted), BATCH))
        return tuple(operation for batch in batches for operation in self._read_operations(batch))

    def find_operation(self, prefix: str) -> Operation:
        """The operation of that id, or the only one whose id begins so. Refused when none or several fit."""
        exact = self.read_operation(OperationId(prefix))
        if exact is not None:
            return exact
        with asking("list operations"):
            ids = [str(member) for member in self._client.zrevrange(self._keys.operations, 0, 9999)]
        fitting = [operation_id for operation_id in ids if operation_id.startswith(prefix)]
        if len(fitting) > 1:
            raise Refused(f"operation: {prefix!r} fits {len(fitting)} operations; give more of the id")
        found = self.read_operation(OperationId(fitting[0])) if fitting else None
        if found is None:
            raise Refused(f"operation: {prefix!r}: no such operation is known; see `taskvisor ops list`")
        return found

    def list_operations(self, limit: int = 50) -> tuple[Operation, ...]:
        """The latest, newest first."""
        with asking("list operations"):
            ids = [str(member) for member in self._client.zrevrange(self._keys.operations, 0, limit - 1)]
        return tuple(self._read_operations(ids))

    def forget_expired(self, limit: int = 1000) -> int:
        """The oldest operations whose records have expired are listed no more; returns how many that were."""
        with asking("list the oldest operations"):
            return int(self._forget(keys=[self._keys.operations], args=[self._keys.operation(""), limit]))

    def list_stuck(self) -> tuple[Operation, ...]:
        """Operations that are STUCK now, the longest first, however many have ended since."""
        with asking("list stuck operations"):
            ids = sorted(str(member) for member in self._client.smembers(self._keys.stuck))
        batches = (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))
        found = (operation for batch in batches for operation in self._read_operations(batch))
        return tuple(sorted(found, key=lambda operation: operation.settled_at or operation.updated_at))

    def list_unsettled(self, *, before: float, limit: int = 10_000) -> tuple[OperationId, ...]:
        """Operations without progress since that time, the longest first."""
        with asking("list unsettled operations"):
            ids = self._client.zrangebyscore(self._keys.unsettled, "-inf", before, start=0, num=limit)
        return tuple(OperationId(str(member)) for member in ids)

    def list_under_way(self, *, limit: int = 10_000) -> Iterator[Operation]:
        """Operations that have not ended, those without progress the longest first."""
        ids = [str(one) for one in self.list_unsettled(before=float("inf"), limit=limit)]
        for start in range(0, len(ids), BATCH):
            yield from self._read_operations(ids[start : start + BATCH])

    def list_unsettled_on(self, host: HostName) -> tuple[OperationId, ...]:
        """Operations whose steps run on that host and that have not ended."""
        with asking(f"list operations on {host}"):
            return tuple(OperationId(str(member)) for member in self._client.smembers(self._keys.operations_on(host)))

    def read_progress(self, operation_id: OperationId) -> tuple[str, int, int | None] | None:
        """Step, bytes done and bytes in all of a long step that runs now."""
        with asking("read progress"):
            text = self._client.get(self._keys.progress(operation_id))
        if not text:
            return None
        note = decode(str(text), _ProgressNote, f"progress of operation {operation_id}")
        return note.step, note.done_bytes, note.total_bytes

    def read_image(self, name: str) -> Image | None:
        with asking(f"read image {name}"):
            text = self._client.get(self._keys.image(name))
        return decode(str(text), Image, f"image {name}") if text else None

    def list_images(self) -> tuple[Image, ...]:
        with asking("list images"):
            names = sorted(str(member) for member in self._client.hkeys(self._keys.images))
        return tuple(self._read_many([(f"image {name}", self._keys.image(name)) for name in names], Image))

    def find_image(self, name_or_id: str) -> Image | None:
        """The image of that name, else of that id; None when there is neither."""
        return self.read_image(self.find_image_name(name_or_id))

    def find_image_name(self, name_or_id: str) -> str:
        """The name that the id stands for; what is no image's id may be a name."""
        with asking(f"look up image {name_or_id}"):
            owners = self._client.hgetall(self._keys.images)
        named = (str(name) for name, owner in owners.items() if str(owner) == name_or_id)
        return name_or_id if name_or_id in owners else next(named, name_or_id)

    def read_network(self, network_id: NetworkId) -> Network:
        """Refused when there is none of that id."""
        with asking(f"read network {network_id}"):
            text = self._client.get(self._keys.network(network_id))
        if not text:
            raise Refused(f"network: {network_id}: there is no such network; see `taskvisor networks`")
        return decode(str(text), Network, f"network {network_id}")

    def find_network(self, name_or_id: str) -> Network:
        """The network of that name, else of that id; Refused when there is none."""
        network = self.look_up_network(name_or_id)
        if network is None:
            known = ", ".join(network.name for network in self.list_networks()) or "none"
            raise Refused(f"networks: {name_or_id!r}: there is no such network; known: {known}")
        return network

    def look_up_network(self, name_or_id: str) -> Network | None:
        """The network of that name, else of that id; None when there is neither."""
        with asking(f"look up network {name_or_id}"):
            text = self._look_up(keys=[self._keys.networks], args=[name_or_id, self._keys.network("")])
        return decode(str(text), Network, f"network {name_or_id}") if text else None

    def list_networks(self) -> tuple[Network, ...]:
        with asking("list networks"):
            ids = sorted(str(member) for member in self._client.hvals(self._keys.networks))
        return tuple(self._read_many([(f"network {one}", self._keys.network(one)) for one in ids], Network))

    def _read_operations(self, ids: list[str]) -> Iterable[Operation]:
        with asking("list operations"):
            pipe = self._client.pipeline(transaction=False)
            for operation_id in ids:
                pipe.hget(self._keys.operation(operation_id), "doc")
            docs = pipe.execute(raise_on_error=False)
        named = zip((f"operation {operation_id}" for operation_id in ids), docs, strict=True)
        return decode_each(named, Operation, self._on_unreadable)

    def _read_many(self, records: list[tuple[str, str]], kind: type[R]) -> Iterable[R]:
        """Each given as what it is and its key; those that are there and can be read."""
        for start in range(0, len(records), BATCH):
            part = records[start : start + BATCH]
            with asking("read records"):
                texts = self._client.mget([key for _, key in part])
            yield from decode_each(
                ((what, text) for (what, _), text in zip(part, texts, strict=True)), kind, self._on_unreadable
            )
