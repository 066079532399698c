"""The transport without Celery: kombu connections in this process, against a real Redis."""

# mypy: allow-untyped-calls

import ast
import gc
import inspect
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty

import kombu
import pytest
import redis
from kombu.asynchronous import Hub
from kombu.connection import Connection
from kombu.transport import redis as stock
from kombu.transport import virtual

from workers import reader, transport
from workers.transport import Channel, broker_url_for, transport_options_for

from .conftest import RedisServer, message, wait_until

A, B = "host.a", "compute"


class Consumer:
    """A channel that consumes some queues and keeps what it gets."""

    def __init__(self, connection: Connection, queues: list[str], prefetch: int) -> None:
        self.connection = connection
        self.channel: Channel = connection.channel()
        self.channel.basic_qos(prefetch_count=prefetch)
        self.got: list[virtual.Message] = []
        for queue in queues:
            self.channel.basic_consume(queue, False, self.got.append, queue)

    def poll(self) -> None:
        """One turn of the loop, as Celery's makes it: ask where there is room, then read all that is there."""
        poller = self.connection.transport.cycle
        poller.on_poll_start()
        for fileno, event in poller.poller.poll(0.2) or ():
            with suppress(Empty):
                poller.handle_event(fileno, event)

    def poll_until(self, holds: Callable[[], object], what: str) -> None:
        wait_until(lambda: self.poll() or holds(), what)  # type: ignore[func-returns-value]

    def take(self, count: int) -> list[str]:
        """Wait for `count` messages in all; the first argument of each."""
        self.poll_until(lambda: len(self.got) >= count, f"{count} messages")
        return [first_argument(one) for one in self.got]


def first_argument(one: virtual.Message) -> str:
    argument = one.payload[0][0]
    assert isinstance(argument, str)
    return argument


@contextmanager
def connected(server: RedisServer, **options: object) -> Iterator[Connection]:
    all_options = transport_options_for("kvm07") | options
    with Connection(broker_url_for(server.url), transport_options=all_options) as connection:
        yield connection


@contextmanager
def consuming(server: RedisServer, *queues: str, prefetch: int = 0, **options: object) -> Iterator[Consumer]:
    with connected(server, **options) as connection:
        yield Consumer(connection, list(queues), prefetch)


@pytest.fixture(autouse=True)
def _each_test_is_a_new_process() -> Iterator[None]:
    transport._ledgers.clear()
    yield
    transport._ledgers.clear()


# The ground we stand on

PRIVATE = re.compile(r"_[^_]")
RELIED_UPON: dict[object, dict[str, str | None]] = {
    stock.MultiChannelPoller: {
        "on_poll_start": "(self)",
        "on_readable": "(self, fileno)",
        "maybe_check_brpop_health": "(self)",
        "_register": "(self, channel, client, type)",
        "_client_registered": "(self, channel, client, cmd)",
    },
    stock.Channel: {
        "__init__": "(self, *args, **kwargs)",
        "_create_client": "(self, asynchronous=False)",
        "_connparams": "(self, asynchronous=False)",
        "_get_client": "(self)",
        "_on_connection_disconnect": "(self, connection)",
        "basic_consume": "(self, queue, *args, **kwargs)",
        "_basic_cancel": "(self, consumer_tag)",
        "_poll_error": "(self, type, **options)",
        "_handle_message": "(self, client, r)",
        "_deliver_fanout_message": "(self, message, exchange)",
        "_fanout_queues": None,
        "active_queues": None,
        "pool": None,
        "priority_steps": None,
        "do_restore": None,
    },
    stock.QoS: {
        "append": "(self, message, delivery_tag)",
        "ack": "(self, delivery_tag)",
        "reject": "(self, delivery_tag, requeue=False)",
        "can_consume": "(self)",
    },
    stock.Transport: {"brpop_timeout": None, "on_readable": "(self, fileno)"},
    stock: {"_socket_readable": "(sock)"},
    virtual.Message: {"__init__": "(self, payload, channel=None, **kwargs)", "__weakref__": None},
    virtual.Transport: {"_deliver": "(self, message, queue)"},
}


def test_kombu_is_the_version_whose_private_names_are_used() -> None:
    assert kombu.__version__.startswith("5.7."), (
        f"kombu {kombu.__version__}: read workers/transport.py against it, then change this test"
    )


READ_ME = "read workers/transport.py and workers/reader.py against it, then change this test"


@pytest.mark.parametrize("owner", RELIED_UPON, ids=lambda owner: owner.__name__)
def test_kombus_private_names_are_what_they_were(owner: object) -> None:
    for name, signature in RELIED_UPON[owner].items():
        assert hasattr(owner, name), f"kombu {kombu.__version__} has no {owner}.{name} any more: {READ_ME}"
        if signature is not None:
            found = str(inspect.signature(getattr(owner, name)))
            assert found == signature, f"in kombu {kombu.__version__} {owner}.{name} is {found}: {READ_ME}"


ON_INSTANCES = (
    *("_active_queues", "_tag_to_queue", "_fanout_to_queue", "_channels", "_fd_to_chan", "_delivered", "_dirty"),
    *("_raw", "_decoded_cache", "_sock"),
)


def test_kombus_instances_hold_what_is_reached_for(transport_redis: RedisServer) -> None:
    with Connection(transport_redis.url) as connection:
        channel = connection.channel()
        poller = connection.transport.cycle
        assert isinstance(channel.handlers, dict)
        assert (channel._active_queues, channel._tag_to_queue, channel._fanout_to_queue) == ([], {}, {})
        assert (poller._channels, poller._fd_to_chan) == ({channel}, {})
        assert (dict(channel.qos._delivered), channel.qos._dirty) == ({}, set())
        plain = virtual.Message({"body": "x", "properties": {"delivery_tag": "1"}}, channel=channel)
        assert (plain._raw["body"], plain._decoded_cache) == ("x", None)
    assert "cycle_poll_start = cycle.on_poll_start" in inspect.getsource(stock.Transport.register_with_event_loop)
    assert redis.Connection(host="nowhere")._sock is None


def test_no_private_name_is_used_that_is_neither_listed_nor_watched() -> None:
    sources = [Path(str(module.__file__)).read_text() for module in (transport, reader)]
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    reached = {node.attr for node in nodes if isinstance(node, ast.Attribute) and PRIVATE.match(node.attr)}
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    made = {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    overridden = {name for name in defined for owner in RELIED_UPON if PRIVATE.match(name) and hasattr(owner, name)}
    theirs = (reached - defined - made) | overridden | {"_decoded_cache"}
    watched = {name for names in RELIED_UPON.values() for name in names} | set(ON_INSTANCES)

    assert theirs - watched == set(), f"private names of kombu that no test watches: {READ_ME}"
    listed = set(re.findall(r"\w+", transport.__doc__ or ""))
    assert theirs - listed == set(), "private names of kombu that workers/transport.py does not list"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("redis://u:p@r.example:6380/3", "reliable-redis://u:p@r.example:6380/3"),
        ("redis+socket:///run/r.sock?virtual_host=2", "reliable-redis+socket:///run/r.sock?virtual_host=2"),
        ("rediss://r.example/0", "reliable-redis://r.example/0?ssl_cert_reqs=required"),
        ("rediss://r.example/0?ssl_cert_reqs=none", "reliable-redis://r.example/0?ssl_cert_reqs=none"),
    ],
)
def test_a_redis_url_becomes_the_workers(given: str, expected: str) -> None:
    assert broker_url_for(given) == expected


def test_other_urls_are_refused() -> None:
    with pytest.raises(ValueError, match="no Redis URL"):
        broker_url_for("amqp://rabbit")


def test_tls_is_kept_for_the_worker() -> None:
    connection = Connection(broker_url_for("rediss://r.example:6390/1"))
    assert connection.ssl
    assert (connection.hostname, connection.port, connection.virtual_host) == ("r.example", 6390, "1")


# Taking and settling


def test_a_message_makes_the_round_trip(transport_redis: RedisServer) -> None:
    client = transport_redis.client()
    with consuming(transport_redis, A) as consumer:
        client.lpush(A, message("one"))
        assert consumer.take(1) == ["one"]
        assert client.llen(f"{A}.inflight.kvm07") == 1
        consumer.got[0].ack()
        assert client.keys("*") == []


def test_a_consumer_without_an_event_loop_is_served_too(transport_redis: RedisServer) -> None:
    transport_redis.client().lpush(A, message("one"), message("two"))
    with consuming(transport_redis, A) as consumer:
        for _ in range(2):
            consumer.connection.drain_events(timeout=5.0)
        assert [first_argument(one) for one in consumer.got] == ["one", "two"]


def test_a_stock_producers_message_is_taken_as_it_is(transport_redis: RedisServer) -> None:
    with Connection(transport_redis.url) as producer, consuming(transport_redis, A) as consumer:
        headers = {"task": "probe.note", "id": "1"}
        producer.Producer().publish([["one"], {}, {}], routing_key=A, headers=headers, priority=6)
        producer.Producer().publish([["two"], {}, {}], routing_key=A, headers=headers)
        assert sorted(consumer.take(2)) == ["one", "two"]


def test_two_copies_of_a_message_are_settled_one_by_one(transport_redis: RedisServer) -> None:
    client = transport_redis.client()
    raw = message("twice")
    client.lpush(A, raw, raw)
    with consuming(transport_redis, A) as consumer:
        assert consumer.take(2) == ["twice", "twice"]
        first, second = consumer.got
        assert first.delivery_tag != second.delivery_tag
        first.ack()
        assert client.lrange(f"{A}.inflight.kvm07", 0, -1) == [raw]
        second.ack()
        assert client.keys("*") == []


def test_rejecting_drops_and_requeueing_puts_behind(transport_redis: RedisServer) -> None:
    client = transport_redis.client()
    client.lpush(A, message("no"), message("later"), message("third"))
    with consuming(transport_redis, A, prefetch=2) as consumer:
        assert consumer.take(2) == ["no", "later"]
        consumer.got[0].reject()
        consumer.got[1].requeue()
        assert consumer.take(4)[2:] == ["third", "later"]


def test_without_room_nothing_is_taken(transport_redis: RedisServer) -> None:
    client = transport_redis.client()
    client.lpush(A, message("one"), message("two"))
    with consuming(transport_redis, A, prefetch=1) as consumer:
        consumer.take(1)
        consumer.poll()
        assert client.llen(A) == 1
        consumer.got[0].ack()
        assert consumer.take(2) == ["one", "two"]


def test_a_message_that_cant_be_taken_by_anyone_is_a_dead_letter(transport_redis: RedisServer) -> None:
    client = transport_redis.client()

    def broken(one: virtual.Message) -> None:
        raise KeyError("a bug, which kombu would take for a lost connection")

    with consuming(transport_redis, A) as consumer:
        consumer.connection.transport._callbacks[A] = broken
        client.lpush(A, message())
        consumer.poll_until(lambda: client.llen(f"{A}.dead"), "a dead letter")
        assert json.loads(client.lrange(f"{A}.dead", 0, 0)[0])["reason"] == "handler: KeyError"
        assert not client.exists(f"{A}.inflight.kvm07")


def test_other_queues_stay_as_kombu_has_them(transport_redis: RedisServer) -> None:
    client = transport_redis.client()
    client.lpush("other", message("one"))
    with consuming(transport_redis, "other", A) as consumer:
        assert consumer.take(1) == ["one"]
        assert client.hlen("unacked") == 1
        consumer.got[0].ack()
        client.lpush(A, message("two"))
        client.lpush("other", message("three"))
        assert sorted(consumer.take(3)) == ["one", "three", "two"]


def test_what_other_queues_had_in_hand_stays_where_kombu_keeps_it(transport_redis: RedisServer) -> None:
    client = transport_redis.client()
    client.lpush("other", message("one"))
    with consuming(transport_redis, "other") as consumer:
        consumer.take(1)
    assert (client.hlen("unacked"), client.llen("other")) == (1, 0)


def test_a_broadcast_that_nobody_asked_for_is_no_lost_connection(transport_redis: RedisServer) -> None:
    with connected(transport_redis) as connection:
        assert connection.channel()._deliver_fanout_message({}, "nowhere") is False


def test_a_reliable_queue_is_read_under_a_name_and_with_acknowledgement(transport_redis: RedisServer) -> None:
    with connected(transport_redis, consumer_id="") as connection, pytest.raises(ValueError, match="consumer_id"):
        connection.channel().basic_consume(A, False, print, "tag")
    with connected(transport_redis) as connection, pytest.raises(ValueError, match="acknowledged"):
        connection.channel().basic_consume(A, True, print, "tag")


# Several queues


def test_an_idle_queue_delays_no_other(transport_redis: RedisServer) -> None:
    client = transport_redis.client()
    with consuming(transport_redis, B, A, prefetch=2) as consumer:
        consumer.poll_until(lambda: _blocked(client) == 2, "both queues waited for")
        before = _commands(client, "blmove")
        for number in range(20):
            client.lpush(A, message(str(number)))
            consumer.take(number + 1)
            consumer.got[-1].ack()
        # The idle queue was asked twenty times less often: its one question stood while the other was served.
        assert _commands(client, "blmove") - before <= 20 + 4
        assert [first_argument(one) for one in consumer.got] == [str(number) for number in range(20)]


def test_with_little_room_each_of_two_busy_queues_is_served(transport_redis: RedisServer) -> None:
    client = transport_redis.client()
    client.lpush(A, *(message(f"a{number}") for number in range(10)))
    client.lpush(B, *(message(f"b{number}") for number in range(10)))
    with consuming(transport_redis, A, B, prefetch=1) as consumer:
        for count in range(1, 21):
            consumer.take(count)
            assert client.llen(f"{A}.inflight.kvm07") + client.llen(f"{B}.inflight.kvm07") <= 2
            consumer.got[-1].ack()
    got = [first_argument(one) for one in consumer.got]
    assert [one for one in got if one.startswith("a")] == [f"a{number}" for number in range(10)]
    assert [one for one in got if one.startswith("b")] == [f"b{number}" for number in range(10)]
    letters = "".join(one[0] for one in got)
    assert min(letters[:10].count("a"), letters[:10].count("b")) >= 2  # neither waits for the other to be empty


def test_a_queue_that_was_passed_over_is_served_next(transport_redis: RedisServer) -> None:
    client = transport_redis.client()
    with consuming(transport_redis, A, B, prefetch=1) as consumer:
        consumer.poll_until(lambda: _blocked(client) == 2, "both queues waited for")
        client.lpush(A, message("a"), message("another a"))
        client.lpush(B, message("b"))
        consumer.channel.handlers[f"BLMOVE {A}"]()
        consumer.channel.handlers[f"BLMOVE {B}"]()
        assert client.llen(B) == 1
        consumer.got[0].ack()
        consumer.channel.advance_readers(consumer.connection.transport.cycle)
        assert [first_argument(one) for one in consumer.got] == ["a", "b"]


def test_a_message_without_room_goes_back_to_the_front(transport_redis: RedisServer) -> None:
    client = transport_redis.client()
    with consuming(transport_redis, A, B, prefetch=1) as consumer:
        consumer.poll_until(lambda: _blocked(client) == 2, "both queues waited for")
        client.lpush(A, message("a"))
        client.lpush(B, message("b"), message("c"))
        consumer.poll_until(lambda: len(consumer.got) == 1 and not _blocked(client), "both replies read")
        consumer.poll()
        assert client.llen(A) + client.llen(B) == 2
        consumer.got[0].ack()
        consumer.take(2)
        consumer.got[1].ack()
        consumer.take(3)
        got = [first_argument(one) for one in consumer.got]
        assert got.index("b") < got.index("c")


def test_what_arrives_while_a_consumer_is_cancelled_goes_back(transport_redis: RedisServer) -> None:
    client = transport_redis.client()
    with consuming(transport_redis, B) as consumer:
        consumer.poll_until(lambda: _blocked(client) == 1, "the queue waited for")
        client.lpush(B, message("one"))
        consumer.channel.basic_cancel(B)
        assert (client.llen(B), client.llen(f"{B}.inflight.kvm07")) == (1, 0)
        consumer.channel.basic_consume(B, False, consumer.got.append, B)
        assert consumer.take(1) == ["one"]


# Losing connections and processes


def test_a_new_process_starts_with_what_the_dead_one_had(transport_redis: RedisServer) -> None:
    client = transport_redis.client()
    client.lpush(A, *(message(str(number)) for number in range(4)))
    with consuming(transport_redis, A, prefetch=2) as former:
        assert former.take(2) == ["0", "1"]
    assert client.llen(f"{A}.inflight.kvm07") == 2
    transport._ledgers.clear()
    with consuming(transport_redis, A) as consumer:
        assert consumer.take(4) == ["0", "1", "2", "3"]


def test_a_new_connection_brings_no_second_copy_of_what_is_in_hand(transport_redis: RedisServer) -> None:
    client = transport_redis.client()
    client.lpush(A, message("one"), message("two"))
    with consuming(transport_redis, A, prefetch=1) as before:
        before.take(1)
    with consuming(transport_redis, A, prefetch=1) as consumer:
        consumer.poll()
        assert consumer.got == []  # the room is taken by what the former connection brought
        before.got[0].ack()
        assert consumer.take(1) == ["two"]
        assert client.llen(f"{A}.inflight.kvm07") == 1


def test_a_new_connection_brings_what_was_dropped_with_the_old_one(transport_redis: RedisServer) -> None:
    client = transport_redis.client()
    client.lpush(A, message("dropped"), message("kept"), message("next"))
    with consuming(transport_redis, A, prefetch=2) as before:
        before.take(2)
        before.got.pop(0)
    gc.collect()
    with consuming(transport_redis, A) as consumer:
        assert consumer.take(2) == ["dropped", "next"]
        assert client.llen(f"{A}.inflight.kvm07") == 3


def test_a_killed_connection_loses_nothing(transport_redis: RedisServer) -> None:
    client = transport_redis.client()
    with consuming(transport_redis, A) as consumer:
        consumer.poll_until(lambda: _blocked(client) == 1, "the queue waited for")
        client.client_kill_filter(_type="normal", skipme=True)
        client.lpush(A, message("one"))
        with pytest.raises(redis.ConnectionError):
            consumer.poll()
        assert consumer.take(1) == ["one"]
        consumer.got[0].ack()
        assert client.keys("*") == []


@pytest.mark.parametrize("room", [0, 1])
def test_what_is_in_flight_and_in_no_hand_is_found_in_time(
    transport_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr("workers.reader.CONSISTENCY_CHECK_INTERVAL_S", 0.0)
    client = transport_redis.client()
    client.lpush(A, message("one"))
    with consuming(transport_redis, A, prefetch=1 + room) as consumer:
        consumer.take(1)
        client.lpush(f"{A}.inflight.kvm07", message("lost on the wire"))
        consumer.poll_until(lambda: len(consumer.got) == 2 or client.llen(A) == 1, "the lost message back")
        consumer.got[0].ack()
        assert consumer.take(2) == ["one", "lost on the wire"]


def test_a_redis_that_refuses_is_one_to_reconnect_to(transport_redis: RedisServer) -> None:
    client = transport_redis.client()
    client.set(A, "no list")
    with consuming(transport_redis, A) as consumer:
        with pytest.raises(redis.ConnectionError, match="refused"):
            consumer.poll_until(lambda: False, "never")
        client.delete(A)
        client.lpush(A, message("one"))
        assert consumer.take(1) == ["one"]


def test_a_redis_that_hangs_is_given_up(transport_redis: RedisServer) -> None:
    with consuming(transport_redis, A, socket_timeout=0.2, health_check_interval=0.1) as consumer:
        consumer.poll_until(lambda: _blocked(transport_redis.client()) == 1, "the queue waited for")
        (reader,) = consumer.channel.readers()
        os.kill(transport_redis.pid, signal.SIGSTOP)
        try:
            with pytest.raises(redis.TimeoutError):
                consumer.channel.basic_publish(consumer.channel.prepare_message("x"), "", A)
            wait_until(
                lambda: reader.drop_if_overdue() or reader._waiting_since is None,  # type: ignore[func-returns-value]
                "the overdue connection dropped",
            )
        finally:
            os.kill(transport_redis.pid, signal.SIGCONT)


def test_no_caller_waits_for_a_redis_that_hangs(transport_redis: RedisServer) -> None:
    """Settling promises not to fail: it is owed, and made up for. Whoever asks for more is told after the time-out."""
    client = transport_redis.client()
    client.lpush(A, message("one"), message("two"))
    with consuming(transport_redis, A, prefetch=2, socket_timeout=0.2) as consumer:
        consumer.take(2)
        ledger = consumer.channel._ledger_in_use()
        os.kill(transport_redis.pid, signal.SIGSTOP)
        began = time.monotonic()
        try:
            consumer.got[0].ack()
            consumer.got[1].requeue()
            with pytest.raises(redis.TimeoutError):
                ledger.reconcile(A)
            took_s = time.monotonic() - began
        finally:
            os.kill(transport_redis.pid, signal.SIGCONT)
        assert took_s < 3 * 0.2 + 30.0  # three calls, and what a loaded machine may add; Redis would have hung for ever
        consumer.poll_until(lambda: ledger.is_consistent(A) or ledger.reconcile(A), "what is owed made up for")
        assert client.llen(f"{A}.inflight.kvm07") + client.llen(A) == 1


def test_a_forked_child_touches_nothing_of_its_parent(transport_redis: RedisServer) -> None:
    client = transport_redis.client()
    client.lpush(A, message("one"))
    with consuming(transport_redis, A) as consumer:
        consumer.take(1)
        consumer.poll_until(lambda: _blocked(client) == 1, "the queue waited for")
        child = os.fork()
        if child == 0:
            consumer.channel.close()
            consumer.channel._after_fork()
            os._exit(len(transport._ledgers))
        assert os.waitpid(child, 0)[1] == 0
        client.lpush(A, message("two"))
        assert consumer.take(2) == ["one", "two"]
        assert client.llen(f"{A}.inflight.kvm07") == 2


def test_a_forked_child_does_not_make_its_parents_event_loop_deaf(transport_redis: RedisServer) -> None:
    with consuming(transport_redis, A) as consumer:
        hub = Hub()
        consumer.connection.transport.register_with_event_loop(consumer.connection.transport, hub)
        wait_until(lambda: hub.run_once() or _blocked(transport_redis.client()), "waited for")
        child = os.fork()
        if child == 0:
            consumer.channel._after_fork()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        transport_redis.client().lpush(A, message("one"))
        (reader,) = consumer.channel.readers()
        assert reader.client.connection is not None
        wanted = reader.client.connection._sock.fileno()  # type: ignore[attr-defined]
        assert wanted in {fileno for fileno, _ in hub.poller.poll(5.0)}
        hub.close()


def test_publishing_reuses_one_client(transport_redis: RedisServer) -> None:
    with connected(transport_redis) as connection:
        channel: Channel = connection.channel()
        first = channel._create_client()
        assert channel._create_client() is first
        channel._after_fork()
        assert channel._create_client() is not first


def _blocked(client: redis.Redis) -> int:
    return sum(one["cmd"] == "blmove" and "b" in one["flags"] for one in client.client_list())


def _commands(client: redis.Redis, command: str) -> int:
    calls = client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"]
    assert isinstance(calls, int)
    return calls
