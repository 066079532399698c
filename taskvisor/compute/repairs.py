"""What mends a finding of the records, decided on one reading of them: values in, a `Repair` out.

Invariant: nothing is decided from what is not known, and every change bears as conditions all that the decision was made on: so
what has moved since the reading is left alone. What a host has is not judged here: the host looks for itself.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from taskvisor.compute.audit_held import things_left_of
from taskvisor.compute.audit_records import record_findings
from taskvisor.compute.repairs_addresses import ADDRESS_RULES
from taskvisor.compute.repairs_indexes import index_repair
from taskvisor.model.finding import AuditLimits, Code, Finding
from taskvisor.model.history import Cause
from taskvisor.model.ids import HostName, InstanceId, OperationId
from taskvisor.model.operation import Operation
from taskvisor.model.records import Claim, Fault, Instance
from taskvisor.model.repair import (
    NOT_REPAIRED,
    AskRemoval,
    ByHand,
    Condition,
    DropClaim,
    DropField,
    DropKey,
    FieldAbsent,
    FieldIs,
    FieldThere,
    FreeThings,
    HeldAlone,
    HoldThing,
    HostRepair,
    KeyAbsent,
    PutClaim,
    PutField,
    PutInstance,
    RecordRepair,
    Repair,
    RepairSpec,
    SendOn,
    SumClaims,
    Unchanged,
)
from taskvisor.model.states import Phase, TaskState, VmState
from taskvisor.model.survey import Records
from taskvisor.model.volume import hold_mode_of, volume_identity_for

ON_HOST = frozenset(
    {
        Code.DOMAIN_MISSING,
        Code.POWER_DIFFERS,
        Code.LINK_WITHOUT_RECORD,
        Code.LINK_MISSING,
        Code.LINK_NOT_OPEN,
        Code.FILTER_MISSING,
        Code.DHCP_MISSING,
        Code.METADATA_MISSING,
        Code.GUEST_DRIFTED,
        Code.CONNECTION_WITHOUT_RECORD,
        Code.CONNECTION_MISSING,
    }
)
"""What is for the host to mend that it was found on."""
GOING = frozenset({TaskState.DELETING, TaskState.SOFT_DELETING})


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What a repair is decided on. `claim_of`: what an instance has of its host."""

    records: Records
    now: float
    limits: AuditLimits
    claim_of: Callable[[Instance], Claim]
    request_id: OperationId


def repair_for(asked: RepairSpec, situation: Situation) -> Repair | None:
    """What mends the finding; None when the records have nothing of the kind against themselves (any more).

    Of what is found on a host, whether it is so still is not asked here.
    """
    if asked.code in NOT_REPAIRED:
        return ByHand(why=NOT_REPAIRED[asked.code])
    if asked.code in ON_HOST:
        return _on_host(asked, situation.records)
    found = _finding_in(asked, situation)
    return None if found is None else _RULES[asked.code](found, situation)


def at_rest(instance: Instance) -> tuple[Condition, ...]:
    """Its record is as it was read, and no operation holds it."""
    return (
        Unchanged(key=f"instance:{instance.id}", record=instance),
        FieldAbsent(key=f"lease:{instance.id}", field="op"),
    )


def unrecorded(instance_id: InstanceId) -> tuple[Condition, ...]:
    """There is no record of it, and no operation holds it."""
    return (KeyAbsent(key=f"instance:{instance_id}"), FieldAbsent(key=f"lease:{instance_id}", field="op"))


def _on_host(asked: RepairSpec, records: Records) -> Repair:
    host = HostName(asked.host or "")
    if host not in records.hosts:
        return ByHand(why=f"{asked.code.value} is found on a host: say on which; see `taskvisor verify`")
    if records.is_silent(host):
        return ByHand(why=f"host {host} is not heard of, so it can't be asked; nothing is concluded from that")
    return HostRepair(host=host)


def _finding_in(asked: RepairSpec, situation: Situation) -> Finding | None:
    found = record_findings(situation.records, situation.now, situation.limits)
    named = (one for one in found if (one.code, one.subject) == (asked.code, asked.subject))
    return next((one for one in named if asked.host is None or one.host == asked.host), None)


def _held(instance_id: InstanceId, records: Records) -> ByHand | None:
    lease = records.leases.get(instance_id)
    if lease is None:
        return None
    return ByHand(why=f"operation {lease.operation_id} holds instance {instance_id}: ask again when that has ended")


def _claim_left(finding: Finding, situation: Situation) -> Repair:
    host, instance_id = finding.host, InstanceId(finding.subject.partition(" ")[0])
    assert host is not None  # noqa: S101 - a claim is of some host
    instance = situation.records.instances.get(instance_id)
    conditions = unrecorded(instance_id) if instance is None else at_rest(instance)
    if finding.subject != instance_id:
        return _held(instance_id, situation.records) or _things_left(host, instance_id, conditions, situation.records)
    return _held(instance_id, situation.records) or RecordRepair(
        done=f"the claim of {instance_id} on {host} was given back",
        conditions=(*conditions, FieldThere(key=f"claims:{host}", field=instance_id)),
        changes=(DropClaim(host=host, instance_id=instance_id),),
    )


def _things_left(
    host: HostName, instance_id: InstanceId, conditions: tuple[Condition, ...], records: Records
) -> Repair:
    left = things_left_of(host, records)[instance_id]
    held = (FieldIs(key=f"held:{host}", field=thing, value=instance_id) for thing in left)
    return RecordRepair(
        done=f"{', '.join(left)} of {host} is nobody's",
        conditions=(*conditions, *held),
        changes=(FreeThings(host=host, things=left),),
    )


def _thing_missing(finding: Finding, situation: Situation) -> Repair:
    instance_id, _, thing = finding.subject.partition(" ")
    instance = situation.records.instances[InstanceId(instance_id)]
    owner = situation.records.hosts[instance.host].held.get(thing)
    if owner is not None:
        return ByHand(why=f"{thing} is noted as instance {owner}'s: two guests may share what each should have alone")
    return _held(instance.id, situation.records) or RecordRepair(
        done=f"{thing} of {instance.host} is held for {instance.name}",
        conditions=(*at_rest(instance), FieldAbsent(key=f"held:{instance.host}", field=thing)),
        changes=(HoldThing(host=instance.host, thing=thing, instance_id=instance.id),),
    )


def _claim_missing(finding: Finding, situation: Situation) -> Repair:
    instance = situation.records.instances[InstanceId(finding.subject)]
    claims = f"claims:{instance.host}"
    return _held(instance.id, situation.records) or RecordRepair(
        done=f"what {instance.name} has of {instance.host} is claimed",
        conditions=(*at_rest(instance), FieldAbsent(key=claims, field=instance.id)),
        changes=(PutClaim(claim=situation.claim_of(instance)),),
    )


def _sum_wrong(finding: Finding, situation: Situation) -> Repair:  # noqa: ARG001 - as every rule
    host = HostName(finding.subject)
    return RecordRepair(
        done=f"what is used of {host} is the sum of its claims", conditions=(), changes=(SumClaims(host=host),)
    )


def _name_left(finding: Finding, situation: Situation) -> Repair:
    name, records = finding.subject, situation.records
    owner = records.names[name]
    instance = records.instances.get(owner)
    conditions = unrecorded(owner) if instance is None else (Unchanged(key=f"instance:{owner}", record=instance),)
    return RecordRepair(
        done=f"the name {name!r} is free",
        conditions=(FieldIs(key="names", field=name, value=owner), *conditions),
        changes=(DropField(key="names", field=name),),
    )


def _name_missing(finding: Finding, situation: Situation) -> Repair:
    records, instance = situation.records, situation.records.instances[InstanceId(finding.subject)]
    holder = records.names.get(instance.name)
    if holder is not None and (holder in records.instances or records.is_unreadable(holder)):
        return ByHand(why=f"instance {holder} has the name {instance.name!r}: delete one of the two by its id")
    conditions: tuple[Condition, ...] = (FieldAbsent(key="names", field=instance.name),)
    if holder is not None:
        conditions = (FieldIs(key="names", field=instance.name, value=holder), *unrecorded(holder))
    return RecordRepair(
        done=f"the name {instance.name!r} is that of {instance.id}",
        conditions=(Unchanged(key=f"instance:{instance.id}", record=instance), *conditions),
        changes=(PutField(key="names", field=instance.name, value=instance.id),),
    )


def _nobody_at_it(finding: Finding, situation: Situation) -> Repair:
    instance = situation.records.instances[InstanceId(finding.subject)]
    if instance.task_state in GOING:
        return ByHand(why=f"part of {instance.name} may be gone already: `taskvisor delete {instance.name}` ends it")
    state = instance.task_state or instance.vm_state
    rested = replace(instance, task_state=None)
    if instance.vm_state is VmState.BUILDING:
        fault = Fault(
            code="Abandoned",
            message="it was being built, and no operation was at it any more; delete it and build it anew",
            step="",
            operation_id=situation.request_id,
            at=situation.now,
        )
        rested = replace(rested, vm_state=VmState.ERROR, fault=fault)
    reason = f"it was said to be {state.value}, and no operation was at it"
    cause = Cause(by=situation.request_id, at=situation.now, reason=reason)
    return RecordRepair(
        done=f"{instance.name} is no more said to be {state.value}",
        conditions=at_rest(instance),
        changes=(PutInstance(instance=rested, cause=cause),),
    )


def _about(instance_id: InstanceId, records: Records) -> Iterator[Operation]:
    return (one for one in records.unsettled() if one.instance_id == instance_id)


def _lease_left(finding: Finding, situation: Situation) -> Repair:
    records = situation.records
    instance_id = InstanceId(finding.subject.partition(" ")[0])
    lease, key = records.leases[instance_id], f"lease:{instance_id}"
    waiting = next((one for one in _about(instance_id, records) if one.phase is Phase.WAITING), None)
    if waiting is not None:
        return ByHand(why=f"operation {waiting.id} waits for it to be handed over: `taskvisor ops cancel {waiting.id}`")
    holder = records.operations.get(lease.operation_id)
    moved = _operation_as_read(lease.operation_id, holder)
    return RecordRepair(
        done=f"instance {instance_id} is held by nobody",
        conditions=(
            FieldIs(key=key, field="op", value=lease.operation_id),
            FieldIs(key=key, field="token", value=str(lease.token)),
            moved,
        ),
        changes=(DropKey(key=key),),
    )


def _operation_as_read(operation_id: str, operation: Operation | None) -> Condition:
    key = f"op:{operation_id}"
    return KeyAbsent(key=key) if operation is None else FieldIs(key=key, field="rev", value=str(operation.revision))


def _lease_missing(finding: Finding, situation: Situation) -> Repair:
    """Whoever ends an operation, or lets one in, writes the instance's task: while it is there, nobody has ended since."""
    records, operation = situation.records, situation.records.operations[OperationId(finding.subject)]
    instance = records.instances.get(operation.instance_id)
    held = _held(operation.instance_id, records)
    if held is not None:
        return held
    others = [one.id for one in _about(operation.instance_id, records) if one.id != operation.id]
    resting = instance is None or (instance.task_state is None and instance.vm_state is not VmState.BUILDING)
    if instance is None or resting or others:
        why = f"another may have changed {operation.instance_name} since: `taskvisor ops cancel {operation.id}`"
        return ByHand(why=why)
    key = f"lease:{instance.id}"
    return RecordRepair(
        done=f"operation {operation.id} holds {instance.name} again; the sweep sends it on",
        conditions=(*at_rest(instance), _operation_as_read(operation.id, operation)),
        changes=(
            PutField(key=key, field="op", value=operation.id),
            PutField(key=key, field="token", value=str(operation.token)),
        ),
    )


def _overdue(finding: Finding, situation: Situation) -> Repair:
    operation = situation.records.operations[OperationId(finding.subject)]
    if operation.phase is Phase.WAITING:
        return ByHand(why=f"nobody is to hand the instance over: `taskvisor ops cancel {operation.id}`, then ask anew")
    return SendOn(done=f"operation {operation.id} was sent on", operation=operation)


def _image_name_left(finding: Finding, situation: Situation) -> Repair:
    name, records = finding.subject, situation.records
    owner, image = records.image_names[name], records.images.get(name)
    kept = FieldIs(key="images", field=name, value=owner)
    if image is not None:
        return RecordRepair(
            done=f"the name {name!r} is that of image {image.id}",
            conditions=(kept, Unchanged(key=f"image:{name}", record=image)),
            changes=(PutField(key="images", field=name, value=image.id),),
        )
    maker = _operation_as_read(owner, records.operations.get(OperationId(owner)))
    return RecordRepair(
        done=f"the name {name!r} is free",
        conditions=(kept, KeyAbsent(key=f"image:{name}"), maker),
        changes=(DropField(key="images", field=name),),
    )


def _removal_overdue(finding: Finding, situation: Situation) -> Repair:
    image = next(one for one in situation.records.images.values() if one.id == finding.subject)
    return AskRemoval(done=f"host {image.host} was asked to remove the file of image {image.name!r}", image=image)


def _volume_unheld(finding: Finding, situation: Situation) -> Repair:
    identity, _, holder = finding.subject.rpartition(" ")
    instance = situation.records.instances[InstanceId(holder)]
    volume = next(one for one in instance.volumes if volume_identity_for(one.source, instance.host) == identity)
    mode = hold_mode_of(volume)
    return RecordRepair(
        done=f"{identity} is held for {instance.name}",
        conditions=(
            Unchanged(key=f"instance:{instance.id}", record=instance),
            HeldAlone(identity=identity, holder=instance.id, mode=mode),
        ),
        changes=(PutField(key=f"volume:{identity}", field=instance.id, value=mode),),
    )


Rule = Callable[[Finding, Situation], Repair]

_RULES: Mapping[Code, Rule] = {
    Code.CLAIM_WITHOUT_INSTANCE: _claim_left,
    Code.INSTANCE_WITHOUT_CLAIM: _claim_missing,
    Code.USED_DIFFERS: _sum_wrong,
    Code.THING_NOT_HELD: _thing_missing,
    Code.NAME_WITHOUT_INSTANCE: _name_left,
    Code.INSTANCE_WITHOUT_NAME: _name_missing,
    Code.INSTANCE_WITHOUT_OPERATION: _nobody_at_it,
    Code.LEASE_WITHOUT_OPERATION: _lease_left,
    Code.OPERATION_WITHOUT_LEASE: _lease_missing,
    Code.OPERATION_OVERDUE: _overdue,
    Code.IMAGE_NAME_WITHOUT_IMAGE: _image_name_left,
    Code.IMAGE_DELETION_OVERDUE: _removal_overdue,
    Code.VOLUME_NOT_HELD: _volume_unheld,
    Code.INDEX_DIFFERS: lambda finding, situation: index_repair(finding, situation.records),
    **{
        code: lambda finding, situation, rule=rule: rule(finding, situation.records)  # type: ignore[misc]
        for code, rule in ADDRESS_RULES.items()
    },
}

MENDED = frozenset(chain(ON_HOST, _RULES))
"""The codes that something is done about."""
