"""A repair of records, carried out: all of its changes and what its caller is told in one transaction, or nothing at all.

What is to be done, and why that is safe, is decided elsewhere (`compute/repairs.py`); here each condition becomes a guard.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

from taskvisor.model.errors import StoreConflict, UnreadableRecord
from taskvisor.model.repair import (
    AddMember,
    Change,
    Condition,
    DropClaim,
    DropField,
    DropKey,
    DropMember,
    FieldAbsent,
    FieldIs,
    FieldThere,
    ForgetPorts,
    FreePort,
    FreeThings,
    HeldAlone,
    HoldThing,
    KeyAbsent,
    NotedBefore,
    NotNoted,
    PlacePorts,
    PutClaim,
    PutField,
    PutInstance,
    RecordRepair,
    SumClaims,
    Unchanged,
)
from taskvisor.state.addresses import free_port
from taskvisor.state.codec import decode
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys
from taskvisor.state.members import forget_ports, place_ports
from taskvisor.state.moved import note_moved
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Outcome, Writer

if TYPE_CHECKING:
    import redis


class Repairs:
    """The one writer of repairs. StoreConflict means: look again and decide again."""

    def __init__(self, client: "redis.Redis", writer: Writer) -> None:
        self._client = client
        self._writer = writer
        self._keys: Keys = writer.keys

    def carry_out(self, repair: RecordRepair, *answers: Outcome) -> None:
        """Every change is made and its caller told. StoreConflict, and nothing is changed, when a condition does not hold."""
        tx = Transaction()
        for condition in repair.conditions:
            self._require(tx, condition)
        for change in repair.changes:
            self._change(tx, change)
        for answer in answers:
            self._writer.outcome(tx, answer)
        tx.run(self._client, f"write that {repair.done}")

    def _key(self, name: str) -> str:
        return f"{self._keys.prefix}{name}"

    def _require(self, tx: Transaction, condition: Condition) -> None:
        match condition:
            case FieldIs(key=key, field=field, value=value):
                tx.require(self._key(key), field, value, _moved(f"{key} {field}"))
            case FieldAbsent(key=key, field=field):
                tx.require_absent(self._key(key), field, _moved(f"{key} {field}"))
            case FieldThere(key=key, field=field):
                tx.require_present(self._key(key), field, _moved(f"{key} {field}"))
            case KeyAbsent(key=key):
                tx.require_gone(self._key(key), _moved(key))
            case NotedBefore(key=key, member=member, at_most=at_most):
                tx.require_scored(self._key(key), member, at_most, _moved(f"{key} {member}"))
            case NotNoted(key=key, member=member):
                tx.require_unscored(self._key(key), member, _moved(f"{key} {member}"))
            case HeldAlone(identity=identity, holder=holder, mode=mode):
                tx.require_sharing(self._keys.volume(identity), holder, mode, _moved(f"volume:{identity}"))
            case Unchanged():
                tx.require_same(self._key(condition.key), self._text_of(condition), _moved(condition.key))
            case _:
                assert_never(condition)

    def _text_of(self, as_read: Unchanged) -> str:
        """The record as it is stored, whoever wrote it. StoreConflict when it says something else by now."""
        with asking(f"read {as_read.key}"):
            text = self._client.get(self._key(as_read.key))
        try:
            same = text is not None and decode(str(text), type(as_read.record), as_read.key) == as_read.record
        except UnreadableRecord as error:
            raise StoreConflict(str(error)) from error
        if not same:
            raise StoreConflict(f"{as_read.key} has changed since it was read")
        return str(text)

    def _change(self, tx: Transaction, change: Change) -> None:
        match change:
            case PutField(key=key, field=field, value=value):
                tx.do("HSET", self._key(key), field, value)
            case DropField(key=key, field=field):
                tx.do("HDEL", self._key(key), field)
            case DropKey(key=key):
                tx.do("DEL", self._key(key))
            case AddMember(key=key, member=member, score=None):
                tx.do("SADD", self._key(key), member)
            case AddMember(key=key, member=member, score=score):
                tx.do("ZADD", self._key(key), score or 0.0, member)
            case DropMember(key=key, member=member, is_sorted=is_sorted):
                tx.do("ZREM" if is_sorted else "SREM", self._key(key), member)
            case PutInstance(instance=instance, cause=cause):
                self._writer.instance(tx, instance, cause)
            case PlacePorts(instance=instance):
                place_ports(tx, self._keys, instance)
            case ForgetPorts(instance_id=instance_id):
                forget_ports(tx, self._keys, instance_id)
            case FreePort(network_id=network_id, port_id=port_id, macs=macs):
                for mac in macs or ("",):
                    free_port(tx, self._keys, network_id, port_id, mac)
            case PutClaim() | DropClaim() | FreeThings() | HoldThing() | SumClaims():
                self._claim(tx, change)

    def _claim(self, tx: Transaction, change: PutClaim | DropClaim | FreeThings | HoldThing | SumClaims) -> None:
        keys = self._keys
        match change:
            case PutClaim(claim=claim):
                self._writer.claim_what_runs(tx, claim)
            case DropClaim(host=host, instance_id=instance_id):
                self._writer.unclaim(tx, host, instance_id)
            case FreeThings(host=host, things=things):
                tx.do("HDEL", keys.held(host), *things)
                note_moved(tx, keys, host)
            case HoldThing(host=host, thing=thing, instance_id=instance_id):
                tx.do("HSET", keys.held(host), thing, instance_id)
                note_moved(tx, keys, host)
            case SumClaims(host=host):
                tx.do("sum", keys.claims(host), keys.used(host))
                note_moved(tx, keys, host)


def _moved(what: str) -> Callable[[str], Exception]:
    """Which of them it was, for who is told; what is there now is for the next look."""
    return lambda _: StoreConflict(f"{what} is not as it was when this was decided")
