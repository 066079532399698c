"""The lists in Redis and the ledger in memory, against a real Redis."""

import gc
import json
from datetime import UTC, datetime, timedelta

import pytest
import redis

from taskvisor.state.counters import CounterName
from workers.inflight import DEAD_LENGTH, RECLAIM_BATCH, Answer, Ledger, reclaim_inflight, restore_inflight

from .conftest import RedisServer

QUEUE = "host.a"
FLIGHT = "host.a.inflight.kvm07"


class Held:
    """Stands for kombu's message object."""

    def __init__(self, channel: object = None) -> None:
        self.channel = channel


@pytest.fixture
def client(transport_redis: RedisServer) -> redis.Redis:
    return transport_redis.client()


@pytest.fixture
def ledger(client: redis.Redis) -> Ledger:
    return Ledger("kvm07", client)


def take(client: redis.Redis) -> bytes:
    raw = client.lmove(QUEUE, FLIGHT, "RIGHT", "LEFT")
    assert isinstance(raw, bytes)
    return raw


def contents(client: redis.Redis, key: str) -> list[object]:
    """In the order in which a consumer would take them."""
    return list(reversed(client.lrange(key, 0, -1)))


def test_restored_messages_come_first_and_in_their_old_order(client: redis.Redis) -> None:
    client.lpush(QUEUE, "1", "2", "3", "4")
    for _ in range(3):
        take(client)
    assert restore_inflight(client, QUEUE, "kvm07") == 3
    assert contents(client, QUEUE) == [b"1", b"2", b"3", b"4"]
    assert not client.exists(FLIGHT)


def test_what_runs_stays_in_flight_and_what_is_settled_goes(client: redis.Redis) -> None:
    client.lpush(QUEUE, "1", "2", "3", "4")
    for _ in range(4):
        take(client)
    assert restore_inflight(client, QUEUE, "kvm07", running=[b"2"], settled=[b"3"]) == 2
    assert contents(client, QUEUE) == [b"1", b"4"]
    assert contents(client, FLIGHT) == [b"2"]


def test_copies_are_counted(client: redis.Redis) -> None:
    client.lpush(QUEUE, "1", "1", "1", "1")
    for _ in range(4):
        take(client)
    assert restore_inflight(client, QUEUE, "kvm07", running=[b"1"], settled=[b"1"]) == 2
    assert (client.llen(QUEUE), client.llen(FLIGHT)) == (2, 1)


def test_restoring_again_or_nothing_changes_nothing(client: redis.Redis) -> None:
    assert restore_inflight(client, QUEUE, "kvm07") == 0
    client.lpush(QUEUE, "1")
    take(client)
    assert [restore_inflight(client, QUEUE, "kvm07") for _ in range(2)] == [1, 0]


def test_another_consumers_messages_are_left_alone(client: redis.Redis) -> None:
    client.lpush("compute.inflight.kvm08", "theirs")
    assert restore_inflight(client, "compute", "kvm07") == 0
    assert client.llen("compute.inflight.kvm08") == 1


def test_what_a_silent_consumer_had_comes_first_and_in_its_old_order(client: redis.Redis) -> None:
    client.lpush(QUEUE, *[str(number) for number in range(RECLAIM_BATCH + 5)])
    waiting = contents(client, QUEUE)
    for _ in range(RECLAIM_BATCH + 3):
        take(client)

    assert reclaim_inflight(client, QUEUE, "kvm07") == RECLAIM_BATCH + 3
    assert contents(client, QUEUE) == waiting
    assert reclaim_inflight(client, QUEUE, "kvm07") == 0


def test_acknowledging_removes_one_of_two_copies(client: redis.Redis, ledger: Ledger) -> None:
    client.lpush(QUEUE, "1", "1")
    messages = [Held(), Held()]
    for tag, held in zip("ab", messages, strict=True):
        ledger.receive(tag, QUEUE, take(client), held, None)
    assert ledger.settle("a")
    assert (client.llen(FLIGHT), len(ledger)) == (1, 1)
    assert not ledger.settle("a")
    assert ledger.settle("b")
    assert not client.exists(FLIGHT)


def test_a_message_nothing_refers_to_any_more_is_restored(client: redis.Redis, ledger: Ledger) -> None:
    client.lpush(QUEUE, "1", "2")
    dropped, kept = Held(), Held()
    ledger.receive("a", QUEUE, take(client), dropped, None)
    ledger.receive("b", QUEUE, take(client), kept, None)
    assert ledger.is_consistent(QUEUE)
    del dropped
    gc.collect()
    assert not ledger.is_consistent(QUEUE)
    assert ledger.reconcile(QUEUE) == 1
    assert contents(client, QUEUE) == [b"1"]
    assert contents(client, FLIGHT) == [b"2"]
    assert ledger.is_consistent(QUEUE)


def test_what_was_dropped_is_returned_without_waiting_for_the_next_look(client: redis.Redis, ledger: Ledger) -> None:
    """As at a shutdown: other workers of the queue need not wait for this one's return."""
    client.lpush(QUEUE, "1")
    dropped = Held()
    ledger.receive("a", QUEUE, take(client), dropped, None)
    del dropped
    gc.collect()

    ledger.reconcile_dropped()

    assert (contents(client, QUEUE), contents(client, FLIGHT)) == ([b"1"], [])


def test_a_reply_lost_on_the_wire_is_noticed_and_restored(client: redis.Redis, ledger: Ledger) -> None:
    client.lpush(QUEUE, "1")
    take(client)
    assert not ledger.is_consistent(QUEUE)
    assert ledger.reconcile(QUEUE) == 1


def test_what_is_scheduled_for_later_is_dropped_with_its_channel(client: redis.Redis, ledger: Ledger) -> None:
    client.lpush(QUEUE, "later", "due", "now", "later, by the new channel")
    later = datetime.now(UTC) + timedelta(hours=1)
    messages = [Held("old"), Held("old"), Held("old"), Held("new")]
    for held, eta in zip(messages, [later, datetime.now(UTC), None, later], strict=True):
        ledger.receive(str(id(held)), QUEUE, take(client), held, eta)
    ledger.drop_scheduled(but_for="new")
    ledger.reconcile_dropped()
    assert contents(client, QUEUE) == [b"later"]
    assert len(ledger) == 3


def test_requeued_messages_go_behind_the_others_and_come_back_once(client: redis.Redis, ledger: Ledger) -> None:
    client.lpush(QUEUE, "1", "2")
    held = Held()
    ledger.receive("a", QUEUE, take(client), held, None)
    assert [ledger.requeue("a"), ledger.requeue("a")] == [True, False]
    assert contents(client, QUEUE) == [b"2", b"1"]
    assert not client.exists(FLIGHT)


def test_what_is_no_longer_in_flight_is_not_handed_back(client: redis.Redis, ledger: Ledger) -> None:
    ledger.hand_back(QUEUE, b"settled elsewhere")
    assert not client.exists(QUEUE)


def test_dead_letters_say_why_and_are_bounded(client: redis.Redis, ledger: Ledger) -> None:
    client.rpush("host.a.dead", *["old"] * DEAD_LENGTH)
    client.lpush(FLIGHT, b"\xff" + b"x" * 10_000)
    ledger.bury(QUEUE, b"\xff" + b"x" * 10_000, "message: not JSON")
    assert client.llen("host.a.dead") == DEAD_LENGTH
    record = json.loads(client.lrange("host.a.dead", 0, 0)[0])
    assert record["reason"] == "message: not JSON"
    assert record["bytes"] == 10_001
    assert record["raw"].startswith("\\xffxxx")
    assert len(record["raw"]) < 5000
    assert datetime.fromisoformat(record["at"]).tzinfo is not None
    assert not client.exists(FLIGHT)


def test_messages_with_a_priority_are_taken_as_any_other(client: redis.Redis, ledger: Ledger) -> None:
    client.lpush(QUEUE, "ordinary")
    client.lpush(f"{QUEUE}\x06\x169", "nine")
    client.lpush(f"{QUEUE}\x06\x163", "three", "three again")
    assert not ledger.is_consistent(QUEUE)
    ledger.reconcile(QUEUE)
    assert contents(client, QUEUE) == [b"ordinary", b"three", b"three again", b"nine"]
    assert ledger.is_consistent(QUEUE)


def test_an_acknowledgement_that_finds_redis_away_is_made_later(transport_redis: RedisServer) -> None:
    client = transport_redis.client()
    ledger = Ledger("kvm07", client)
    client.lpush(QUEUE, "1", "2")
    done, running = Held(), Held()
    ledger.receive("a", QUEUE, take(client), done, None)
    ledger.receive("b", QUEUE, take(client), running, None)
    transport_redis.kill()
    assert ledger.settle("a")
    transport_redis.start()
    assert not ledger.is_consistent(QUEUE)
    assert ledger.reconcile(QUEUE) == 0
    assert contents(client, FLIGHT) == [b"2"]
    assert not client.exists(QUEUE)
    assert ledger.is_consistent(QUEUE)


def test_what_is_buried_is_counted_once(client: redis.Redis) -> None:
    ledger = Ledger("kvm07", client, counters_key="tv:counters")
    for _ in range(2):
        client.lpush(QUEUE, "x")
        take(client)
    ledger.bury(QUEUE, b"x", "message: no good")
    ledger.bury(QUEUE, b"x", "message: no good")
    ledger.bury(QUEUE, b"never in flight", "message: no good")
    assert client.hgetall("tv:counters") == {CounterName.MESSAGES_DEAD_LETTERED.value.encode(): b"2"}


def test_whose_message_is_buried_finds_an_answer_and_hears_it(client: redis.Redis, ledger: Ledger) -> None:
    heard = client.pubsub()  # type: ignore[no-untyped-call]
    heard.subscribe("celery-task-meta-x")
    client.lpush(FLIGHT, b"x")

    ledger.bury(QUEUE, b"x", "message: no good", Answer(key="celery-task-meta-x", payload="refused", keep_s=60))

    assert client.get("celery-task-meta-x") == b"refused"
    assert 0 < client.ttl("celery-task-meta-x") <= 60
    told = iter(lambda: heard.get_message(ignore_subscribe_messages=True, timeout=30.0), False)
    assert next(one["data"] for one in told if one is not None) == b"refused"
    heard.close()


def test_an_answer_takes_nothing_elses_place_and_is_given_once(client: redis.Redis, ledger: Ledger) -> None:
    answer = Answer(key="celery-task-meta-x", payload="refused", keep_s=60)
    client.set("celery-task-meta-x", "progress")
    client.lpush(FLIGHT, b"x")

    ledger.bury(QUEUE, b"x", "message: no good", answer)
    assert client.get("celery-task-meta-x") == b"progress"
    client.delete("celery-task-meta-x")
    ledger.bury(QUEUE, b"x", "message: no good", answer)  # it is in flight no more

    assert not client.exists("celery-task-meta-x")
