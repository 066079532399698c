"""One read of all that is recorded, in batches, for an audit: the records, the sets that list them, and the queues.

Records are found by their keys (SCAN), not by the sets that list them: whether the two agree is for the audit to say. What
belongs together and is summed up (a host's claims, a network's addresses) is read in one transaction. Nothing is written,
and what can't be read is noted with its key instead of ending the survey.

An operation that has ended expires; one that has not, or is STUCK, never does: so the keys without a time to live are those
that matter, whatever the sets say (taskvisor/state/writing.py).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import redis

from taskvisor.model.errors import UnreadableRecord
from taskvisor.model.flavor_record import FlavorRecord
from taskvisor.model.ids import HostName, InstanceId, NetworkId, OperationId, PortId, SecurityGroupId
from taskvisor.model.network import Network
from taskvisor.model.operation import Operation
from taskvisor.model.queues import COMPUTE_QUEUE, dead_key, inflight_key, queues_of
from taskvisor.model.records import Image, Instance, Inventory, Resources
from taskvisor.model.survey import (
    AllocationNote,
    HostRecord,
    Indexes,
    LeaseRecord,
    NetworkRecord,
    QueueDepth,
    Records,
)
from taskvisor.state.codec import OnUnreadable, decode, decode_operation
from taskvisor.state.connection import asking
from taskvisor.state.host_words import operator_words_in
from taskvisor.state.keys import Keys
from taskvisor.state.members import parse_grouped, parse_member, parse_places

if TYPE_CHECKING:
    from redis.client import Pipeline

R = TypeVar("R")
BATCH = 500
"""Keys asked about in one round trip."""
OF_NETWORK = ("addresses", "ports", "addresses6", "ports6", "members")
OF_INSTANCE = ("instance", "lease", "history", "nics")
OTHERS = ("op", "image", "flavor", "network", "claims", "used", "held", "host", "volume", "grouped", "servers")
KINDS = (*OF_NETWORK, *OF_INSTANCE, *OTHERS)
"""The kinds of keys that end in an id, a name or a host."""


class Survey:
    """Reads everything. Safe in threads."""

    def __init__(self, client: "redis.Redis", keys: Keys) -> None:
        self._client = client
        self._keys = keys

    def read(self, now: float) -> Records:
        """The records as they are at `now`. CannotAsk when Redis is silent; nothing else ends it."""
        with asking("read all records"):
            return _Reading(client=self._client, keys=self._keys, now=now).records()


@dataclass(kw_only=True)
class _Reading:
    """One survey under way: what was found so far."""

    client: "redis.Redis"
    keys: Keys
    now: float
    unreadable: dict[str, str] = field(default_factory=dict)
    found: dict[str, set[str]] = field(default_factory=dict)

    def records(self) -> Records:
        self._scan()
        names, image_names = self._hash(self.keys.names), self._hash(self.keys.images)
        indexes = self._indexes()
        hosts = self._hosts(indexes)
        flavors = self._decoded("flavor", {*self.found["flavor"], *indexes.flavors}, FlavorRecord)
        images = self._decoded("image", {*self.found["image"], *image_names}, Image)
        instances, leases = self._instances(indexes)
        operations, listed = self._operations(indexes, leases, image_names)
        return Records(
            read_at=self.now,
            instances=instances,
            operations=operations,
            leases=leases,
            hosts=hosts,
            names={name: InstanceId(instance_id) for name, instance_id in names.items()},
            images=images,
            image_names=image_names,
            networks=self._networks(),
            macs=self._macs(),
            allocating=self._allocating(),
            queues=self._queues(hosts),
            indexes=replace(indexes, operations=listed),
            unreadable=self.unreadable,
            volumes={
                one: {InstanceId(key): how for key, how in held.items()} for one, held in self._hashes("volume").items()
            },
            nics={InstanceId(one): parse_places(places) for one, places in self._hashes("nics").items()},
            grouped={
                SecurityGroupId(one): self._parsed(texts, parse_grouped, f"grouped:{one}")
                for one, texts in self._hashes("grouped").items()
            },
            flavors=flavors,
        )

    def _scan(self) -> None:
        """Which keys there are of each kind: the part of the name after it."""
        self.found = {kind: set() for kind in KINDS}
        for key in self.client.scan_iter(f"{self.keys.prefix}*", count=1000):
            kind, colon, rest = str(key).removeprefix(self.keys.prefix).partition(":")
            if colon and kind in self.found:
                self.found[kind].add(rest)

    def _short(self, key: str) -> str:
        return key.removeprefix(self.keys.prefix)

    def _ask(self, ask: Callable[["Pipeline"], Any], key: str, empty: R) -> R:
        """The answers of one transaction; `empty` when a key is of another type than it should be, which is noted."""
        with self.client.pipeline(transaction=True) as pipe:
            ask(pipe)
            try:
                answers = pipe.execute()
            except redis.ResponseError as error:
                self._note_type_error(self._short(key), error)
                return empty
        return cast(R, answers if isinstance(empty, tuple) else answers[0])

    def _note_type_error(self, key: str, error: redis.ResponseError) -> None:
        """Note a key of another type; any other error is Redis' own, and tells nothing of the key."""
        if "WRONGTYPE" not in str(error):
            raise error
        self.unreadable[key] = str(error)

    def _hash(self, key: str) -> dict[str, str]:
        empty: dict[str, str] = {}
        return self._ask(lambda pipe: pipe.hgetall(key), key, empty)

    def _set(self, key: str) -> frozenset[str]:
        empty: set[str] = set()
        return frozenset(self._ask(lambda pipe: pipe.smembers(key), key, empty))

    def _sorted(self, key: str) -> list[tuple[str, float]]:
        empty: list[tuple[str, float]] = []
        return self._ask(lambda pipe: pipe.zrange(key, 0, -1, withscores=True), key, empty)

    def _decode(self, text: str, kind: type[R], key: str) -> R | None:
        try:
            return decode(text, kind, key)
        except UnreadableRecord as error:
            self.unreadable[key] = str(error)
            return None

    def _number(self, text: str, key: str) -> float:
        """The number; 0 for what is none, which is noted."""
        try:
            return float(text)
        except ValueError:
            self.unreadable[key] = f"{text!r} is no number"
            return 0.0

    def _decoded(self, kind: str, ids: Iterable[str], into: type[R]) -> dict[str, R]:
        """The records of one kind, by the rest of their keys."""
        found: dict[str, R] = {}
        for part in _batches(ids):
            texts = self.client.mget([f"{self.keys.prefix}{kind}:{rest}" for rest in part])
            for rest, text in zip(part, texts, strict=True):
                record = self._record(kind, rest, text, into)
                if record is not None:
                    found[rest] = record
        return found

    def _record(self, kind: str, rest: str, text: object, into: type[R]) -> R | None:
        """The record, from what MGET said of its key; it says None also for a key that is no string."""
        if text is not None:
            return self._decode(str(text), into, f"{kind}:{rest}")
        if rest in self.found[kind]:
            self._note_type(f"{kind}:{rest}", "string")
        return None

    def _note_type(self, key: str, wanted: str) -> None:
        """Note a key that is there and not of its type; one that is gone meanwhile is none."""
        there = str(self.client.type(f"{self.keys.prefix}{key}"))
        if there not in (wanted, "none"):
            self.unreadable[key] = f"it is a {there}, not a {wanted}"

    def _indexes(self) -> Indexes:
        keys = self.keys
        hosts = self._set(keys.hosts)
        everywhere = {*hosts, *self.found["host"], *self.found["claims"], *self.found["used"], *self.found["held"]}
        self.found["host"] = everywhere
        return Indexes(
            instances=self._set(keys.instances),
            instances_on={HostName(host): self._set(keys.instances_on(host)) for host in everywhere},
            operations=frozenset(),
            unsettled=frozenset(member for member, _ in self._sorted(keys.unsettled)),
            operations_on={HostName(host): self._set(keys.operations_on(host)) for host in everywhere},
            stuck=self._set(keys.stuck),
            hosts=hosts,
            networks=self._hash(keys.networks),
            flavors=self._hash(keys.flavors),
            flavor_ids=self._hash(keys.flavor_ids),
            histories=frozenset(self.found["history"]),
            servers={group: self._hash(keys.servers(group)) for group in sorted(self.found["servers"])},
        )

    def _hosts(self, indexes: Indexes) -> dict[HostName, HostRecord]:
        return {HostName(name): self._host(HostName(name)) for name in sorted({*self.found["host"], *indexes.hosts})}

    def _host(self, name: HostName) -> HostRecord:
        keys, nothing = self.keys, cast("dict[str, str]", {})

        def ask(pipe: "Pipeline") -> None:
            pipe.hgetall(keys.host(name))
            pipe.get(keys.alive(name))
            pipe.hgetall(keys.used(name))
            pipe.hgetall(keys.claims(name))
            pipe.hgetall(keys.held(name))

        empty = (nothing, None, nothing, nothing, nothing)
        fields, incarnation, used, claims, things = self._ask(ask, keys.host(name), empty)
        inventory, synced_at = fields.get("inventory"), fields.get("power_synced_at")
        held = {InstanceId(key): self._decode(text, dict[str, int], f"claims:{name}") for key, text in claims.items()}
        return HostRecord(
            inventory=self._decode(inventory, Inventory, f"host:{name}") if inventory else None,
            disabled_reason=fields.get("disabled") or None,
            forced_down=operator_words_in(name, fields, self._note_words(name))["forced_down"],
            incarnation=incarnation,
            power_synced_at=self._number(synced_at, f"host:{name}") if synced_at else None,
            used=self._used(name, used),
            claims={key: Resources.of_amounts(claim) for key, claim in held.items() if claim is not None},
            held={thing: InstanceId(owner) for thing, owner in things.items()},
        )

    def _note_words(self, name: HostName) -> OnUnreadable:
        def note(problem: UnreadableRecord) -> None:
            self.unreadable[f"host:{name}"] = str(problem)

        return note

    def _used(self, name: HostName, fields: Mapping[str, str]) -> Resources:
        return Resources.of_amounts({kind: int(self._number(text, f"used:{name}")) for kind, text in fields.items()})

    def _instances(self, indexes: Indexes) -> tuple[dict[InstanceId, Instance], dict[InstanceId, LeaseRecord]]:
        """The instances and who holds them, each with its holder in one look: what is being done is in both, or in neither."""
        ids = {*self.found["instance"], *self.found["lease"], *indexes.instances}
        instances: dict[InstanceId, Instance] = {}
        leases: dict[InstanceId, LeaseRecord] = {}
        for part in _batches(ids):
            with self.client.pipeline(transaction=True) as pipe:
                pipe.mget([self.keys.instance(instance_id) for instance_id in part])
                for instance_id in part:
                    pipe.hgetall(self.keys.lease(instance_id))
                texts, *answers = pipe.execute(raise_on_error=False)
            if isinstance(texts, redis.ResponseError):
                raise texts  # MGET minds no types: it is Redis' own
            for instance_id, text, fields in zip(part, texts, answers, strict=True):
                record = self._record("instance", instance_id, text, Instance)
                if record is not None:
                    instances[InstanceId(instance_id)] = record
                if isinstance(fields, redis.ResponseError):
                    self._note_type_error(f"lease:{instance_id}", fields)
                elif fields:
                    leases[InstanceId(instance_id)] = self._lease(instance_id, fields)
        return instances, leases

    def _lease(self, instance_id: str, fields: Mapping[str, str]) -> LeaseRecord:
        token = self._number(fields.get("token", "0"), f"lease:{instance_id}")
        return LeaseRecord(operation_id=OperationId(fields.get("op", "")), token=int(token))

    def _operations(
        self, indexes: Indexes, leases: Mapping[InstanceId, LeaseRecord], image_names: Mapping[str, str]
    ) -> tuple[dict[OperationId, Operation], frozenset[str]]:
        """The operations that matter, and those of them that `ops` lists."""
        wanted = {*self._lasting(), *indexes.unsettled, *indexes.stuck, *image_names.values()}
        wanted.update(*indexes.operations_on.values())
        wanted.update(lease.operation_id for lease in leases.values())
        found: dict[OperationId, Operation] = {}
        listed: set[str] = set()
        for part in _batches(wanted):
            with self.client.pipeline(transaction=False) as pipe:
                for operation_id in part:
                    pipe.hget(self.keys.operation(operation_id), "doc")
                    pipe.zscore(self.keys.operations, operation_id)
                answers = pipe.execute(raise_on_error=False)
            for operation_id, doc, score in zip(part, answers[::2], answers[1::2], strict=True):
                operation = self._operation(operation_id, doc)
                if operation is not None:
                    found[operation.id] = operation
                if isinstance(score, redis.ResponseError):
                    self._note_type_error(self._short(self.keys.operations), score)
                elif score is not None:
                    listed.add(operation_id)
        return found, frozenset(listed)

    def _operation(self, operation_id: str, doc: object) -> Operation | None:
        if isinstance(doc, redis.ResponseError):
            self._note_type_error(f"op:{operation_id}", doc)
        if not isinstance(doc, str):
            return None
        try:
            return decode_operation(doc, operation_id)
        except UnreadableRecord as error:
            self.unreadable[f"op:{operation_id}"] = str(error)
            return None

    def _lasting(self) -> set[str]:
        """Operations whose records never expire."""
        lasting: set[str] = set()
        for part in _batches(self.found["op"]):
            with self.client.pipeline(transaction=False) as pipe:
                for operation_id in part:
                    pipe.ttl(self.keys.operation(operation_id))
                lasting.update(one for one, ttl in zip(part, pipe.execute(), strict=True) if ttl == -1)
        return lasting

    def _networks(self) -> dict[NetworkId, NetworkRecord]:
        ids = set().union(*(self.found[kind] for kind in ("network", *OF_NETWORK)))
        records = self._decoded("network", ids, Network)
        return {NetworkId(network_id): self._network(network_id, records.get(network_id)) for network_id in ids}

    def _network(self, network_id: str, record: Network | None) -> NetworkRecord:
        """The network with what is given out on it; as if nothing were, when a part of that can't be read, which is noted."""
        with self.client.pipeline(transaction=True) as pipe:
            for kind in OF_NETWORK:
                pipe.hgetall(f"{self.keys.prefix}{kind}:{network_id}")
            answers = pipe.execute(raise_on_error=False)
        for kind, answer in zip(OF_NETWORK, answers, strict=True):
            if isinstance(answer, redis.ResponseError):
                self._note_type_error(f"{kind}:{network_id}", answer)
                return NetworkRecord(network=record, addresses={}, ports={})
        addresses, ports, addresses6, ports6, members = answers
        return NetworkRecord(
            network=record,
            addresses={address: PortId(port_id) for address, port_id in addresses.items()},
            ports=_by_port(ports),
            addresses6={address: PortId(port_id) for address, port_id in addresses6.items()},
            ports6=_by_port(ports6),
            members=self._parsed(members, parse_member, f"members:{network_id}"),
        )

    def _parsed(self, texts: Mapping[str, str], parse: Callable[[str, str], R], key: str) -> dict[PortId, R]:
        """What each port's text says; one that can't be read is noted and left out."""
        found: dict[PortId, R] = {}
        for port_id, text in texts.items():
            try:
                found[PortId(port_id)] = parse(text, key)
            except UnreadableRecord as error:
                self.unreadable[key] = str(error)
        return found

    def _hashes(self, kind: str) -> dict[str, dict[str, str]]:
        """The hashes of one kind, by the rest of their keys."""
        found: dict[str, dict[str, str]] = {}
        for part in _batches(self.found[kind]):
            with self.client.pipeline(transaction=False) as pipe:
                for rest in part:
                    pipe.hgetall(f"{self.keys.prefix}{kind}:{rest}")
                answers = pipe.execute(raise_on_error=False)
            for rest, fields in zip(part, answers, strict=True):
                if isinstance(fields, redis.ResponseError):
                    self._note_type_error(f"{kind}:{rest}", fields)
                elif fields:
                    found[rest] = {str(name): str(value) for name, value in fields.items()}
        return found

    def _macs(self) -> dict[tuple[NetworkId, str], PortId]:
        parted = {name.partition(" ")[::2]: port_id for name, port_id in self._hash(self.keys.macs).items()}
        return {(NetworkId(network_id), mac): PortId(port_id) for (network_id, mac), port_id in parted.items()}

    def _allocating(self) -> tuple[AllocationNote, ...]:
        notes = []
        for member, noted_at in self._sorted(self.keys.allocating):
            network_id, _, rest = member.partition(" ")
            port_id, _, mac = rest.partition(" ")
            notes.append(
                AllocationNote(
                    network_id=NetworkId(network_id), port_id=PortId(port_id), mac=mac, noted_at=float(noted_at)
                )
            )
        return tuple(notes)

    def _queues(self, hosts: Iterable[HostName]) -> dict[str, QueueDepth]:
        """The queues of every host and the one that all share."""
        hosts = list(hosts)
        takers = {COMPUTE_QUEUE: hosts}
        takers.update({queue: [host] for host in hosts for queue in queues_of(host)})
        found = {}
        for queue, consumers in takers.items():
            with self.client.pipeline(transaction=True) as pipe:
                pipe.llen(queue)
                pipe.llen(dead_key(queue))
                for consumer in consumers:
                    pipe.llen(inflight_key(queue, consumer))
                waiting, dead, *in_flight = self._lengths(queue, pipe.execute(raise_on_error=False))
            by_host = dict(zip(consumers, in_flight, strict=True))
            found[queue] = QueueDepth(waiting=waiting, in_flight=by_host, dead=dead)
        return found

    def _lengths(self, queue: str, answers: list[object]) -> list[int]:
        """The lengths of lists; 0 for a key that is none, which is noted."""
        for answer in answers:
            if isinstance(answer, redis.ResponseError):
                self._note_type_error(queue, answer)
        return [answer if isinstance(answer, int) else 0 for answer in answers]


def _by_port(fields: Mapping[str, str]) -> dict[PortId, str]:
    return {PortId(port_id): value for port_id, value in fields.items()}


def _batches(items: Iterable[str]) -> Iterable[list[str]]:
    ordered = sorted(items)
    return (ordered[start : start + BATCH] for start in range(0, len(ordered), BATCH))
