"""What an operator says of a host: whether it takes new instances, and its labels. Each with its caller's answer, in one
transaction or not at all.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from taskvisor.model.errors import StoreConflict
from taskvisor.model.ids import HostName
from taskvisor.state.codec import decode, encode
from taskvisor.state.connection import asking
from taskvisor.state.host_record import unknown_host
from taskvisor.state.keys import Keys
from taskvisor.state.moved import note_moved
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Outcome, Writer

if TYPE_CHECKING:
    import redis


class HostChanges:
    """The one writer of what is said of hosts. Refused when no host of that name ever reported."""

    def __init__(self, client: "redis.Redis", writer: Writer) -> None:
        self._client = client
        self._writer = writer
        self._keys: Keys = writer.keys

    def enable(self, host: HostName, answer: Outcome) -> None:
        """It takes new instances, and what failed there before is forgotten."""
        tx = self._about(host)
        tx.do("HDEL", self._keys.host(host), "disabled", "failed_builds")
        self._write(tx, host, answer)

    def disable(self, host: HostName, reason: str, answer: Outcome) -> None:
        """It takes no new instances, for that reason. What runs there runs on."""
        tx = self._about(host)
        tx.do("HSET", self._keys.host(host), "disabled", reason)
        self._write(tx, host, answer)

    def read_labels(self, host: HostName) -> tuple[Mapping[str, str], str | None]:
        """Its labels, and the text that they are stored as; None: it never had one."""
        with asking(f"read the labels of host {host}"):
            text = self._client.hget(self._keys.host(host), "labels")
        return (decode(str(text), dict[str, str], f"labels of host {host}"), str(text)) if text else ({}, None)

    def label(self, host: HostName, labels: Mapping[str, str], seen: str | None, answer: Outcome) -> None:
        """It bears these labels and no others. StoreConflict when they have changed since they were seen as that text."""
        tx, key = self._about(host), self._keys.host(host)
        if seen is None:
            tx.require_absent(key, "labels", StoreConflict)
        else:
            tx.require(key, "labels", seen, StoreConflict)
        tx.do("HSET", key, "labels", encode(dict(sorted(labels.items()))))
        self._write(tx, host, answer)

    def _about(self, host: HostName) -> Transaction:
        tx = Transaction()
        tx.require_present(self._keys.host(host), "inventory", lambda _: unknown_host(host))
        return tx

    def _write(self, tx: Transaction, host: HostName, answer: Outcome) -> None:
        note_moved(tx, self._keys, host)
        self._writer.outcome(tx, answer)
        tx.run(self._client, f"change host {host}")
