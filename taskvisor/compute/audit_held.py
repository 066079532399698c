"""Where what instances have of a host for themselves, and what a host says of itself, is not as it should be.

A thing is held by an instance that is recorded there, and its record says so too; both ways.
"""

from collections import defaultdict
from collections.abc import Iterator

from taskvisor.model.finding import Code, Finding
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.survey import HostRecord, Records


def held_findings(name: HostName, records: Records) -> Iterator[Finding]:
    """What one reading has against what is held on the host, and what its inventory has against itself."""
    host = records.hosts[name]
    if records.is_unreadable(name):
        return
    yield from _held_by_nobody(name, records)
    yield from _not_held(name, host, records)
    if host.inventory is None:
        return
    for problem in host.inventory.problems:
        yield Finding(code=Code.HOST_MARKED, subject=f"{name} {problem}", host=name, message=problem)
    for remark in host.inventory.remarks:
        yield Finding(code=Code.USAGE_DIFFERS, subject=f"{name} {remark}", host=name, message=remark)


def things_left_of(name: HostName, records: Records) -> dict[InstanceId, tuple[str, ...]]:
    """What is held on the host for instances whose records have no such place there, in the order of the things' names."""
    things: dict[InstanceId, list[str]] = defaultdict(list)
    for thing, owner in sorted(records.hosts[name].held.items()):
        instance = records.instances.get(owner)
        known = () if instance is None or instance.host != name or instance.place is None else instance.place.things
        if thing not in known and not records.is_unreadable(owner):
            things[owner].append(thing)
    return {owner: tuple(left) for owner, left in things.items()}


def _held_by_nobody(name: HostName, records: Records) -> Iterator[Finding]:
    for owner, left in things_left_of(name, records).items():
        said = f"{', '.join(left)} held for an instance whose record has no such place on {name}"
        yield Finding(code=Code.CLAIM_WITHOUT_INSTANCE, subject=f"{owner} things", host=name, message=said)


def _not_held(name: HostName, host: HostRecord, records: Records) -> Iterator[Finding]:
    for instance in records.instances.values():
        if instance.host != name or instance.place is None:
            continue
        for thing in instance.place.things:
            owner = host.held.get(thing)
            if owner != instance.id:
                said = f"{instance.name} has {thing} by its record; it is noted as {owner or 'nobody'}'s"
                yield Finding(code=Code.THING_NOT_HELD, subject=f"{instance.id} {thing}", host=name, message=said)
