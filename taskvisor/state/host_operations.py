"""What is said of a host as a whole: that it is down, whatever it says itself, and that it is no more.

Invariant: a host is forgotten only while nothing that is recorded needs it. What can change under the hands (its heartbeats,
claims, instances, operations) is asked within the transaction itself; images and STUCK operations are looked for before it,
and none can come where there is no instance.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskvisor.model.errors import StoreConflict
from taskvisor.model.host_mark import HostEvent, HostMark
from taskvisor.model.ids import HostName
from taskvisor.model.queues import COMPUTE_QUEUE, dead_key, inflight_key, queues_of
from taskvisor.state.codec import encode
from taskvisor.state.connection import asking
from taskvisor.state.host_events import record_host_event, stream_host_event
from taskvisor.state.host_record import unknown_host
from taskvisor.state.moved import note_moved
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Outcome, Writer

if TYPE_CHECKING:
    import redis


@dataclass(frozen=True, kw_only=True)
class HostTraces:
    """What is kept of a host besides its record. `messages` are those of its own queues, however they lie."""

    is_known: bool
    speaks: bool
    instances: int
    claims: int
    unsettled: int
    requests_in_hand: int
    messages: int


class HostOperations:
    """The one writer of these. Refused when no host of that name ever reported."""

    def __init__(self, client: "redis.Redis", writer: Writer) -> None:
        self._client = client
        self._writer = writer
        self._keys = writer.keys

    def force_down(self, host: HostName, event: HostEvent, answer: Outcome) -> None:
        """It is treated as down from now on. Nothing of its guests is touched or concluded."""
        tx, key = Transaction(), self._keys.host(host)
        tx.require_present(key, "inventory", lambda _: unknown_host(host))
        tx.do("HSET", key, "forced_down", encode(HostMark(reason=event.reason, by=event.by, at=event.at)))
        note_moved(tx, self._keys, host)
        self._run(tx, event, answer)

    def force_up(self, host: HostName, event: HostEvent, answer: Outcome) -> None:
        """Its heartbeat is believed again."""
        tx, key = Transaction(), self._keys.host(host)
        tx.require_present(key, "inventory", lambda _: unknown_host(host))
        tx.do("HDEL", key, "forced_down")
        note_moved(tx, self._keys, host)
        self._run(tx, event, answer)

    def read_traces(self, host: HostName) -> HostTraces:
        """What there is of the host now, in one look."""
        keys = self._keys
        with asking(f"look for what is kept of host {host}"), self._client.pipeline(transaction=True) as pipe:
            pipe.sismember(keys.hosts, host)
            pipe.exists(keys.alive(host), keys.taking(host), keys.listening(host))
            pipe.scard(keys.instances_on(host))
            pipe.hlen(keys.claims(host))
            pipe.scard(keys.operations_on(host))
            pipe.llen(_requests_of(host))
            for queue in _lists_of(host):
                pipe.llen(queue)
            known, speaks, instances, claims, unsettled, requests, *lengths = pipe.execute()
        return HostTraces(
            is_known=bool(known),
            speaks=bool(speaks),
            instances=instances,
            claims=claims,
            unsettled=unsettled,
            requests_in_hand=requests,
            messages=sum(lengths),
        )

    def remove(self, host: HostName, event: HostEvent, answer: Outcome) -> None:
        """Nothing is kept of the host any more, but that it was removed, in the stream of events.

        StoreConflict when it speaks, or something of it is needed, after all.
        """
        tx, keys = Transaction(), self._keys
        with asking(f"list the periodic tasks of host {host}"):
            tasks = [str(task) for task in self._client.hkeys(keys.tick_last(host))]
        needed = (keys.alive, keys.taking, keys.listening, keys.instances_on, keys.claims, keys.operations_on)
        for key in (*(kind(host) for kind in needed), _requests_of(host)):
            tx.require_gone(key, StoreConflict)
        runs = (keys.tick_runs(host, task) for task in tasks)
        tx.do("DEL", *keys.of_host(host), *runs, *_lists_of(host), *_bindings_of(host))
        tx.do("ZREM", keys.hosts_moved, host)
        tx.do("HDEL", keys.silent, host)
        tx.do("SREM", keys.hosts, host)
        tx.do("SREM", keys.drains, host)
        stream_host_event(tx, self._writer, event)
        self._writer.outcome(tx, answer)
        tx.run(self._client, f"forget host {host}")

    def _run(self, tx: Transaction, event: HostEvent, answer: Outcome) -> None:
        record_host_event(tx, self._writer, event)
        self._writer.outcome(tx, answer)
        tx.run(self._client, f"write what is said of host {event.host}")


def _lists_of(host: HostName) -> Iterable[str]:
    """Its own queues, what it has in flight of them, and their dead letters."""
    for queue in queues_of(host):
        yield from (queue, inflight_key(queue, host), dead_key(queue))


def _requests_of(host: HostName) -> str:
    """What it has in hand of the queue that all share: no operation knows of those yet."""
    return inflight_key(COMPUTE_QUEUE, host)


def _bindings_of(host: HostName) -> Iterable[str]:
    """The sets that kombu 5.7 keeps of what is bound to the exchanges of its queues, which bear the queues' names."""
    for queue in queues_of(host):
        yield from (f"_kombu.binding.{queue}", f"_kombu.binding_permanent.{queue}")
