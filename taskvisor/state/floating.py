"""Floating addresses: which the operator has registered, and to which port each is bound.

Invariant: an address is bound to one port at most, and a port has one at most. A port that leaves its instance's record loses
its address in that very transaction (`members`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskvisor.model.errors import Refused, StoreConflict
from taskvisor.model.ids import FloatingId, InstanceId, PortId, floating_id_for
from taskvisor.model.network import FloatingAddress
from taskvisor.model.network_clash import holder_of
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys
from taskvisor.state.networks import LIST as NETWORKS
from taskvisor.state.networks import Listed, move_revision
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Outcome, Writer

if TYPE_CHECKING:
    import redis

FLOATING_LIMIT = 65_536
LIST_SCRIPT = "return {redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])}"
READ_SCRIPT = "return {redis.call('HGET', KEYS[1], ARGV[1]), redis.call('HGET', KEYS[2], ARGV[1])}"


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The port that an address is bound to, and whose it is."""

    port_id: PortId
    instance_id: InstanceId


class FloatingAddresses:
    """The read side. Safe in threads."""

    def __init__(self, client: "redis.Redis", keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._list = client.register_script(LIST_SCRIPT)
        self._read = client.register_script(READ_SCRIPT)

    def list(self) -> tuple[FloatingAddress, ...]:
        """All of them, by id."""
        with asking("list floating addresses"):
            flat, flat_bound = self._list(keys=[self._keys.floating, self._keys.floating_bound])
        bound = dict(zip(flat_bound[::2], flat_bound[1::2], strict=True))
        addresses = dict(zip(flat[::2], flat[1::2], strict=True))
        return tuple(_floating(one, address, bound.get(one)) for one, address in sorted(addresses.items()))

    def look_up(self, address_or_id: str) -> FloatingAddress | None:
        """The floating address that is this, or has this id; None when there is neither."""
        for floating_id in (floating_id_for(address_or_id), FloatingId(address_or_id)):
            with asking(f"read floating address {address_or_id}"):
                address, port = self._read(keys=[self._keys.floating, self._keys.floating_bound], args=[floating_id])
            if address is not None:
                return _floating(floating_id, address, port)
        return None

    def read_holder(self, floating_id: FloatingId) -> Holder | None:
        """Which port of which instance it is bound to; None: to none."""
        with asking(f"read who has floating address {floating_id}"):
            words = self._client.hget(self._keys.floating_bound, floating_id)
        return None if words is None else _holder(str(words))


class FloatingChanges:
    """The one writer but for what takes the port away. StoreConflict means: look again and decide again."""

    def __init__(self, client: "redis.Redis", writer: Writer) -> None:
        self._client = client
        self._writer = writer
        self._keys: Keys = writer.keys

    def create(self, floating: FloatingAddress, networks: Listed, answer: Outcome) -> None:
        """The address is registered. Refused for one in a subnet whose gateway hosts hold: it would not be an outer one.

        StoreConflict when it is there, or networks have changed since they were seen.
        """
        holder = holder_of(floating.address, networks.networks)
        if holder is not None:
            raise Refused(
                f"address: {floating.address} is in {holder.cidr} of network {holder.name!r}; it must be an outer one"
            )
        with asking("count floating addresses"):
            count = self._client.hlen(self._keys.floating)
        if count >= FLOATING_LIMIT:
            raise Refused(f"address: there are {count} floating addresses, and may be no more; delete one first")
        tx = Transaction()
        move_revision(tx, self._keys, NETWORKS, networks.revision)  # a network may not be made over it meanwhile
        tx.require_absent(self._keys.floating, floating.id, StoreConflict)
        tx.do("HSET", self._keys.floating, floating.id, floating.address)
        self._run(tx, floating, "register", answer)

    def bind(self, floating: FloatingAddress, instance_id: InstanceId, port_id: PortId, answer: Outcome) -> None:
        """The address is the port's. Refused when either is bound; StoreConflict when the port or the address is gone."""
        keys, tx = self._keys, Transaction()
        tx.require_present(keys.floating, floating.id, StoreConflict)
        tx.require_present(keys.nics(instance_id), port_id, StoreConflict)
        tx.require_absent(keys.floating_bound, floating.id, lambda words: _bound(floating, words))
        tx.require_absent(keys.floating_ports, port_id, lambda other: _has_one(port_id, other))
        tx.do("HSET", keys.floating_bound, floating.id, f"{port_id} {instance_id}")
        tx.do("HSET", keys.floating_ports, port_id, floating.id)
        self._run(tx, floating, "bind", answer)

    def release(self, floating: FloatingAddress, holder: Holder, answer: Outcome) -> None:
        """The address is no port's. StoreConflict when it is bound to another by now, or to none."""
        keys, tx = self._keys, Transaction()
        tx.require(keys.floating_bound, floating.id, f"{holder.port_id} {holder.instance_id}", StoreConflict)
        tx.do("HDEL", keys.floating_bound, floating.id)
        tx.do("HDEL", keys.floating_ports, holder.port_id)
        self._run(tx, floating, "release", answer)

    def delete(self, floating: FloatingAddress, answer: Outcome) -> None:
        """The address is not registered any more. Refused while it is bound; StoreConflict when it is gone."""
        tx = Transaction()
        tx.require_present(self._keys.floating, floating.id, StoreConflict)
        tx.require_absent(self._keys.floating_bound, floating.id, lambda words: _bound(floating, words))
        tx.do("HDEL", self._keys.floating, floating.id)
        self._run(tx, floating, "delete", answer)

    def _run(self, tx: Transaction, floating: FloatingAddress, what: str, answer: Outcome) -> None:
        self._writer.outcome(tx, answer)
        tx.run(self._client, f"{what} floating address {floating.address}")


def _floating(floating_id: str, address: object, words: object) -> FloatingAddress:
    port_id = None if words is None else _holder(str(words)).port_id
    return FloatingAddress(id=FloatingId(floating_id), address=str(address), port_id=port_id)


def _holder(words: str) -> Holder:
    port, _, instance = words.partition(" ")
    return Holder(port_id=PortId(port), instance_id=InstanceId(instance))


def _bound(floating: FloatingAddress, words: str) -> Exception:
    return Refused(f"floating: {floating.address} is bound to port {_holder(words).port_id}; release it first")


def _has_one(port_id: PortId, other: str) -> Exception:
    return Refused(f"port: {port_id} has floating address {other} already; release that one first")
