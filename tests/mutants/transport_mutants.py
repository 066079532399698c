"""Mutants of what brings messages: lists in Redis that lose one, keep one for ever, or bring one twice."""

from tests.mutants.mutant import TRANSPORT, Edit, Mutant

INFLIGHT = "workers/inflight.py"
READER = "workers/reader.py"
CARRIER = "workers/transport.py"
OF_INFLIGHT = "tests/workers/test_inflight.py"
OF_TRANSPORT = "tests/workers/test_transport.py"
POOL = "workers/pool.py"
OF_POOL = "tests/workers/test_pool.py"


def _on_the_way(file: str, name: str, promise: str, old: str, new: str, first: str) -> Mutant:
    return Mutant(
        name=name, promise=promise, edits=(Edit(file=file, old=old, new=new),), first=(first,), suite=TRANSPORT
    )


TRANSPORT_MUTANTS = (
    _on_the_way(
        POOL,
        "half-read-result-forgotten",
        "a node hears its pool processes across every reconnect",
        "            hub.add_reader(fd, reading)\n",
        "",
        OF_POOL,
    ),
    _on_the_way(
        POOL,
        "half-read-result-of-another-process",
        "what a dead process began to say is not read on from its successor",
        " and self.fileno_to_outq.get(fd) is process",
        "",
        OF_POOL,
    ),
    _on_the_way(
        CARRIER,
        "acknowledged-before-it-runs",
        "a message is in Redis until it is settled",
        "delivery.raw, message, delivery.envelope.eta)\n        else:",
        "delivery.raw, message, delivery.envelope.eta)\n            self.channel.ledger.settle(delivery_tag)\n        else:",
        OF_TRANSPORT,
    ),
    _on_the_way(
        READER,
        "in-flight-not-restored",
        "a node that starts takes back what its former self had in hand",
        "        self._ledger.reconcile(self.queue)\n        self._check_due_at = monotonic()",
        "        self._check_due_at = monotonic()",
        OF_TRANSPORT,
    ),
    _on_the_way(
        READER,
        "lost-reply-not-looked-for",
        "a message that is in flight and in no hand is found",
        "        if not self._ledger.is_consistent(self.queue):\n            self._ledger.reconcile(self.queue)\n",
        "",
        OF_TRANSPORT,
    ),
    _on_the_way(
        READER,
        "reply-dropped-at-the-end",
        "what arrives while a consumer is cancelled goes back",
        "            self._ledger.hand_back(self.queue, raw)\n",
        "            pass\n",
        OF_TRANSPORT,
    ),
    _on_the_way(
        READER,
        "hung-redis-waited-for",
        "a Redis that hangs is given up",
        '            log.warning("reply_overdue", queue=self.queue, waited_s=round(waited_s))\n'
        "            self._connection.disconnect()\n",
        '            log.warning("reply_overdue", queue=self.queue, waited_s=round(waited_s))\n',
        OF_TRANSPORT,
    ),
    _on_the_way(
        INFLIGHT,
        "settled-stays-in-flight",
        "a message that is done with does not come again",
        "            removed = self._client.lrem(inflight_key(entry.queue, self.consumer), 1, cast(str, entry.raw))\n",
        "            removed = 1\n",
        OF_INFLIGHT,
    ),
    _on_the_way(
        INFLIGHT,
        "both-copies-settled",
        "of two copies of a message each is settled by itself",
        "self._client.lrem(inflight_key(entry.queue, self.consumer), 1, cast(str, entry.raw))",
        "self._client.lrem(inflight_key(entry.queue, self.consumer), 0, cast(str, entry.raw))",
        OF_INFLIGHT,
    ),
    _on_the_way(
        INFLIGHT,
        "owed-acknowledgement-forgotten",
        "an acknowledgement that finds Redis away is made later",
        "            self._owed.append((entry.queue, entry.raw))\n",
        "",
        OF_INFLIGHT,
    ),
    _on_the_way(
        INFLIGHT,
        "dropped-not-noticed",
        "what a node drops at its end is its queue's at once",
        "                self._dropped.add(entry.queue)\n\n        return forget",
        "                pass\n\n        return forget",
        OF_INFLIGHT,
    ),
    _on_the_way(
        INFLIGHT,
        "running-restored",
        "what runs is not brought a second time",
        "        if still_running[raw] > 0:\n            still_running[raw] -= 1\n            kept.append(raw)\n",
        "        if still_running[raw] > 0:\n            still_running[raw] -= 1\n            restored.append(raw)\n",
        OF_INFLIGHT,
    ),
    _on_the_way(
        INFLIGHT,
        "restored-in-reverse",
        "messages that are restored keep their order",
        "                    pipe.rpush(queue, *restored)\n",
        "                    pipe.rpush(queue, *reversed(restored))\n",
        OF_INFLIGHT,
    ),
    _on_the_way(
        INFLIGHT,
        "settled-comes-back-to-life",
        "what another hand has settled is not handed back",
        "if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end\nreturn redis.call(ARGV[2]",
        "redis.call('LREM', KEYS[1], 1, ARGV[1])\nreturn redis.call(ARGV[2]",
        OF_INFLIGHT,
    ),
    _on_the_way(
        INFLIGHT,
        "dead-letters-without-bound",
        "dead letters are bounded",
        "redis.call('LTRIM', KEYS[2], 0, ARGV[3] - 1)\n",
        "",
        OF_INFLIGHT,
    ),
    _on_the_way(
        CARRIER,
        "bad-message-ends-the-worker",
        "one bad message does not end the worker that takes it",
        "        except (redis.RedisError, OSError, MemoryError):\n            raise",
        "        except Exception:\n            raise",
        OF_TRANSPORT,
    ),
    _on_the_way(
        CARRIER,
        "taken-without-room",
        "no more is taken than there is room for",
        "        return not self.prefetch_count or in_hand < self.prefetch_count\n",
        "        return in_hand >= 0\n",
        OF_TRANSPORT,
    ),
)
