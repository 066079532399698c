"""What this process has taken from its queues and not settled: the lists in Redis, and the ledger in memory.

A message moves from the list `<queue>` to the list `<queue>.inflight.<consumer>` in one atomic command and stays there, byte
for byte, until it is settled. So at every moment it is in Redis, and after a crash it is known exactly what the dead
process had in hand. Nothing here goes by time: a message returns to its queue because its consumer is known to be gone (a
new process of the same name, which holds the host's lock) or because no object of this process could settle it any more.

    <queue>                      list   taken from the right end, sent to the left end
    <queue>.inflight.<consumer>  list   newest at the left
    <queue>.dead                 list   newest at the left, at most DEAD_LENGTH; JSON {reason, at, bytes, raw}

Invariant: an entry of the ledger has its bytes in the in-flight list, or Redis has lost them. The reverse does not hold
(a reply lost on the wire, an acknowledgement that found Redis away), and `Ledger.reconcile` is what restores it.

This module knows Redis and opaque bytes. It must never know Celery, or what is inside a message.
"""

import gc
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, cast
from weakref import ReferenceType, ref

import redis
import structlog

from taskvisor.model.queues import dead_key, inflight_key

DEAD_LENGTH = 1000
DEAD_RAW_BYTES = 4096
DEAD_LETTERED = "messages_dead_lettered"
"""The name under which burials are counted: the list of dead letters is short, and forgets."""
RESTORE_TRIES = 20
"""Every lost race means that this process settled something meanwhile, which it can do only so often."""

PRIORITY_SUFFIXES = tuple(f"\x06\x16{step}" for step in (3, 6, 9))
"""Where stock kombu puts a message sent with a priority (kombu.transport.redis: sep, PRIORITY_STEPS)."""

# Removes one copy from KEYS[1] and only then puts it at the right (front) or left (back) end of KEYS[2]: what another
# hand has settled meanwhile must not come back to life.
HAND_BACK = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
return redis.call(ARGV[2], KEYS[2], ARGV[1])
"""

BURY = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
redis.call('LPUSH', KEYS[2], ARGV[2])
redis.call('LTRIM', KEYS[2], 0, ARGV[3] - 1)
if KEYS[3] ~= '' then redis.call('HINCRBY', KEYS[3], ARGV[4], 1) end
if KEYS[4] ~= '' and redis.call('EXISTS', KEYS[4]) == 0 then
    redis.call('SETEX', KEYS[4], ARGV[6], ARGV[5])
    redis.call('PUBLISH', KEYS[4], ARGV[5])
end
return 1
"""

# KEYS[1] is the queue, then its priority lists, the one that stock workers serve first before the others.
ADOPT = """
local moved = 0
for i = 2, #KEYS do
    while moved < tonumber(ARGV[1]) and redis.call('LMOVE', KEYS[i], KEYS[1], 'RIGHT', 'LEFT') do moved = moved + 1 end
end
return moved
"""
ADOPT_LIMIT = 1000

RECLAIM = """
local moved = 0
while moved < tonumber(ARGV[1]) and redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT') do moved = moved + 1 end
return moved
"""
RECLAIM_BATCH = 1000

log = structlog.get_logger(__name__)


def restore_inflight(
    client: redis.Redis,
    queue: str,
    consumer: str,
    *,
    running: Collection[bytes] = (),
    settled: Collection[bytes] = (),
) -> int:
    """Move what `consumer` has in flight back to the front of `queue`, in its old order; return how many messages.

    `running` (raw messages, a copy each) stay in flight; `settled` are done with and removed. Atomic: nobody sees a
    message in both lists or in neither. The caller knows that nobody else takes from `queue` as `consumer`: it holds the
    host's lock, or it has proof that the host is dead. Raises redis.RedisError if Redis can't be asked.
    """
    inflight = inflight_key(queue, consumer)
    for _ in range(RESTORE_TRIES):
        with client.pipeline() as pipe:
            try:
                pipe.watch(inflight)  # type: ignore[no-untyped-call]
                present = cast(list[bytes], pipe.lrange(inflight, 0, -1))
                kept, restored = _sorted_out(present, running, settled)
                if len(kept) == len(present):
                    return 0
                pipe.multi()
                pipe.delete(inflight)
                if kept:
                    pipe.rpush(inflight, *kept)
                if restored:
                    pipe.rpush(queue, *restored)
                pipe.execute()
            except redis.WatchError:
                continue
        return len(restored)
    raise redis.WatchError(f"{inflight} changed under each of {RESTORE_TRIES} attempts to restore it")


def _sorted_out(
    present: Iterable[bytes], running: Collection[bytes], settled: Collection[bytes]
) -> tuple[list[bytes], list[bytes]]:
    """Those to keep and those to restore, in the order of `present`. Copies of one message are counted, not merged."""
    still_running, owed = Counter(running), Counter(settled)
    kept: list[bytes] = []
    restored: list[bytes] = []
    for raw in present:
        if still_running[raw] > 0:
            still_running[raw] -= 1
            kept.append(raw)
        elif owed[raw] > 0:
            owed[raw] -= 1
        else:
            restored.append(raw)
    return kept, restored


def reclaim_inflight(client: redis.Redis, queue: str, consumer: str) -> int:
    """Move what `consumer` has in flight back to the front of `queue`, in its old order; return how many messages.

    For a consumer that has fallen silent and whose host nobody can ask. If it lives after all, its messages run twice:
    only for queues whose messages bear that. Raises redis.RedisError if Redis can't be asked.
    """
    keys = inflight_key(queue, consumer), queue
    return sum(iter(lambda: cast(int, client.eval(RECLAIM, 2, *keys, RECLAIM_BATCH)), 0))


class Received(Protocol):
    """A message object as it is handed to Celery; the one through which it will be settled."""

    @property
    def channel(self) -> object: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the sender of a buried message finds under a key of his, if nothing is there yet, and hears on the channel of that
    name.
    """

    key: str
    payload: str
    keep_s: int


NO_ANSWER = Answer(key="", payload="", keep_s=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Unsettled:
    queue: str
    raw: bytes
    eta: datetime | None
    message: ReferenceType[Received]


class Ledger:
    """What one process, as `consumer`, has in hand. Outlives connections and channels; dies with the process.

    A message is known by the delivery tag that it got at receipt, so that two copies are two entries. The ledger refers to
    message objects weakly: Celery drops requests without a word when a connection is lost, and once the message object
    is gone nothing in this process can settle the message any more. That is the proof on which it is restored; no list of
    Celery's own is asked.

    Safe under threads: each step on the entries is one operation on a dict.
    """

    def __init__(self, consumer: str, client: redis.Redis, *, counters_key: str | None = None) -> None:
        """`counters_key` names a hash in which burials are counted, each in the same moment as it is made."""
        self.consumer = consumer
        self._client = client
        self._counters_key = counters_key
        self._unsettled: dict[str, _Unsettled] = {}
        self._owed: list[tuple[str, bytes]] = []
        self._dropped: set[str] = set()

    def __len__(self) -> int:
        return len(self._unsettled)

    def use(self, client: redis.Redis) -> None:
        """Speak to Redis through `client` from now on; a reconnect may have brought another address or password."""
        previous, self._client = self._client, client
        previous.connection_pool.disconnect()

    def take(self, queue: str) -> bytes | None:
        """Put a message in flight without waiting for one. Raises redis.RedisError."""
        return cast(bytes | None, self._client.lmove(queue, inflight_key(queue, self.consumer), "RIGHT", "LEFT"))

    def receive(self, tag: str, queue: str, raw: bytes, message: Received, eta: datetime | None) -> None:
        """Enter a message whose bytes have just been put in flight."""
        reference = ref(message, self._forgetter(tag))
        self._unsettled[tag] = _Unsettled(queue=queue, raw=raw, eta=eta, message=reference)

    def _forgetter(self, tag: str) -> Callable[[object], None]:
        # As the callback of a weak reference it runs wherever the collector runs, so it only moves one entry.
        def forget(_: object) -> None:
            if (entry := self._unsettled.pop(tag, None)) is not None:
                self._dropped.add(entry.queue)

        return forget

    def settle(self, tag: str) -> bool:
        """Acknowledge: the message is done with. False if `tag` is not ours.

        Never fails and never waits for a Redis that is away: then the removal is owed, and the next `reconcile` makes it.
        If the process dies first, the message runs again, which its journal makes harmless.
        """
        entry = self._unsettled.pop(tag, None)
        if entry is None:
            return False
        try:
            removed = self._client.lrem(inflight_key(entry.queue, self.consumer), 1, cast(str, entry.raw))
        except (redis.RedisError, OSError) as error:
            self._owed.append((entry.queue, entry.raw))
            log.warning("acknowledgement_postponed", queue=entry.queue, error=repr(error), owed=len(self._owed))
        else:
            if not removed:
                log.warning("acknowledged_message_not_in_flight", queue=entry.queue)
        return True

    def requeue(self, tag: str) -> bool:
        """Put the message at the back of its queue, behind whatever waits there. False if `tag` is not ours.

        The back, as stock kombu does: a task that asks to come later must not spin in front of those that could go now.
        """
        entry = self._unsettled.pop(tag, None)
        if entry is None:
            return False
        try:
            self.hand_back(entry.queue, entry.raw, to_front=False)
        except (redis.RedisError, OSError) as error:
            self._dropped.add(entry.queue)
            log.warning("requeue_postponed", queue=entry.queue, error=repr(error))
        return True

    def hand_back(self, queue: str, raw: bytes, *, to_front: bool = True) -> None:
        """Return a message that is in flight but in no entry, or no longer. Raises redis.RedisError."""
        keys_and_args = inflight_key(queue, self.consumer), queue, raw, "RPUSH" if to_front else "LPUSH"
        self._run(HAND_BACK, 2, *keys_and_args)

    def end_wait(self, connection_id: int) -> None:
        """Let a BLMOVE that waits on that connection be answered now. Raises redis.RedisError."""
        self._client.client_unblock(connection_id)

    def bury(self, queue: str, raw: bytes, reason: str, answer: Answer = NO_ANSWER) -> None:
        """Move a message from flight to the dead-letter list of its queue, for a person to read, and answer its sender in the
        same moment. Raises redis.RedisError.
        """
        record = json.dumps(
            {
                "reason": reason,
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "bytes": len(raw),
                "raw": raw[:DEAD_RAW_BYTES].decode("utf-8", "backslashreplace"),
            }
        )
        keys = (inflight_key(queue, self.consumer), dead_key(queue), self._counters_key or "", answer.key)
        self._run(BURY, len(keys), *keys, raw, record, DEAD_LENGTH, DEAD_LETTERED, answer.payload, answer.keep_s)
        log.warning("message_dead_lettered", queue=queue, reason=reason, message_bytes=len(raw))

    def reconcile(self, queue: str) -> int:
        """Make the in-flight list hold what this process has in hand and nothing else; return how many were restored.

        Only while no BLMOVE on `queue` is under way: a reply not yet read would look like one that was lost.
        """
        self._adopt_prioritised(queue)
        owed = [entry for entry in self._owed if entry[0] == queue]
        running = [entry.raw for entry in list(self._unsettled.values()) if entry.queue == queue]
        count = restore_inflight(self._client, queue, self.consumer, running=running, settled=[raw for _, raw in owed])
        for entry in owed:
            self._owed.remove(entry)
        self._dropped.discard(queue)
        if count:
            log.info("inflight_restored", queue=queue, consumer=self.consumer, messages=count)
        return count

    def is_consistent(self, queue: str) -> bool:
        """Whether the in-flight list is as long as the ledger says, and nothing waits in a priority list. One round trip."""
        if queue in self._dropped or any(owed == queue for owed, _ in self._owed):
            return False
        with self._client.pipeline(transaction=False) as pipe:
            pipe.llen(inflight_key(queue, self.consumer))
            pipe.exists(*(queue + suffix for suffix in PRIORITY_SUFFIXES))
            in_flight, prioritised = pipe.execute()
        in_hand = sum(entry.queue == queue for entry in list(self._unsettled.values()))
        return bool(in_flight <= in_hand and not prioritised)

    def reconcile_dropped(self) -> None:
        """Reconcile the queues of which messages were dropped unsettled since the last time. Raises redis.RedisError."""
        for queue in self._dropped.copy():
            self.reconcile(queue)

    def drop_scheduled(self, *, but_for: object = None) -> None:
        """Drop the messages that are not due yet, except those that came by the channel `but_for`.

        When Celery loses a connection it cancels the timers of tasks with an ETA, but the timer's heap keeps the
        cancelled entry, and with it the message object, until the ETA. Its being alive proves nothing then.
        """
        gc.collect()  # requests dropped by Celery may sit in reference cycles
        now = datetime.now(UTC)
        for tag, entry in list(self._unsettled.items()):
            message = entry.message()
            is_due = entry.eta is None or entry.eta <= now
            if not is_due and (message is None or message.channel is not but_for):
                self._forgetter(tag)(None)

    def _adopt_prioritised(self, queue: str) -> None:
        """Reliable queues have one list. A message that a producer sent with a priority is taken as any other."""
        keys = [queue, *(queue + suffix for suffix in PRIORITY_SUFFIXES)]
        if adopted := self._run(ADOPT, len(keys), *keys, ADOPT_LIMIT):
            log.info("prioritised_messages_adopted", queue=queue, messages=adopted)

    def _run(self, script: str, number_of_keys: int, *keys_and_args: str | bytes | int) -> int:
        return cast(int, self._client.eval(script, number_of_keys, *cast(tuple[str, ...], keys_and_args)))
