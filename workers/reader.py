"""Waiting for several reliable queues at once: a connection for each, all under kombu's one poller.

A blocking command holds its connection, so whoever waits for two queues over one connection either delays one of them or
needs a command that pops from many keys, and Redis has none that also moves. Hence a Reader per queue.

This module knows how kombu polls (the names it relies on are listed in `workers.transport`) and when to ask Redis for a
message. It must never know what a message is: what arrives goes to `take` as bytes.
"""

# kombu has types for few of its methods, and says it has them for all.
# mypy: allow-untyped-calls

import os
from collections.abc import Callable
from queue import Empty
from time import monotonic

import redis
import structlog
from kombu.transport import redis as stock

from taskvisor.model.queues import inflight_key
from workers.inflight import Ledger

CONSISTENCY_CHECK_INTERVAL_S = 10.0
REPLY_TIMEOUT_S = 2.0

log = structlog.get_logger(__name__)


class Reader:
    """Waits for one reliable queue.

    Invariant: a message that Redis moved in flight for this reader is given to `take`, or handed back, or its connection
    was lost, and then `Ledger.reconcile` runs before the next question.

    Named as kombu's poller wants it: `kind` is the key of the channel's handler, `client.connection` is what is polled.
    """

    KIND_PREFIX = "BLMOVE "

    def __init__(
        self,
        *,
        queue: str,
        channel: object,
        client: redis.Redis,
        ledger: Ledger,
        take: Callable[[str, bytes], None],
        wait_s: float,
        overdue_s: float,
    ) -> None:
        self.queue = queue
        self.kind = self.KIND_PREFIX + queue
        self.client = client
        self._channel = channel
        self._ledger = ledger
        self._take = take
        self._wait_s = wait_s
        self._overdue_s = overdue_s
        self._waiting_since: float | None = None
        self._check_due_at = 0.0
        self._connection_id = 0
        self._pid = os.getpid()

    def advance(self, poller: "Poller", *, has_room: bool) -> None:
        """Do what can be done before the next poll: connect, check, ask for a message if there is room for one."""
        if self._waiting_since is not None:
            return
        if poller._client_registered(self._channel, self.client, self.kind):
            self._check_if_due()
        elif has_room:
            self._connect(poller)
        if has_room:
            self._ask()

    def _connect(self, poller: "Poller") -> None:
        poller._register(self._channel, self.client, self.kind)
        self._connection.send_command("CLIENT", "ID")
        self._connection_id = self.client.parse_response(self._connection, "CLIENT ID")
        # Over this connection nothing was asked yet, and over the last one a reply may have been lost.
        self._ledger.reconcile(self.queue)
        self._check_due_at = monotonic() + CONSISTENCY_CHECK_INTERVAL_S

    def _check_if_due(self) -> None:
        if monotonic() < self._check_due_at:
            return
        self._check_due_at = monotonic() + CONSISTENCY_CHECK_INTERVAL_S
        if not self._ledger.is_consistent(self.queue):
            self._ledger.reconcile(self.queue)

    def _ask(self) -> None:
        inflight = inflight_key(self.queue, self._ledger.consumer)
        self._waiting_since = monotonic()  # first: a connection lost in the next line undoes it, by `lost`
        self._connection.send_command("BLMOVE", self.queue, inflight, "RIGHT", "LEFT", self._wait_s)

    @property
    def _connection(self) -> redis.Connection:
        if self.client.connection is None:
            raise redis.ConnectionError(f"the reader of {self.queue} is closed")
        return self.client.connection

    def read(self) -> bool:
        """Take the reply. Raises Empty if no message came in time, and what redis-py raises if the connection is lost."""
        if self._waiting_since is None:  # readable without a question: the server closed an idle connection
            self._connection.disconnect()
            raise Empty
        raw = self._reply()
        if raw is None:
            raise Empty
        self._take(self.queue, raw)
        return True

    def _reply(self) -> bytes | None:
        try:
            reply: bytes | None = self.client.parse_response(self._connection, "BLMOVE")
        except (redis.RedisError, OSError):
            self._connection.disconnect()
            raise
        finally:
            self._waiting_since = None
        return reply

    def lost(self, connection: object) -> None:
        """`connection` is gone. If it was ours, no reply is to be expected."""
        if self.client.connection is connection:
            self._waiting_since = None

    def drop_if_overdue(self) -> None:
        """A server that is there always answers in time. One that vanished may leave the socket open for ever."""
        if self._waiting_since is None:
            return
        waited_s = monotonic() - self._waiting_since
        if waited_s > self._wait_s + self._overdue_s and not stock._socket_readable(self._connection._sock):
            log.warning("reply_overdue", queue=self.queue, waited_s=round(waited_s))
            self._connection.disconnect()

    def close(self) -> None:
        """Stop waiting; a message that came meanwhile goes back."""
        connection = self.client.connection
        if connection is None or os.getpid() != self._pid:  # a forked child must not read its parent's replies
            return
        try:
            self._give_back_reply(connection)
        except (redis.RedisError, OSError) as error:
            log.debug("reader_closed_without_reply", queue=self.queue, error=repr(error))
        finally:
            connection.disconnect()
            self.client.connection = None
            self.client.connection_pool.release(connection)

    def _give_back_reply(self, connection: redis.Connection) -> None:
        if self._waiting_since is None:
            return
        self._ledger.end_wait(self._connection_id)
        if not connection.can_read(timeout=REPLY_TIMEOUT_S):
            return
        raw: bytes | None = self.client.parse_response(connection, "BLMOVE")
        if raw is not None:
            self._ledger.hand_back(self.queue, raw)


class Poller(stock.MultiChannelPoller):
    """Polls readers beside kombu's own two connections."""

    def on_poll_start(self) -> None:
        super().on_poll_start()
        for channel in self._channels:
            channel.advance_readers(self)

    def on_readable(self, fileno: int) -> object:
        channel, kind = self._fd_to_chan.get(fileno) or (None, "")
        if channel is not None and kind.startswith(Reader.KIND_PREFIX):
            return channel.handlers[kind]()
        return super().on_readable(fileno)

    def maybe_check_brpop_health(self) -> None:
        super().maybe_check_brpop_health()
        for channel in self._channels:
            for reader in channel.readers():
                reader.drop_if_overdue()
