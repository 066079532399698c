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
    DropKey,
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
    rule = _RULES.get(index, _RULES.get(kind))
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
    return _named(index, member, image.id, Unchanged(key=f"image:{member}", record=image))


def _network(index: str, member: str, records: Records) -> Repair:
    there = next((one.network for one in records.networks.values() if one.network and one.network.name == member), None)
    if there is None:
        listed = NetworkId(records.indexes.networks[member])
        return _unnamed(index, member, listed, KeyAbsent(key=f"network:{listed}"))
    return _named(index, member, there.id, Unchanged(key=f"network:{there.id}", record=there))


def _flavor(index: str, member: str, records: Records) -> Repair:
    record = records.flavors.get(member)
    if record is None:
        return _unnamed(index, member, records.indexes.flavors[member], KeyAbsent(key=f"flavor:{member}"))
    return _named(index, member, record.id, Unchanged(key=f"flavor:{member}", record=record))


def _flavor_id(index: str, member: str, records: Records) -> Repair:
    named = next((one for one in records.flavors.values() if one.id == member), None)
    if named is not None:
        return _named(index, member, named.flavor.name, Unchanged(key=f"flavor:{named.flavor.name}", record=named))
    name = records.indexes.flavor_ids[member]
    other = records.flavors.get(name)
    absent: Condition = KeyAbsent(key=f"flavor:{name}")
    return _unnamed(index, member, name, absent if other is None else Unchanged(key=f"flavor:{name}", record=other))


def _history(index: str, member: str, records: Records) -> Repair:  # noqa: ARG001 - as every rule
    return RecordRepair(
        done=f"the history of instance {member}, which is gone, is gone too",
        conditions=(KeyAbsent(key=f"instance:{member}"),),
        changes=(DropKey(key=f"history:{member}"),),
    )


def _server(index: str, member: str, records: Records) -> Repair:
    instance = records.instances.get(InstanceId(member))
    listed = records.indexes.servers.get(index.partition(":")[2], {}).get(member)
    gone: Condition = KeyAbsent(key=f"instance:{member}")
    recorded = gone if instance is None else Unchanged(key=f"instance:{member}", record=instance)
    as_listed = (
        FieldAbsent(key=index, field=member) if listed is None else FieldIs(key=index, field=member, value=listed)
    )
    if instance is not None and index == f"servers:{instance.server_group}":
        change: Change = PutField(key=index, field=member, value=instance.host)
        done = f"{index} has {member} on {instance.host}"
    else:
        change, done = DropField(key=index, field=member), f"{index} has {member} no more"
    return RecordRepair(done=done, conditions=(recorded, as_listed), changes=(change,))


def _named(index: str, name: str, value: str, unchanged: Condition) -> Repair:
    return RecordRepair(
        done=f"{index} lists {name}",
        conditions=(unchanged, FieldAbsent(key=index, field=name)),
        changes=(PutField(key=index, field=name, value=value),),
    )


def _unnamed(index: str, name: str, value: str, condition: Condition) -> Repair:
    return RecordRepair(
        done=f"{index} does not list {name}",
        conditions=(FieldIs(key=index, field=name, value=value), condition),
        changes=(DropField(key=index, field=name),),
    )


_RULES: Mapping[str, Callable[[str, str, Records], Repair]] = {
    "hosts": _host,
    "images": _image,
    "networks": _network,
    "instances": _instance,
    "ops": _operation,
    "flavors": _flavor,
    "flavors:ids": _flavor_id,
    "history": _history,
    "servers": _server,
}
"""By the set's name, or by the part before the colon."""
