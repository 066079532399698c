"""What a change of one record means in keys: pieces that are added to a transaction.

Invariant: nothing here is carried out; `Transaction.run` is.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from taskvisor.model.blame import Credit, credit_for
from taskvisor.model.change import Change
from taskvisor.model.errors import DoesNotFit, Refused, StoreConflict
from taskvisor.model.event import EventKind
from taskvisor.model.history import Cause
from taskvisor.model.ids import HostName, InstanceId, OperationId
from taskvisor.model.network import Port
from taskvisor.model.operation import Operation
from taskvisor.model.records import Claim, Image, Instance
from taskvisor.model.states import Phase
from taskvisor.model.volume import SHARED, hold_mode_of, volume_identity_for
from taskvisor.state.addresses import allocating_member, free_port
from taskvisor.state.codec import encode
from taskvisor.state.counters import fields_for_end
from taskvisor.state.histograms import Amounts, amounts_for_end
from taskvisor.state.history import record_move
from taskvisor.state.host_words import require_in_service
from taskvisor.state.keys import HOSTS, Keys
from taskvisor.state.members import forget_ports, place_ports
from taskvisor.state.moved import note_moved
from taskvisor.state.server_groups import join_server_group
from taskvisor.state.transaction import Transaction


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an operation's caller sees of it, as the result back end stores and publishes it."""

    key: str
    payload: str
    keep_s: int


BUILD_FAILURES_LIMIT = 10
"""A host on which so many builds failed one after the other is disabled: Nova's consecutive_build_service_disable_threshold."""

OutcomeFor = Callable[[Operation, Instance | None], Outcome | None]
"""Given by the edge: only it knows how its result back end writes. None: the caller sees nothing new."""


@dataclass(frozen=True, kw_only=True)
class Writer:
    """The pieces, for one prefix and one set of limits."""

    keys: Keys
    operation_keep_s: int
    events_kept: int
    outcome_for: OutcomeFor
    build_failures_limit: int = BUILD_FAILURES_LIMIT

    def operation(self, tx: Transaction, operation: Operation, instance: Instance | None) -> None:
        """The record, its indexes, its event, and what its caller sees. The first of a transaction makes it idempotent.

        Every write moves the revision, so no two writes have the same document, and a repeated one is known by it.
        """
        keys, key, doc = self.keys, self.keys.operation(operation.id), encode(operation)
        commit_id = hashlib.blake2b(doc.encode(), digest_size=16).hexdigest()  # the same when it is written again
        if tx.once is None:
            tx.only_once(key, commit_id)
        tx.do("HSET", key, "rev", operation.revision, "commit", commit_id, "phase", operation.phase.value, "doc", doc)
        tx.do("ZADD", keys.operations, operation.created_at, operation.id)
        if operation.phase.settled:
            tx.do("ZREM", keys.unsettled, operation.id)
            tx.do("SREM", keys.operations_on(operation.host), operation.id)
        else:
            tx.do("ZADD", keys.unsettled, operation.updated_at, operation.id)
            tx.do("SADD", keys.operations_on(operation.host), operation.id)
        tx.do("SADD" if operation.phase is Phase.STUCK else "SREM", keys.stuck, operation.id)
        if operation.phase.settled and operation.phase is not Phase.STUCK:
            tx.do("EXPIRE", key, self.operation_keep_s)
        else:
            tx.do("PERSIST", key)
        self._event(tx, operation)
        self.count(tx, fields_for_end(operation))
        self.add(tx, amounts_for_end(operation))
        outcome = self.outcome_for(operation, instance)
        if outcome is not None:
            self.outcome(tx, outcome)

    def outcome(self, tx: Transaction, outcome: Outcome) -> None:
        """The caller sees it, and whoever listens for it is told."""
        tx.do("SETEX", outcome.key, outcome.keep_s, outcome.payload)
        tx.do("PUBLISH", outcome.key, outcome.payload)

    def count(self, tx: Transaction, fields: Iterable[str]) -> None:
        """Each of the counters' fields is one more."""
        self.add(tx, tuple((field, 1) for field in fields))

    def add(self, tx: Transaction, amounts: Amounts) -> None:
        """Each of the fields beside them is so much more."""
        for field, amount in amounts:
            tx.do("count", self.keys.counters, field, amount)

    def _event(self, tx: Transaction, operation: Operation) -> None:
        last = operation.timeline[-1] if operation.timeline and operation.runner is None else None
        step = operation.current_step
        fields = {
            "kind": EventKind.OPERATION.value,
            "op": operation.id,
            "flow": operation.flow,
            "instance": operation.instance_id,
            "name": operation.instance_name,
            "host": operation.host,
            "phase": operation.phase.value,
            "step": step or "",
            "number": str(operation.number_of(step) if step else len(operation.steps)),
            "of": str(len(operation.steps)),
            "tried": "" if last is None else last.step,
            "outcome": "" if last is None else last.outcome,
            "at": f"{operation.updated_at:.3f}",
        }
        self._append_event(tx, fields)

    def event_of_host(
        self, tx: Transaction, instance: Instance, *, task: str, phase: str, outcome: str, at: float
    ) -> None:
        """What its host did for an instance at rest, by no operation: the stream says `task` for its flow."""
        fields = {
            "kind": EventKind.INSTANCE.value,
            "op": "",
            "flow": task,
            "instance": instance.id,
            "name": instance.name,
            "host": instance.host,
            "phase": phase,
            "step": "",
            "outcome": outcome,
            "at": f"{at:.3f}",
        }
        self._append_event(tx, fields)

    def event_of_node(self, tx: Transaction, host: HostName, *, task: str, phase: str, outcome: str, at: float) -> None:
        """What was noticed of a host, about no instance: the stream says `task` for its flow."""
        about = {"op": "", "flow": task, "instance": "", "name": "", "host": host, "phase": phase, "step": ""}
        about["kind"] = EventKind.HOST.value
        self._append_event(tx, {**about, "outcome": outcome, "at": f"{at:.3f}"})

    def _append_event(self, tx: Transaction, fields: Mapping[str, str]) -> None:
        flat = [part for pair in fields.items() for part in pair]
        tx.do("XADD", self.keys.events, "MAXLEN", "~", self.events_kept, "*", *flat)

    def instance(self, tx: Transaction, instance: Instance, cause: Cause) -> None:
        """The instance's record, where its ports are found, and what moved it to these states, if it was in others."""
        self.resting_instance(tx, instance)
        record_move(tx, self.keys, instance, cause)

    def resting_instance(self, tx: Transaction, instance: Instance) -> None:
        """The same, of an instance whose states are those that it had."""
        tx.do("SET", self.keys.instance(instance.id), encode(instance))
        place_ports(tx, self.keys, instance)

    def new_instance(self, tx: Transaction, instance: Instance, cause: Cause) -> None:
        """The record of an instance that was not there, its name and its indexes."""
        self.instance(tx, instance, cause)
        tx.do("SADD", self.keys.instances, instance.id)
        tx.do("SADD", self.keys.instances_on(instance.host), instance.id)
        tx.do("HSET", self.keys.names, instance.name, instance.id)

    def forget_instance(self, tx: Transaction, instance: Instance) -> None:
        """Record and history are gone; name, claim, ports and their addresses are given back, each if it is still its own."""
        keys = self.keys
        tx.do("DEL", keys.instance(instance.id), keys.history(instance.id))
        tx.do("SREM", keys.instances, instance.id)
        tx.do("SREM", keys.instances_on(instance.host), instance.id)
        tx.do("disown", keys.names, instance.name, instance.id)
        self.unclaim(tx, instance.host, instance.id)
        if instance.server_group is not None:
            tx.do("HDEL", keys.servers(instance.server_group), instance.id)
        forget_ports(tx, keys, instance.id)
        self.release_ports(tx, instance.ports)
        self.release_volumes(tx, instance.id, identities_of(instance))

    def claim(self, tx: Transaction, claim: Claim) -> None:
        """The claim is made if the host has room for all of it, and nobody has any of its things; else DoesNotFit. So is the
        instance's place in its server group, if the policy holds with it there. A host that was disabled or forced
        down since it was looked at is DoesNotFit, too.
        """
        require_in_service(tx, self.keys, claim.host)
        join_server_group(tx, self.keys, claim)
        used, held = self.keys.used(claim.host), self.keys.held(claim.host)
        limits = dict(claim.limits.amounts())
        for name, amount in claim.resources.amounts():
            limit = limits.get(name, 0)
            tx.require_room(used, name, amount, limit, _no_room(claim, name, amount, limit))
        for thing in claim.things:
            tx.require_absent(held, thing, _thing_taken(claim, thing))
        self._note_claim(tx, claim)

    def claim_what_runs(self, tx: Transaction, claim: Claim) -> None:
        """The claim of an instance that is on its host already: whether there is room is no question any more.

        StoreConflict when another has one of its things.
        """
        for thing in claim.things:
            tx.require_vacant(self.keys.held(claim.host), thing, claim.instance_id, StoreConflict)
        self._note_claim(tx, claim)

    def _note_claim(self, tx: Transaction, claim: Claim) -> None:
        used, held = self.keys.used(claim.host), self.keys.held(claim.host)
        for name, amount in claim.resources.amounts():
            tx.do("HINCRBY", used, name, amount)
        for thing in claim.things:
            tx.do("HSET", held, thing, claim.instance_id)
        tx.do("HSET", self.keys.claims(claim.host), claim.instance_id, encode(dict(claim.resources.amounts())))
        note_moved(tx, self.keys, claim.host)

    def move_claim(self, tx: Transaction, former_host: HostName, claim: Claim) -> None:
        """The claim of an instance at rest moves from its former host to another, in one go."""
        keys = self.keys
        self.claim(tx, claim)
        self.unclaim(tx, former_host, claim.instance_id)
        tx.do("SMOVE", keys.instances_on(former_host), keys.instances_on(claim.host), claim.instance_id)

    def unclaim(self, tx: Transaction, host: HostName, instance_id: InstanceId) -> None:
        """What the instance has claimed of the host, and what it alone had there, is free again; if it has none, nothing is."""
        tx.do("unclaim", self.keys.claims(host), self.keys.used(host), instance_id)
        tx.do("release", self.keys.held(host), instance_id)
        note_moved(tx, self.keys, host)

    def credit(self, tx: Transaction, change: Change) -> None:
        """What the change says of the host on which a build has ended: one more that failed by its fault, or none any more."""
        credit, host = credit_for(change.before, change.after), change.before.host
        if credit is Credit.BLAME:
            limit = self.build_failures_limit
            reason = f"{limit} builds failed here one after the other, the last at {_where(change.after)}"
            tx.do("blame", self.keys.host(host), limit, reason)
            note_moved(tx, self.keys, host)
        elif credit is Credit.PRAISE:
            tx.do("praise", self.keys.host(host), self.keys.hosts_moved, self.keys.revisions, HOSTS, host)

    def hold_volumes(self, tx: Transaction, instance: Instance, former: Instance | None = None) -> None:
        """The instance holds each of its volumes that it had not formerly. Refused, with the holder's id, when another
        holds one and not both share it.
        """
        for volume in instance.volumes:
            if former is not None and volume in former.volumes:
                continue
            key = self.keys.volume(volume_identity_for(volume.source, instance.host))
            mode = hold_mode_of(volume)
            tx.require_sharing(key, instance.id, mode, _volume_held(volume.source, mode))
            tx.do("HSET", key, instance.id, mode)

    def release_volumes(self, tx: Transaction, instance_id: InstanceId, identities: Iterable[str]) -> None:
        """The instance holds them no more."""
        for identity in identities:
            tx.do("HDEL", self.keys.volume(identity), instance_id)

    def keep_ports(self, tx: Transaction, instance: Instance, former: Instance | None = None) -> None:
        """The ports that the instance had not formerly are its own, and no request's any more. StoreConflict when one was given
        back meanwhile.
        """
        known = set() if former is None else {port.id for port in former.ports}
        for port in instance.ports:
            if port.id not in known:
                tx.require(self.keys.ports(port.network_id), port.id, port.address, StoreConflict)
                tx.do("ZREM", self.keys.allocating, allocating_member(port.network_id, port.id, port.mac))

    def release_ports(self, tx: Transaction, ports: Iterable[Port]) -> None:
        """Their addresses and MACs are given back, each only if it is still its own."""
        for port in ports:
            free_port(tx, self.keys, port.network_id, port.id, port.mac)

    def reserve_image_name(self, tx: Transaction, name: str, operation: Operation) -> None:
        """The name is the operation's until it registers the image or releases the name. Refused when it is taken."""

        def taken(owner: str) -> Exception:
            return Refused(f"image: {name!r} is the name of image {owner}; choose another, or remove that one first")

        tx.require_absent(self.keys.images, name, taken)
        tx.do("HSET", self.keys.images, name, operation.id)

    def release_image_name(self, tx: Transaction, name: str, operation_id: OperationId) -> None:
        tx.do("disown", self.keys.images, name, operation_id)

    def image(self, tx: Transaction, image: Image) -> None:
        """The image is registered under its name."""
        tx.do("SET", self.keys.image(image.name), encode(image))
        tx.do("HSET", self.keys.images, image.name, image.id)

    def forget_image(self, tx: Transaction, image: Image) -> None:
        """The record is gone, and the name is free if it is still the image's."""
        tx.do("DEL", self.keys.image(image.name))
        tx.do("disown", self.keys.images, image.name, image.id)


def _where(operation: Operation) -> str:
    failure = operation.failure
    return "its end" if failure is None else f"{failure.step} ({failure.code})"


def identities_of(instance: Instance) -> tuple[str, ...]:
    """What its volumes are known by."""
    return tuple(volume_identity_for(volume.source, instance.host) for volume in instance.volumes)


def _volume_held(source: str, mode: str) -> Callable[[str], Exception]:
    def error(holder: str) -> Exception:
        advice = "all who hold it must say shareable" if mode == SHARED else "detach it there first"
        return Refused(f"volume: {source} is held by instance {holder}; {advice}")

    return error


def _thing_taken(claim: Claim, thing: str) -> Callable[[str], Exception]:
    def error(holder: str) -> Exception:
        return DoesNotFit(f"host {claim.host}: {thing} is instance {holder}'s")

    return error


def _no_room(claim: Claim, name: str, amount: int, limit: int) -> Callable[[str], Exception]:
    def error(used: str) -> Exception:
        return DoesNotFit(f"host {claim.host}: {name} {amount} asked, {limit - int(used)} of {limit} free")

    return error
