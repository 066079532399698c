"""Networks as requests change them: a record, its name and what the caller is told, in one transaction or not at all.

Whether a network may be beside others is decided by looking at all of them; `revisions` tells whether the list has moved since.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskvisor.model.errors import Busy, Refused, StoreConflict
from taskvisor.model.network import Network
from taskvisor.model.network_clash import clash_of
from taskvisor.state.catalog import Catalog
from taskvisor.state.codec import encode
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Outcome, Writer

if TYPE_CHECKING:
    import redis

LIST = "networks"
NETWORKS_LIMIT = 4096
"""All of them are looked at when one is made."""
LOOKS_LIMIT = 10


@dataclass(frozen=True, kw_only=True)
class Listed:
    """All networks, and the revision of their list, which was read before them."""

    networks: tuple[Network, ...]
    revision: int


class Networks:
    """The one writer of networks' records. StoreConflict means: look again and decide again."""

    def __init__(self, client: "redis.Redis", writer: Writer) -> None:
        self._client = client
        self._writer = writer
        self._keys: Keys = writer.keys
        self._catalog = Catalog(client, writer.keys, on_unreadable=_fail)

    def read_list(self) -> Listed:
        """All of them. UnreadableRecord when one can't be read: whether another clashes with it can't be told."""
        revision = read_revision(self._client, self._keys, LIST)
        return Listed(networks=self._catalog.list_networks(), revision=revision)

    def ensure(self, network: Network) -> Network:
        """The network is recorded; one of that name that is there already stays as it is, and is returned.

        Refused when it can't be beside those that are there; Busy when they change all the time.
        """
        for _ in range(LOOKS_LIMIT):
            there = self._catalog.look_up_network(network.name)
            if there is not None:
                return there
            seen = self.read_list()
            if any(other.id == network.id for other in seen.networks):
                continue  # a twin has recorded it since
            try:
                self.create(network, seen)
            except StoreConflict:
                continue
            return network
        raise Busy(f"network {network.name}: networks changed {LOOKS_LIMIT} times while it was to be recorded")

    def create(self, network: Network, seen: Listed, answer: Outcome | None = None) -> None:
        """The network is recorded, and its caller told. Refused when it can't be beside those that were seen.

        StoreConflict when the list has moved since.
        """
        if len(seen.networks) >= NETWORKS_LIMIT:
            raise Refused(f"name: there are {len(seen.networks)} networks, and may be no more; delete one first")
        clash = clash_of(network, seen.networks)
        if clash is not None:
            raise Refused(clash)
        tx = Transaction()
        move_revision(tx, self._keys, LIST, seen.revision)
        tx.require_absent(self._keys.networks, network.name, StoreConflict)
        tx.do("SET", self._keys.network(network.id), encode(network))
        tx.do("HSET", self._keys.networks, network.name, network.id)
        if answer is not None:
            self._writer.outcome(tx, answer)
        tx.run(self._client, f"record network {network.name}")

    def delete(self, network: Network, answer: Outcome) -> None:
        """The record is gone, with all that was kept of its addresses. Refused while a port holds one of them.

        A floating address is bound to a port, so the network of one has a port. StoreConflict when it is gone already.
        """
        keys, tx = self._keys, Transaction()
        tx.require(keys.networks, network.name, network.id, StoreConflict)
        for ports in (keys.ports(network.id), keys.ports6(network.id)):
            tx.require_empty(ports, lambda port: _in_use(network, port))
        tx.do("HDEL", keys.networks, network.name)
        kept = (keys.network, keys.addresses, keys.freed, keys.next_address, keys.addresses6, keys.next_address6)
        tx.do("DEL", *(part(network.id) for part in kept))
        tx.do("HINCRBY", keys.revisions, LIST, 1)
        self._writer.outcome(tx, answer)
        tx.run(self._client, f"delete network {network.name}")


def read_revision(client: "redis.Redis", keys: Keys, what: str) -> int:
    """How often that list has changed."""
    with asking(f"ask how often the {what} have changed"):
        return int(client.hget(keys.revisions, what) or 0)


def move_revision(tx: Transaction, keys: Keys, what: str, seen: int) -> None:
    """Add to a transaction: that list changes once more, if it has not since that revision; else StoreConflict."""
    if seen == 0:
        tx.require_absent(keys.revisions, what, StoreConflict)
    else:
        tx.require(keys.revisions, what, seen, StoreConflict)
    tx.do("HINCRBY", keys.revisions, what, 1)


def _in_use(network: Network, port: str) -> Exception:
    return Refused(
        f"network: {network.name!r} has port {port}; delete the instances that have ports of it first (a request that was"
        " refused gives its port back within minutes)"
    )


def _fail(problem: Exception) -> None:
    raise problem
