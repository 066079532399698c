"""Where the sets by which records are found disagree with the records: what is not listed is as good as lost."""

from collections.abc import Collection, Iterator

from taskvisor.model.finding import Code, Finding
from taskvisor.model.ids import HostName
from taskvisor.model.states import Phase
from taskvisor.model.survey import Records


def index_findings(records: Records) -> Iterator[Finding]:
    """One finding for each member too many or too few."""
    indexes, unsettled = records.indexes, records.unsettled()
    yield from _differences("instances", indexes.instances, records.instances, records)
    for host in {*indexes.instances_on, *(instance.host for instance in records.instances.values())}:
        there = [instance.id for instance in records.instances.values() if instance.host == host]
        yield from _differences(f"instances:host:{host}", indexes.instances_on.get(host, ()), there, records, host)
    yield from _differences("ops:unsettled", indexes.unsettled, [one.id for one in unsettled], records)
    for host in {*indexes.operations_on, *(operation.host for operation in unsettled)}:
        running = [operation.id for operation in unsettled if operation.host == host]
        yield from _differences(f"ops:host:{host}", indexes.operations_on.get(host, ()), running, records, host)
    stuck = [one.id for one in records.operations.values() if one.phase is Phase.STUCK]
    yield from _differences("ops:stuck", indexes.stuck, stuck, records)
    standing = [*stuck, *(one.id for one in unsettled)]
    yield from _missing("ops", indexes.operations, standing, records)
    yield from _missing("hosts", indexes.hosts, records.reported_hosts(), records)
    yield from _missing("images", records.image_names, records.images, records)
    networks = {one.network.name: one.network.id for one in records.networks.values() if one.network is not None}
    yield from _differences("networks", indexes.networks, networks, records)
    yield from _flavor_findings(records)
    yield from _too_many("history", indexes.histories, records.instances, records)
    yield from _server_groups(records)


def _flavor_findings(records: Records) -> Iterator[Finding]:
    """Names and ids, each listed with the other, and each with its record."""
    indexes, flavors = records.indexes, records.flavors
    yield from _differences("flavors", indexes.flavors, flavors, records)
    ids = {record.id for record in flavors.values()}
    unread = [name for name in indexes.flavors if records.is_unreadable(name)]
    listed = {one: name for one, name in indexes.flavor_ids.items() if name not in unread}
    yield from _differences("flavors:ids", listed, ids, records)


def _server_groups(records: Records) -> Iterator[Finding]:
    """Members of server groups, and the hosts by which their policies are judged."""
    members: dict[str, dict[str, HostName]] = {group: {} for group in records.indexes.servers}
    for instance in records.instances.values():
        if instance.server_group is not None:
            members.setdefault(instance.server_group, {})[instance.id] = instance.host
    for group, there in members.items():
        listed = records.indexes.servers.get(group, {})
        yield from _differences(f"servers:{group}", listed, there, records)
        for member in listed.keys() & there.keys():
            if listed[member] != there[member]:
                said = f"it is noted on {listed[member]}, and is on {there[member]}"
                yield _finding(f"servers:{group} {member}", said, there[member])


def _differences(
    index: str, listed: Collection[str], there: Collection[str], records: Records, host: HostName | None = None
) -> Iterator[Finding]:
    yield from _too_many(index, listed, there, records, host)
    yield from _missing(index, listed, there, records, host)


def _too_many(
    index: str, listed: Collection[str], there: Collection[str], records: Records, host: HostName | None = None
) -> Iterator[Finding]:
    for member in set(listed) - set(there):
        if not records.is_unreadable(member):
            yield _finding(f"{index} {member}", "it is listed, but there is no record that belongs there", host)


def _missing(
    index: str, listed: Collection[str], there: Collection[str], records: Records, host: HostName | None = None
) -> Iterator[Finding]:
    if index in records.unreadable:
        return
    for member in set(there) - set(listed):
        yield _finding(f"{index} {member}", "there is a record of it, but it is not listed", host)


def _finding(subject: str, message: str, host: HostName | None) -> Finding:
    return Finding(code=Code.INDEX_DIFFERS, subject=subject, host=host, message=message)
