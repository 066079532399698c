"""Where requests come in: validated, resolved, placed, and let into the store whole or not at all. No host is touched.

Invariant: a request that is refused leaves nothing behind, and its id may be used again.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from tasks.flows import FLOWS
from tasks.interface_requests import ATTACH as ATTACH_INTERFACE
from tasks.interface_requests import DETACH as DETACH_INTERFACE
from tasks.interface_requests import allocate_for_request, with_ports
from tasks.placing import place
from tasks.resolving import allocate_ports, instance_for, release_ports, resolve
from tasks.soft_delete import RECLAIM, RESTORE, SOFT_DELETE
from tasks.store import Store
from tasks.volume_requests import ATTACH, DETACH, has_already, instance_with_request
from taskvisor.compute.placement import Placer
from taskvisor.flow import transitions
from taskvisor.flow.step import Flow
from taskvisor.model.allowed import DELETE, refusal_for
from taskvisor.model.change import Change, LeaseMove
from taskvisor.model.errors import Busy, Conflicting, IdInUse, Refused, StoreConflict
from taskvisor.model.ids import OPERATION_ID_RULE, OperationId, instance_id_for
from taskvisor.model.interface_spec import AttachInterfaceSpec, DetachInterfaceSpec
from taskvisor.model.network import Port
from taskvisor.model.operation import Facts, Operation
from taskvisor.model.placement import Explanation
from taskvisor.model.records import Claim, Instance
from taskvisor.model.spec import (
    AttachVolumeSpec,
    BuildSpec,
    DetachVolumeSpec,
    InstanceSpec,
    RebootSpec,
    SnapshotSpec,
    StopSpec,
    TurnSpec,
    parse_spec,
    request_as_now,
    request_of,
)
from taskvisor.model.states import Phase, SeedKind, VmState
from taskvisor.model.view import instance_view
from taskvisor.state.admission import Holding, Lease

T = TypeVar("T")

LOOKS_LIMIT = 10
"""A request looks again so often when the records move under it."""
BUILD = "instance.build"

CHANGES: dict[str, type[InstanceSpec]] = {
    DELETE: InstanceSpec,
    "instance.start": TurnSpec,
    "instance.stop": StopSpec,
    "instance.reboot": RebootSpec,
    "instance.snapshot": SnapshotSpec,
    ATTACH: AttachVolumeSpec,
    DETACH: DetachVolumeSpec,
    ATTACH_INTERFACE: AttachInterfaceSpec,
    DETACH_INTERFACE: DetachInterfaceSpec,
    SOFT_DELETE: TurnSpec,
    RESTORE: TurnSpec,
    RECLAIM: InstanceSpec,
}
"""What can be asked of an instance that is there, and what the request is made of."""

ALREADY: dict[str, VmState] = {
    "instance.start": VmState.ACTIVE,
    "instance.stop": VmState.STOPPED,
    SOFT_DELETE: VmState.SOFT_DELETED,
    RESTORE: VmState.ACTIVE,
}
"""Asked in this state, there is nothing to do."""


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """The operation is in the store, from now or from before: send it on from where its journal says it is.

    `stopping` holds the instance and was told to make room: send it on too, for nobody may be about to. `come` are ports that
    the instance has from now on.
    """

    operation: Operation
    stopping: Operation | None = None
    come: tuple[Port, ...] = field(default=(), compare=False)  # news, and no part of what was admitted


@dataclass(frozen=True, kw_only=True)
class Already:
    """Nothing to do: this is the answer."""

    result: Facts


Answer = Admitted | Already


@dataclass(frozen=True, kw_only=True)
class Door:
    """Lets requests into one store."""

    store: Store
    now: Callable[[], float]
    config_drive: SeedKind = SeedKind.NOCLOUD
    """Of guests for which neither request nor image says."""
    placer: Placer = field(default_factory=Placer, compare=False)

    def build(self, operation_id: OperationId, fields: dict[str, Any]) -> Answer:
        """A new instance. The same id again is the same operation; with another request it is Refused, unless it failed.

        Refused names field, value and rule; NoCapacity names every host's reasons. Busy when another request of the
        same id is being refused at this moment: look again.
        """
        spec = parse_spec(BuildSpec, fields)
        request = request_of(spec)

        def look() -> Answer:
            known = self._known(operation_id, BUILD, request)
            if known is not None and not _may_begin_again(known, request):
                return Admitted(operation=known)
            return self._admit_build(spec, request, operation_id, known)

        return self._looking_again(operation_id, look)

    def change(self, flow_name: str, operation_id: OperationId, fields: dict[str, Any]) -> Answer:
        """An operation on an instance that is there. Conflicting when another holds it and this one may not pre-empt: who
        wants to wait for its turn asks again.

        Busy when the instance is being deleted and a delete is asked: look again when that one has ended.
        """
        flow, spec = FLOWS[flow_name], parse_spec(CHANGES[flow_name], fields)
        request = request_of(spec)

        def look() -> Answer:
            known = self._known(operation_id, flow_name, request)
            if known is not None and not _may_begin_again(known, request):
                return Admitted(operation=known)
            seen = self.store.admission.read_holding(self.store.catalog.find_instance_id(spec.instance))
            if seen is None:
                return _absent(flow, spec.instance, known)
            return self._admit_change(flow, seen, request, operation_id, known)

        return self._looking_again(operation_id, look)

    def cancel(self, prefix: str, reason: str | None = None) -> Operation:
        """The wish to stop is noted; the operation turns round at its next step boundary. An ended one stays as it is.

        `reason` is what it then says, when it was not its caller's wish.
        """

        def look() -> Operation:
            operation = self.store.catalog.find_operation(prefix)
            if operation.phase.settled or operation.cancel_requested:
                return operation
            if FLOWS[operation.flow].preempts:
                raise Refused(
                    f"operation {operation.id} deletes {operation.instance_name}; a delete cannot be cancelled"
                )
            wished = transitions.wished_away(operation, self.now(), reason)
            self.store.journal.commit(Change(before=operation, after=wished, lease=LeaseMove.WATCH))
            return wished

        return self._looking_again(prefix, look)

    def retry(self, prefix: str) -> Operation:
        """A STUCK operation goes on where it stopped, and so does a failed one that kept what it had done; one that was
        rolled back begins again, with its old request.
        """

        def look() -> Operation:
            operation = self.store.catalog.find_operation(prefix)
            if operation.phase is Phase.STUCK:
                going = transitions.resumed(operation, self.now())
                self.store.journal.commit(Change(before=operation, after=going))
                return going
            if operation.kept:
                return self._go_on(operation)
            if operation.phase not in (Phase.FAILED, Phase.CANCELLED):
                raise Refused(
                    f"operation {operation.id} is {operation.phase.value}; only one that failed can be retried"
                )
            return self._begin_again(operation)

        return self._looking_again(prefix, look)

    def _looking_again(self, what: str, look: Callable[[], T]) -> T:
        for _ in range(LOOKS_LIMIT):
            try:
                return look()
            except StoreConflict:
                continue
        raise Conflicting(f"operation {what}: the records moved {LOOKS_LIMIT} times while it was looked at; ask again")

    def _go_on(self, kept: Operation) -> Operation:
        """The failed operation takes its instance again, where it is and as it left it."""
        seen = self.store.admission.read_holding(kept.instance_id)
        if seen is None:
            raise Refused(f"operation {kept.id}: instance {kept.instance_name} is gone; there is nothing to retry")
        instance = seen.instance
        if seen.lease is not None:
            holder = self.store.catalog.read_operation(seen.lease.operation_id)
            raise Conflicting(_held_by(instance, seen.lease, holder))
        if instance.vm_state is not VmState.ERROR:
            raise Refused(
                f"instance {instance.name} is {instance.vm_state.value}, not {VmState.ERROR.value} as operation {kept.id}"
                " left it; there is nothing to retry"
            )
        flow, going = FLOWS[kept.flow], transitions.resumed(kept, self.now())
        step = flow.step(going.current_step) if going.current_step else flow.steps[-1]
        again = flow.regained(instance)
        shown = transitions.with_task_state(again, step, going) or again
        self.store.admission.admit_change(going, shown, seen)
        return going

    def _begin_again(self, operation: Operation) -> Operation:
        if operation.flow == BUILD:
            spec = parse_spec(BuildSpec, dict(operation.request))
            return self._admit_build(spec, operation.request, operation.id, operation).operation
        seen = self.store.admission.read_holding(operation.instance_id)
        if seen is None:
            raise Refused(
                f"operation {operation.id}: instance {operation.instance_name} is gone; there is nothing to retry"
            )
        answer = self._admit_change(FLOWS[operation.flow], seen, operation.request, operation.id, operation)
        return answer.operation if isinstance(answer, Admitted) else operation

    def _known(self, operation_id: OperationId, flow: str, request: Facts) -> Operation | None:
        if not OPERATION_ID_RULE.fullmatch(operation_id):
            raise Refused(f"task id: {operation_id!r}: must be 1 to 128 letters, digits or ._:- (a UUID will do)")
        known = self.store.catalog.read_operation(operation_id)
        if known is None or (known.flow == flow and (_asked(known) == request or _may_begin_again(known, request))):
            return known
        raise IdInUse(f"task id: {operation_id} is that of another request ({known.flow} of {known.instance_name})")

    def _admit_build(
        self, spec: BuildSpec, request: Facts, operation_id: OperationId, former: Operation | None
    ) -> Admitted:
        resolved, instance_id = resolve(self.store, spec, self.config_drive), instance_id_for(operation_id)
        ports: tuple[Port, ...] = ()

        def claiming(claim: Claim, why: Explanation) -> Operation:
            now = self.now()
            instance = replace(instance_for(resolved, instance_id, claim.host, ports, now), place=claim.place)
            operation = transitions.accepted(FLOWS[BUILD], operation_id, instance, request, now, former)
            operation = replace(operation, placement=why.rows, choice=why.choice)
            self.store.admission.admit_build(operation, instance, claim)
            return operation

        try:
            ports = allocate_ports(self.store, spec, instance_id, self.now(), resolved.networks)
            operation = place(
                self.store,
                self.placer,
                resolved.ask,
                instance_id,
                claiming,
                group=resolved.server_group,
                tell_none=lambda why: self.store.explanations.note(operation_id, why),
            )
            return Admitted(operation=operation, come=ports)
        except StoreConflict:
            release_ports(self.store, ports)  # but for those that came in with a twin of this request
            raise
        except Exception as refusal:
            release_ports(self.store, ports)
            self._require_unmoved(operation_id, former, refusal)
            raise

    def _require_unmoved(self, operation_id: OperationId, former: Operation | None, refusal: Exception) -> None:
        """StoreConflict when a twin of this request was let in meanwhile: its room is what this one found taken."""
        known = self.store.catalog.read_operation(operation_id)
        if known is not None and (former is None or known.revision != former.revision):
            raise StoreConflict(f"operation {operation_id} was let in while it was refused") from refusal

    def _admit_change(
        self, flow: Flow, seen: Holding, request: Facts, operation_id: OperationId, former: Operation | None
    ) -> Answer:
        instance = seen.instance
        if seen.lease is not None:
            return self._admit_over(flow, seen, seen.lease, request, operation_id, former)
        if instance.vm_state is ALREADY.get(flow.name):
            return _already({**instance_view(instance), "already": True}, former)
        if has_already(flow.name, instance, request):
            return _already({**instance_view(instance), "already": True}, former)
        refusal = refusal_for(flow.name, instance)
        if refusal is not None:
            raise Refused(refusal)
        now = self.now()
        operation = transitions.accepted(flow, operation_id, instance, request, now, former)
        come = allocate_for_request(self.store, flow.name, instance, request, operation_id, now)
        asked = with_ports(instance_with_request(flow.name, instance, request), come)
        shown = transitions.with_task_state(asked, flow.steps[0], operation) or asked
        image_name = str(request["image"]) if "image" in request else None
        try:
            self.store.admission.admit_change(operation, shown, seen, image_name)
        except Exception:
            release_ports(self.store, come)  # but for those that came in with a twin of this request
            raise
        return Admitted(operation=operation, come=come)

    def _admit_over(
        self,
        flow: Flow,
        seen: Holding,
        held: Lease,
        request: Facts,
        operation_id: OperationId,
        former: Operation | None,
    ) -> Answer:
        """Another operation holds the instance: stop it if this one may, else say who it is."""
        if held.operation_id == operation_id:
            raise StoreConflict(f"operation {operation_id} was let in meanwhile by a twin of this request")
        instance, holder = seen.instance, self.store.catalog.read_operation(held.operation_id)
        if not flow.preempts:
            raise Conflicting(_held_by(instance, held, holder))
        if holder is not None and holder.flow == flow.name and not holder.phase.settled:
            raise Busy(_held_by(instance, held, holder), delay_s=0.5)
        if holder is not None and holder.preempted_by is not None:
            raise Busy(f"instance {instance.name}: operation {holder.preempted_by} waits to delete it", delay_s=0.5)
        now = self.now()
        operation = transitions.accepted(flow, operation_id, instance, request, now, former)
        if holder is None or _may_end_here(holder):
            operation = replace(operation, token=held.token + 1)
            ended = None if holder is None else transitions.yielded(replace(holder, preempted_by=operation_id), now)
            shown = transitions.with_task_state(instance, flow.steps[0], operation) or instance
            self.store.admission.admit_over(operation, shown, seen, ended)
            return Admitted(operation=operation)
        operation = replace(operation, phase=Phase.WAITING)
        going = transitions.taken_back(holder, FLOWS[holder.flow], now) if holder.phase is Phase.STUCK else holder
        noted = transitions.preempted(replace(going, revision=holder.revision), operation_id, now)
        self.store.admission.admit_waiting(operation, seen, noted)
        return Admitted(operation=operation, stopping=noted if noted.runner is None else None)


def _may_begin_again(known: Operation, request: Facts) -> bool:
    """An id whose operation failed and left nothing may be used for another request. For the same one it is a late double."""
    return known.phase in (Phase.FAILED, Phase.CANCELLED) and not known.kept and _asked(known) != request


def _asked(known: Operation) -> Facts:
    return request_as_now(BuildSpec if known.flow == BUILD else CHANGES[known.flow], known.request)


def _may_end_here(holder: Operation) -> bool:
    """No step of it runs, and all that it has made will go with the instance."""
    return holder.runner is None and FLOWS[holder.flow].yields


def _already(result: Facts, former: Operation | None) -> Already:
    """IdInUse when the id is a failed operation's: its caller would be told a success, its record a failure."""
    if former is not None:
        raise IdInUse(f"task id: {former.id} is that of an operation that failed; choose another")
    return Already(result=result)


def _absent(flow: Flow, name: str, former: Operation | None) -> Already:
    if flow.name != DELETE:
        raise Refused(f"instance: {name!r}: there is no instance of that name or id; see `taskvisor list`")
    return _already({"id": name, "name": name, "vm_state": VmState.DELETED.value, "already": True}, former)


def _held_by(instance: Instance, held: Lease, holder: Operation | None) -> str:
    if holder is None:
        return f"instance {instance.name} is held by operation {held.operation_id}, of which no record is left"
    at = f"at step {holder.current_step}" if holder.current_step else "ending"
    return (
        f"instance {instance.name} is held by operation {holder.id} ({holder.flow}, {holder.phase.value}, {at});"
        " wait for it, or cancel it"
    )
