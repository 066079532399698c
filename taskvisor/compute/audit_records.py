"""Where the records disagree with themselves: hosts and their claims, instances, leases and operations, queues.

Each rule reads one value and yields findings; all of them are about one reading, so a caller keeps what two readings share.
What can't be read may be anything: no rule concludes from it that something is not there.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from taskvisor.compute.audit_addresses import address_findings
from taskvisor.compute.audit_held import held_findings
from taskvisor.compute.audit_indexes import index_findings
from taskvisor.compute.audit_members import member_findings
from taskvisor.compute.audit_volumes import volume_findings
from taskvisor.model.finding import AuditLimits, Code, Finding
from taskvisor.model.ids import HostName, InstanceId, OperationId
from taskvisor.model.operation import Operation
from taskvisor.model.queues import COMPUTE_QUEUE, host_of_queue, steps_queue
from taskvisor.model.records import Instance, Resources
from taskvisor.model.states import Phase, VmState
from taskvisor.model.survey import HostRecord, LeaseRecord, Records


def record_findings(records: Records, now: float, limits: AuditLimits) -> Iterator[Finding]:
    """All that one reading of the records has against itself."""
    for key, why in records.unreadable.items():
        yield _finding(Code.RECORD_UNREADABLE, key, why)
    for host in records.hosts:
        yield from _claims_of(host, records)
        yield from held_findings(host, records)
    for instance in records.instances.values():
        yield from _held_for(instance, records)
    yield from _names(records)
    for instance_id, lease in records.leases.items():
        yield from _lease(instance_id, lease, records)
    for operation in records.operations.values():
        yield from _operation(operation, records, now, limits)
    yield from _image_names(records)
    yield from _deletions(records, now, limits)
    yield from _queues(records)
    yield from address_findings(records, now, limits.forgotten_s + limits.overdue_s)
    yield from index_findings(records)
    yield from member_findings(records)
    yield from volume_findings(records)


def _finding(code: Code, subject: str, message: str, host: HostName | None = None) -> Finding:
    return Finding(code=code, subject=subject, host=host, message=message)


def _claims_of(name: HostName, records: Records) -> Iterator[Finding]:
    host = records.hosts[name]
    if records.is_unreadable(name):
        return
    for instance_id in host.claims:
        instance = records.instances.get(instance_id)
        if instance is None and not records.is_unreadable(instance_id):
            said = "a claim of an instance that there is no record of"
            yield _finding(Code.CLAIM_WITHOUT_INSTANCE, instance_id, said, name)
        elif instance is not None and instance.host != name:
            said = f"a claim of {instance.name}, which is recorded on {instance.host}"
            yield _finding(Code.CLAIM_WITHOUT_INSTANCE, instance_id, said, name)
    claimed = _sum_of(host.claims)
    if dict(_some_of(claimed)) != dict(_some_of(host.used)):
        said = f"{_amounts(host.used)} are noted as used, the claims come to {_amounts(claimed)}"
        yield _finding(Code.USED_DIFFERS, name, said, name)
    yield from _beyond(name, host, claimed)


def _beyond(name: HostName, host: HostRecord, claimed: Resources) -> Iterator[Finding]:
    if host.inventory is None:
        return
    if host.inventory.problems:
        return  # what may be claimed of it is not known: that is the finding
    limits = dict(host.inventory.limits.amounts())
    over = [
        f"{kind} {amount} of {limits.get(kind, 0)}"
        for kind, amount in claimed.amounts()
        if amount > limits.get(kind, 0)
    ]
    if over:
        yield _finding(Code.CLAIM_BEYOND_CAPACITY, name, f"claimed beyond what there is: {', '.join(over)}", name)


def _sum_of(claims: Mapping[InstanceId, Resources]) -> Resources:
    total: Counter[str] = Counter()
    for claim in claims.values():
        total.update(dict(claim.amounts()))
    return Resources.of_amounts(total)


def _some_of(resources: Resources) -> Iterator[tuple[str, int]]:
    """Without the kinds that there is nothing of: a kind that nobody claims any more stays noted as none."""
    return ((kind, amount) for kind, amount in resources.amounts() if amount)


def _amounts(resources: Resources) -> str:
    return ", ".join(f"{kind} {amount}" for kind, amount in resources.amounts())


def _held_for(instance: Instance, records: Records) -> Iterator[Finding]:
    host = records.hosts.get(instance.host)
    if (host is None or instance.id not in host.claims) and not records.is_unreadable(instance.host):
        said = f"{instance.name} has no claim on {instance.host}, where it is recorded"
        yield _finding(Code.INSTANCE_WITHOUT_CLAIM, instance.id, said, instance.host)
    if records.names.get(instance.name) != instance.id:
        owner = records.names.get(instance.name, "nobody")
        said = f"the name {instance.name!r} is {owner}'s"
        yield _finding(Code.INSTANCE_WITHOUT_NAME, instance.id, said, instance.host)
    under_way = instance.task_state is not None or instance.vm_state is VmState.BUILDING
    if under_way and not _is_held(instance.id, records):
        state = instance.task_state or instance.vm_state
        said = f"{instance.name} is said to be {state.value}, but no operation holds it"
        yield _finding(Code.INSTANCE_WITHOUT_OPERATION, instance.id, said, instance.host)


def _is_held(instance_id: InstanceId, records: Records) -> bool:
    """Somebody holds it, or thinks so; whether both agree is the operation's own finding."""
    about = any(operation.instance_id == instance_id for operation in records.unsettled())
    return about or instance_id in records.leases or records.any_unreadable("op:", "lease:")


def _names(records: Records) -> Iterator[Finding]:
    for name, instance_id in records.names.items():
        instance = records.instances.get(instance_id)
        if instance is None and not records.is_unreadable(instance_id):
            said = f"the name is that of instance {instance_id}, which there is no record of"
            yield _finding(Code.NAME_WITHOUT_INSTANCE, name, said)
        elif instance is not None and instance.name != name:
            said = f"the name is that of instance {instance_id}, whose own is {instance.name!r}"
            yield _finding(Code.NAME_WITHOUT_INSTANCE, name, said)


def _lease(instance_id: InstanceId, lease: LeaseRecord, records: Records) -> Iterator[Finding]:
    holder = records.operations.get(lease.operation_id)
    if holder is None and not records.is_unreadable(lease.operation_id):
        said = f"operation {lease.operation_id} holds the instance, and there is no record of it"
    elif holder is not None and holder.phase.settled and holder.phase is not Phase.STUCK:
        said = f"operation {lease.operation_id} holds the instance, and has {holder.phase.value}"
    elif holder is not None and holder.instance_id != instance_id:
        said = f"operation {lease.operation_id} holds it, and is about instance {holder.instance_id}"
    else:
        return
    instance = records.instances.get(instance_id)
    subject = f"{instance_id} {lease.operation_id}"  # of an instance that is always at work, each lease is another
    yield _finding(Code.LEASE_WITHOUT_OPERATION, subject, said, instance.host if instance else None)


def _operation(operation: Operation, records: Records, now: float, limits: AuditLimits) -> Iterator[Finding]:
    host = operation.host
    if operation.phase is Phase.STUCK:
        yield _finding(Code.OPERATION_STUCK, operation.id, _stuck_text(operation), host)
    if operation.phase.settled and operation.phase is not Phase.STUCK:
        return
    if operation.instance_id not in records.instances and not records.is_unreadable(operation.instance_id):
        said = f"its instance {operation.instance_name} ({operation.instance_id}) has no record"
        yield _finding(Code.OPERATION_WITHOUT_INSTANCE, operation.id, said, host)
    lease = records.leases.get(operation.instance_id)
    if operation.phase is not Phase.WAITING and (lease is None or lease.operation_id != operation.id):
        holder = lease.operation_id if lease else "nobody"
        said = f"it is {operation.phase.value}, but the lease of {operation.instance_name} is {holder}'s"
        yield _finding(Code.OPERATION_WITHOUT_LEASE, operation.id, said, host)
    late = _late_text(operation, records, now, limits)
    if late is not None:
        yield _finding(Code.OPERATION_OVERDUE, operation.id, late, host)


def _stuck_text(operation: Operation) -> str:
    left = ", ".join(operation.left_alone) or "nothing"
    failure = operation.failure
    why = f"{failure.code} at {failure.step}: {failure.message}" if failure else "for a reason that is not recorded"
    return f"{operation.flow} of {operation.instance_name} left alone: {left}; {why}"


def _late_text(operation: Operation, records: Records, now: float, limits: AuditLimits) -> str | None:
    """Why nobody seems to carry it on; None when somebody may. What a silent host does not do is the host's own finding."""
    host = records.hosts.get(operation.host)
    if operation.phase.settled or host is None or host.incarnation is None:
        return None
    if operation.phase is Phase.WAITING:
        return _waits_in_vain(operation, records)
    runner = operation.runner
    if runner is not None:
        until = operation.runner_until if runner.incarnation == host.incarnation else operation.updated_at
        if until is None or now - until <= limits.overdue_s:
            return None
        return f"process {runner.pid} began {operation.current_step}, and is dead or over its time"
    since = max(operation.updated_at, operation.not_before or 0.0)
    if operation.relaunches < limits.relaunches and now - since <= limits.overdue_s:
        return None
    if any(records.waiting_in(queue) for queue in (steps_queue(operation.host), COMPUTE_QUEUE)):
        return None  # it waits for a process, as others do
    return f"no step has begun for {now - since:.0f} s, and it was sent on {operation.relaunches} times"


def _waits_in_vain(operation: Operation, records: Records) -> str | None:
    lease = records.leases.get(operation.instance_id)
    holder = records.operations.get(lease.operation_id) if lease else None
    if holder is not None and holder.preempted_by == operation.id:
        return None
    if lease is not None and records.is_unreadable(lease.operation_id):
        return None
    return f"it waits for {operation.instance_name}, and nobody is to hand that over to it"


def _image_names(records: Records) -> Iterator[Finding]:
    for name, owner in records.image_names.items():
        image = records.images.get(name)
        if (image is not None and image.id == owner) or records.is_unreadable(name, owner):
            continue
        maker = records.operations.get(OperationId(owner))
        if maker is None or (maker.phase.settled and maker.phase is not Phase.STUCK):
            what = "there is no such image or operation" if maker is None else f"which has {maker.phase.value}"
            yield _finding(Code.IMAGE_NAME_WITHOUT_IMAGE, name, f"the name is kept for {owner}: {what}")


def _deletions(records: Records, now: float, limits: AuditLimits) -> Iterator[Finding]:
    """A silent host is a finding of its own: it is not asked while it is silent."""
    for image in records.images.values():
        deletion, host = image.deletion, image.host
        if deletion is None or host is None or records.is_silent(host) or now - deletion.asked_at < limits.overdue_s:
            continue
        why = (
            f"the host says: {deletion.problem}"
            if deletion.problem
            else f"the host was asked {deletion.sendings} times"
        )
        said = f"image {image.name!r} is to be deleted, and its file is not yet removed; {why}"
        yield _finding(Code.IMAGE_DELETION_OVERDUE, image.id, said, host)


def _queues(records: Records) -> Iterator[Finding]:
    for queue, depth in records.queues.items():
        if depth.dead:
            said = f"{depth.dead} messages could not be taken; each has its reason beside it"
            yield _finding(Code.DEAD_LETTERS, queue, said)
        for host, count in depth.in_flight.items():
            if count and records.is_silent(host):
                said = f"{count} messages are in flight to a worker of {host}, which is silent"
                yield _finding(Code.QUEUE_ORPHANED, queue, said, host)
        owner = host_of_queue(queue)
        if owner is not None and depth.waiting and records.is_silent(owner):
            said = f"{depth.waiting} messages wait for {owner}, which is silent"
            yield _finding(Code.QUEUE_ORPHANED, queue, said, owner)
