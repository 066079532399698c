"""How a worker reads its queues: kombu's Redis transport, with reliable queues in it.

    broker_url = broker_url_for("redis://redis.example/0")          # reliable-redis://redis.example/0
    broker_transport_options = transport_options_for(consumer="kvm07")

Stock kombu pops a message and then records that it did, returns running work to its queue when a connection breaks, dies
when Redis restarts under a late acknowledgement or takes no writes while it connects, and is killed by one malformed
message. For the queues whose names
start with one of the option `reliable_prefixes` this transport does otherwise:

- a message is taken by `BLMOVE <queue> <queue>.inflight.<consumer_id> RIGHT LEFT` and acknowledged by one LREM;
- nothing returns to a queue by time or by the loss of a connection, but by `Ledger.reconcile`: before the first BLMOVE of
  every connection, and whenever the in-flight list is seen to hold more than this process has in hand;
- each queue is waited for on a connection of its own, so that an idle queue never delays a busy one;
- a message that arrives when there is no room for it (two queues answered at once, or the consumer was cancelled) goes
  straight back to the front;
- malformed messages, and those that no handler could take, go to `<queue>.dead`.

Invariant: producers see plain Celery on Redis. Queue names and the bytes on them are kombu's; priorities are ignored.
Invariant: one process consumes a reliable queue as `consumer_id` at a time. The app holds a lock to that end, before it
consumes; this module can't check it.

It must never know what a task is, or ask Celery what runs: see `Ledger` for how it knows.

Other queues of a worker keep kombu's ways, but for two: their unacknowledged messages come back by `visibility_timeout`
only, since `do_restore` is off (it is what kills the stock worker), and they have one priority.

Relied upon, private to kombu 5.7 (tests/workers/test_transport.py fails when one of them moves):

    redis.MultiChannelPoller    on_poll_start, on_readable, maybe_check_brpop_health, _register, _client_registered,
                                _fd_to_chan, _channels
    redis.Channel               _create_client, _connparams, _on_connection_disconnect, _basic_cancel, _poll_error,
                                _handle_message, _deliver_fanout_message, handlers, active_queues, _active_queues,
                                _tag_to_queue, _fanout_queues, _fanout_to_queue, brpop_timeout, pool, _get_client
    redis.QoS                   append, ack, reject, can_consume, _delivered, _dirty
    redis.Transport             cycle, and that register_with_event_loop calls cycle.on_poll_start on each tick
    redis._socket_readable
    virtual.Message             _raw, _decoded_cache, and that it can be referred to weakly
    virtual.Transport           _deliver
    redis.Connection (redis-py) _sock
"""

# kombu has types for few of its methods, and says it has them for all.
# mypy: allow-untyped-calls

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import uuid4

import redis
import structlog
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport import redis as stock

from taskvisor.state.connection import silence_text
from taskvisor.state.tls import tls_advice_for
from workers.envelope import ACCEPTED_CONTENT, MAX_MESSAGE_BYTES, Envelope, Malformed, check_broadcast, check_envelope
from workers.inflight import Ledger
from workers.patient_redis import PatientRedis
from workers.reader import Poller, Reader
from workers.refusals import refusal_of

ALIAS = "reliable-redis"
TRANSPORT_ALIASES[ALIAS] = "workers.transport:Transport"

SOCKET_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 3.0
HEALTH_CHECK_INTERVAL_S = 10

log = structlog.get_logger(__name__)


def broker_url_for(redis_url: str) -> str:
    """The URL under which a worker reaches, by this transport, the Redis that producers reach by `redis_url`."""
    scheme, separator, rest = redis_url.partition("://")
    match scheme:
        case "redis":
            return f"{ALIAS}{separator}{rest}"
        case "redis+socket":
            return f"{ALIAS}+socket{separator}{rest}"
        case "rediss":
            query = {"ssl_cert_reqs": "required", **dict(parse_qsl(urlsplit(redis_url).query))}
            return f"{ALIAS}{separator}{rest.partition('?')[0]}?{urlencode(query)}"
    raise ValueError(f"{scheme}:// is no Redis URL; use redis://, rediss:// or redis+socket://")


def transport_options_for(
    consumer: str, *, counters_key: str | None = None, answers_keep_s: int | None = None
) -> dict[str, object]:
    """`broker_transport_options` of a worker that takes messages as `consumer`, the name of its host.

    Dead letters are counted in the hash `counters_key`, if one is named. With `answers_keep_s` their senders are told, where they
    can be, by a result that is kept for so long.

    A Redis that hangs is given up after `socket_timeout`. BLMOVE waits one second in the server and its reply is read when
    it is there, so no timeout is too short for it; a reply that is overdue by `health_check_interval` ends the connection.
    """
    return {
        "consumer_id": consumer,
        "counters_key": counters_key,
        "answers_keep_s": answers_keep_s,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_INTERVAL_S,
    }


class Delivery(dict[str, object]):
    """The payload of one received message, which remembers the bytes it came as: they are what settles it."""

    def __init__(self, queue: str, raw: bytes, envelope: Envelope) -> None:
        super().__init__(envelope.payload)
        self.queue = queue
        self.raw = raw
        self.envelope = envelope
        # The producer's tag is the same in every copy of a message. Settling must hit one copy.
        cast(dict[str, object], self["properties"])["delivery_tag"] = str(uuid4())


class Message(virtual.Message):
    """As kombu's, with the body that was decoded when the envelope was checked."""

    def __init__(self, payload: object, channel: "Channel | None" = None, **kwargs: object) -> None:
        super().__init__(payload, channel=channel, **kwargs)
        if isinstance(payload, Delivery):
            self._decoded_cache = payload.envelope.body


class QoS(stock.QoS):
    """Acknowledges reliable messages through the ledger, which outlives the channel; others as stock kombu does."""

    def can_consume(self) -> bool:
        """Whether there is room. What earlier connections of this process brought and is still unsettled counts."""
        in_hand = len(self._delivered) - len(self._dirty) + len(self.channel.ledger or ())
        return not self.prefetch_count or in_hand < self.prefetch_count

    def append(self, message: Message, delivery_tag: str) -> None:
        delivery = message._raw
        if isinstance(delivery, Delivery):
            self.channel.ledger.receive(delivery_tag, delivery.queue, delivery.raw, message, delivery.envelope.eta)
        else:
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        ledger = self.channel.ledger
        if ledger is None or not ledger.settle(delivery_tag):
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        ledger = self.channel.ledger
        if ledger is None or not (ledger.requeue(delivery_tag) if requeue else ledger.settle(delivery_tag)):
            super().reject(delivery_tag, requeue=requeue)


class Channel(stock.Channel):
    """A kombu channel some of whose queues are reliable."""

    QoS = QoS
    Message = Message

    do_restore = False
    priority_steps = [0]  # noqa: RUF012 - kombu replaces it by the option of that name
    socket_timeout = SOCKET_TIMEOUT_S  # type: ignore[assignment]
    socket_connect_timeout = CONNECT_TIMEOUT_S  # type: ignore[assignment]
    health_check_interval = HEALTH_CHECK_INTERVAL_S

    # Options of our own
    consumer_id: str | None = None
    counters_key: str | None = None
    answers_keep_s: int | None = None
    reliable_prefixes: tuple[str, ...] = ("host.", "compute")
    max_message_bytes = MAX_MESSAGE_BYTES
    accepted_content: tuple[str, ...] = ACCEPTED_CONTENT
    from_transport_options = (  # type: ignore[assignment]
        *stock.Channel.from_transport_options,
        "consumer_id",
        "counters_key",
        "answers_keep_s",
        "reliable_prefixes",
        "max_message_bytes",
        "accepted_content",
    )

    ledger: Ledger | None = None

    def __init__(self, *args: object, **kwargs: object) -> None:
        self._readers: dict[str, Reader] = {}
        self._passed_over: dict[str, None] = {}
        self._plain_client: redis.Redis | None = None
        self._pid = os.getpid()
        with _failed_tls_told():
            super().__init__(*args, **kwargs)  # connects

    # Consuming

    def basic_consume(self, queue: str, no_ack: bool, *args: object, **kwargs: object) -> object:
        if self.is_reliable(queue) and queue not in self._readers:
            if no_ack:
                raise ValueError(f"queue {queue} is reliable: its messages must be acknowledged")
            self._open_reader(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)

    def is_reliable(self, queue: str) -> bool:
        return queue.startswith(tuple(self.reliable_prefixes)) and queue not in self._fanout_queues

    def _open_reader(self, queue: str) -> None:
        if self.ledger is None:
            self.ledger = _ledger_for(self)
        self.ledger.drop_scheduled(but_for=self)
        reader = Reader(
            queue=queue,
            channel=self,
            client=self._create_client(asynchronous=True),
            ledger=self.ledger,
            take=self._take,
            wait_s=self.brpop_timeout,
            overdue_s=self.health_check_interval,
        )
        self._readers[queue] = reader
        self.handlers[reader.kind] = lambda: self._read(reader)

    def _basic_cancel(self, consumer_tag: str) -> object:
        queue = self._tag_to_queue.get(consumer_tag)
        cancelled: object = super()._basic_cancel(consumer_tag)
        if queue in self._readers and queue not in self._active_queues:
            self._close_reader(queue)
        return cancelled

    def _close_reader(self, queue: str) -> None:
        reader = self._readers.pop(queue)
        del self.handlers[reader.kind]
        reader.close()

    def close(self) -> None:
        for queue in self._readers.copy():
            self._close_reader(queue)
        self._return_dropped()
        super().close()

    def _return_dropped(self) -> None:
        """At shutdown Celery drops what it had not begun. Other workers of the queue need not wait for our return."""
        if os.getpid() != self._pid or self.ledger is None:
            return
        self.ledger.drop_scheduled()
        try:
            self.ledger.reconcile_dropped()
        except (redis.RedisError, OSError) as error:
            log.warning("dropped_messages_left_in_flight", error=repr(error))

    @property
    def active_queues(self) -> list[str]:
        """Those that kombu reads itself, by BRPOP."""
        return [queue for queue in super().active_queues if queue not in self._readers]

    # Polling

    def readers(self) -> list[Reader]:
        return list(self._readers.values())

    def advance_readers(self, poller: Poller) -> None:
        with _refusals_as_connection_loss():
            self._serve_passed_over()
            for reader in self.readers():
                reader.advance(poller, has_room=self.qos.can_consume())

    def _serve_passed_over(self) -> None:
        """A queue whose message had to go back is next. Which of two replies is read first is chance, and chance could
        always pass over the same one."""
        while self._passed_over and self.qos.can_consume():
            queue = next(iter(self._passed_over))
            del self._passed_over[queue]
            if queue in self._readers and (raw := self._ledger_in_use().take(queue)) is not None:
                self._take(queue, raw)

    def _read(self, reader: Reader) -> bool:
        with _refusals_as_connection_loss():
            return reader.read()

    def _poll_error(self, type: str, **options: object) -> object:  # noqa: A002 - kombu's name
        if type.startswith(Reader.KIND_PREFIX):
            return self.handlers[type]()
        return super()._poll_error(type, **options)

    def _on_connection_disconnect(self, connection: object) -> None:
        for reader in self.readers():
            reader.lost(connection)
        super()._on_connection_disconnect(connection)

    # Receiving

    def _take(self, queue: str, raw: bytes) -> None:
        """Give a message that has just arrived in flight to the consumer; or back, or to the dead letters."""
        ledger = self._ledger_in_use()
        if queue not in self._readers or not self.qos.can_consume():
            ledger.hand_back(queue, raw)
            self._passed_over[queue] = None
            return
        checked = check_envelope(
            raw, queue=queue, max_message_bytes=self.max_message_bytes, accept=self.accepted_content
        )
        if isinstance(checked, Malformed):
            self._bury(queue, raw, checked.reason, checked.request_id)
        else:
            self._deliver_or_bury(Delivery(queue, raw, checked))

    def _deliver_or_bury(self, delivery: Delivery) -> None:
        try:
            self.connection._deliver(delivery, delivery.queue)
        except (redis.RedisError, OSError, MemoryError):
            raise  # not the message's fault: Celery reconnects, or the process ends, and the message is still in flight
        except Exception as error:
            # Left to itself it would end this worker, and the next one at the same message. (A KeyError, which kombu
            # takes for a lost connection, would make it reconnect for ever.)
            log.exception("message_handler_failed", queue=delivery.queue)
            reason = f"handler: {type(error).__name__}"
            self._bury(delivery.queue, delivery.raw, reason, delivery.envelope.request_id)

    def _bury(self, queue: str, raw: bytes, reason: str, request_id: str | None) -> None:
        self._ledger_in_use().bury(queue, raw, reason, refusal_of(request_id, reason, keep_s=self.answers_keep_s))

    def _ledger_in_use(self) -> Ledger:
        if self.ledger is None:
            raise RuntimeError("no reliable queue was ever consumed on this channel")
        return self.ledger

    # Broadcasts

    def _handle_message(self, client: object, r: list[object]) -> dict[str, object]:
        payload: dict[str, object] = super()._handle_message(client, r)
        channel, data = payload["channel"], payload["data"]
        if payload["type"] == b"pmessage" and isinstance(channel, bytes) and isinstance(data, bytes):
            malformed = check_broadcast(data, is_control=b".pidbox" in channel)
            if malformed is not None:
                log.warning("broadcast_dropped", channel=channel.decode(errors="replace"), reason=malformed.reason)
                payload["data"] = None
        return payload

    def _deliver_fanout_message(self, message: object, exchange: str) -> object:
        if exchange not in self._fanout_to_queue:  # kombu's KeyError would pass for a lost connection
            log.warning("broadcast_dropped", channel=exchange, reason="exchange: no consumer here")
            return False
        return super()._deliver_fanout_message(message, exchange)

    # Clients

    def _get_client(self) -> object:
        super()._get_client()  # it minds the version of redis-py
        return PatientRedis

    def _create_client(self, asynchronous: bool = False) -> redis.Redis:
        """As kombu's, but a client per pool instead of one per command: making one costs more than using it."""
        if asynchronous:
            return cast(redis.Redis, super()._create_client(asynchronous=True))
        if self._plain_client is None or self._plain_client.connection_pool is not self.pool:
            self._plain_client = cast(redis.Redis, super()._create_client())
        return self._plain_client


class Transport(stock.Transport):
    """`reliable-redis://` and `reliable-redis+socket://`."""

    Channel = Channel

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Poller()  # type: ignore[assignment]


@contextmanager
def _refusals_as_connection_loss() -> Iterator[None]:
    """A Redis that answers "out of memory", "read only" or "wrong type" is one to come back to later, not to die of."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError):
        raise
    except redis.RedisError as error:
        log.exception("redis_refused")
        raise redis.ConnectionError(f"Redis refused: {error}") from error


@contextmanager
def _failed_tls_told() -> Iterator[None]:
    """Celery says in its log that it can't connect, and tries again for ever; what there is to do about it nobody else says."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        if tls_advice_for(error) is not None:
            log.warning("redis_not_reached", reason=silence_text(error))
        raise


_ledgers: dict[tuple[str, str], Ledger] = {}
# What a parent received is the parent's to settle; a pool child starts with nothing in hand.
os.register_at_fork(after_in_child=_ledgers.clear)


def _ledger_for(channel: Channel) -> Ledger:
    """The ledger of this process for the channel's Redis and consumer; the same one after every reconnect."""
    if not channel.consumer_id:
        raise ValueError("transport option consumer_id is missing: reliable queues are read under the name of a host")
    if channel.global_keyprefix:
        raise ValueError("transport option global_keyprefix is not supported with reliable queues")
    parameters = channel._connparams()
    where = "|".join(str(parameters.get(part, "")) for part in ("host", "port", "path", "db"))
    client = redis.Redis(connection_pool=redis.ConnectionPool(**parameters))
    ledger = _ledgers.get((where, channel.consumer_id))
    if ledger is None:
        ledger = _ledgers[where, channel.consumer_id] = Ledger(
            channel.consumer_id, client, counters_key=channel.counters_key
        )
    else:
        ledger.use(client)
    return ledger
