"""What makes the sets by which records are found list what there is, and nothing else. As `repairs`, of which it is a part."""

from collections.abc import Callable, Mapping

from taskvisor.model.finding import Finding
from taskvisor.model.ids import HostName, InstanceId, NetworkId, OperationId
from taskvisor.model.operation import Operation
from taskvisor.model.repair import (
    AddMember,
    ByHand,
    Change,
    Condition,
    DropField,
    DropMember,
    FieldAbsent,
    FieldIs,
    FieldThere,
    KeyAbsent,
    PutField,
    RecordRepair,
    Repair,
    Unchanged,
)
from taskvisor.model.states import Phase
from taskvisor.model.survey import Records

SORTED = frozenset({"ops", "ops:unsettled"})


def index_repair(finding: Finding, records: Records) -> Repair:
    """The set named in the finding's subject lists the member, or does not, as there is a record that belongs there."""
    index, _, member = finding.subject.partition(" ")
    kind = index.partition(":")[0]
    rule = {"hosts": _host, "images": _image, "networks": _network, "instances": _instance, "ops": _operation}.get(kind)
    if rule is None:
        return ByHand(why=f"this version knows no set {index}")
    return rule(index, member, records)


def _listed(index: str, member: str, condition: Condition, change: Change) -> Repair:
    return RecordRepair(done=f"{index} lists {member}", conditions=(condition,), changes=(change,))


def _unlisted(index: str, member: str, conditions: tuple[Condition, ...]) -> Repair:
    change = DropMember(key=index, member=member, is_sorted=index in SORTED)
    return RecordRepair(done=f"{index} does not list {member}", conditions=conditions, changes=(change,))


def _instance(index: str, member: str, records: Records) -> Repair:
    instance = records.instances.get(InstanceId(member))
    if instance is None:
        return _unlisted(index, member, (KeyAbsent(key=f"instance:{member}"),))
    unchanged = Unchanged(key=f"instance:{member}", record=instance)
    if index in ("instances", f"instances:host:{instance.host}"):
        return _listed(index, member, unchanged, AddMember(key=index, member=member))
    return _unlisted(index, member, (unchanged,))


BELONGS: Mapping[str, Callable[[Operation], bool]] = {
    "ops": lambda _: True,
    "ops:unsettled": lambda operation: not operation.phase.settled,
    "ops:stuck": lambda operation: operation.phase is Phase.STUCK,
}
"""Which operations the set lists."""


def _operation(index: str, member: str, records: Records) -> Repair:
    operation = records.operations.get(OperationId(member))
    if operation is None:
        return _unlisted(index, member, (KeyAbsent(key=f"op:{member}"),))
    as_read = FieldIs(key=f"op:{member}", field="rev", value=str(operation.revision))
    runs_there = index == f"ops:host:{operation.host}" and not operation.phase.settled
    if not (BELONGS[index](operation) if index in BELONGS else runs_there):
        return _unlisted(index, member, (as_read,))
    scores = {"ops": operation.created_at, "ops:unsettled": operation.updated_at}
    return _listed(index, member, as_read, AddMember(key=index, member=member, score=scores.get(index)))


def _host(index: str, member: str, records: Records) -> Repair:  # noqa: ARG001 - as every rule
    reported = FieldThere(key=f"host:{HostName(member)}", field="inventory")
    return _listed(index, member, reported, AddMember(key=index, member=member))


def _image(index: str, member: str, records: Records) -> Repair:
    image = records.images[member]
    return RecordRepair(
        done=f"{index} lists {member}",
        conditions=(Unchanged(key=f"image:{member}", record=image), FieldAbsent(key=index, field=member)),
        changes=(PutField(key=index, field=member, value=image.id),),
    )


def _network(index: str, member: str, records: Records) -> Repair:
    there = next((one.network for one in records.networks.values() if one.network and one.network.name == member), None)
    if there is None:
        listed = NetworkId(records.indexes.networks[member])
        return RecordRepair(
            done=f"{index} does not list {member}",
            conditions=(FieldIs(key=index, field=member, value=listed), KeyAbsent(key=f"network:{listed}")),
            changes=(DropField(key=index, field=member),),
        )
    return RecordRepair(
        done=f"{index} lists {member}",
        conditions=(Unchanged(key=f"network:{there.id}", record=there), FieldAbsent(key=index, field=member)),
        changes=(PutField(key=index, field=member, value=there.id),),
    )
