"""How many messages wait, are in hand and were buried, queue by queue. Looks, and touches nothing.

Must never know what is in a message. A dead-letter list is bounded; how many were buried in all, a counter says.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import redis

from taskvisor.model.queues import COMPUTE_QUEUE, dead_key, inflight_key, queues_of
from taskvisor.state.connection import asking
from workers.inflight import PRIORITY_SUFFIXES


@dataclass(frozen=True, kw_only=True)
class QueueLength:
    """`in_flight` is how many messages each consumer (a host) has taken and not settled."""

    queue: str
    waiting: int
    in_flight: tuple[tuple[str, int], ...]
    dead: int


def list_queue_lengths(client: "redis.Redis", hosts: Iterable[str]) -> tuple[QueueLength, ...]:
    """Those of `compute` and of both queues of each of the hosts: one round trip. CannotAsk when Redis is silent."""
    names = tuple(hosts)
    consumers: dict[str, tuple[str, ...]] = {COMPUTE_QUEUE: names}
    for host in names:
        consumers.update(dict.fromkeys(queues_of(host), (host,)))
    pipe = client.pipeline(transaction=False)
    for queue, takers in consumers.items():
        for key in _keys_of(queue, takers):
            pipe.llen(key)
    with asking("count the messages in the queues"):
        lengths = iter(pipe.execute())
    return tuple(_length_from(queue, takers, lengths) for queue, takers in consumers.items())


def _keys_of(queue: str, takers: tuple[str, ...]) -> tuple[str, ...]:
    waiting = (queue, *(queue + suffix for suffix in PRIORITY_SUFFIXES))
    return (*waiting, dead_key(queue), *(inflight_key(queue, host) for host in takers))


def _length_from(queue: str, takers: tuple[str, ...], lengths: Iterable[int]) -> QueueLength:
    found = iter(lengths)
    waiting = sum(next(found) for _ in range(1 + len(PRIORITY_SUFFIXES)))
    dead = next(found)
    return QueueLength(queue=queue, waiting=waiting, dead=dead, in_flight=tuple((host, next(found)) for host in takers))
