"""Where the index of who is on which network, and in which security group, disagrees with the instances' records.

Hosts are told of each other's ports from this index. A port that is not in it is not reached from other hosts, and no rule that
names its group lets it in; one that is in it and is nobody's may be let in.
"""

from collections.abc import Iterator

from taskvisor.model.finding import Code, Finding
from taskvisor.model.ids import HostName, PortId
from taskvisor.model.network import Port, member_for
from taskvisor.model.records import Instance
from taskvisor.model.survey import Records


def member_findings(records: Records) -> Iterator[Finding]:
    """One finding for each port that is not indexed as recorded, and one for each entry that no record makes."""
    for instance in records.instances.values():
        for port in instance.ports:
            yield from _of_port(instance, port, records)
    if not records.any_unreadable("instance:"):
        yield from _without_port(records)


def _of_port(instance: Instance, port: Port, records: Records) -> Iterator[Finding]:
    if records.is_unreadable(instance.id, port.network_id, *port.security_groups):
        return
    wrong = ", ".join(_wrong_places(instance, port, records))
    if wrong:
        said = f"port {port.addresses[0]} ({port.mac}) of {instance.name} is not indexed as recorded: {wrong}"
        yield _finding(Code.MEMBER_DIFFERS, port.id, said, instance.host)


def _wrong_places(instance: Instance, port: Port, records: Records) -> Iterator[str]:
    recorded, network = member_for(port, instance.host), records.networks.get(port.network_id)
    if network is None or network.members.get(port.id) != recorded:
        yield f"members:{port.network_id}"
    if records.nics.get(instance.id, {}).get(port.id) != (port.network_id, *port.security_groups):
        yield f"nics:{instance.id}"
    for group_id in port.security_groups:
        found = records.grouped.get(group_id, {}).get(port.id)
        if found is None or (found.network_id, found.member) != (port.network_id, recorded):
            yield f"grouped:{group_id}"


def _without_port(records: Records) -> Iterator[Finding]:
    """Entries too many. What another place of the same port says wrongly is that port's own finding."""
    ports = {port.id: port for instance in records.instances.values() for port in instance.ports}
    owners = {port.id: instance.id for instance in records.instances.values() for port in instance.ports}
    for network_id, network in records.networks.items():
        for port_id in network.members:
            if port_id not in ports or ports[port_id].network_id != network_id:
                yield _left(f"members:{network_id}", port_id, "is on that network")
    for group_id, grouped in records.grouped.items():
        for port_id in grouped:
            if port_id not in ports or group_id not in ports[port_id].security_groups:
                yield _left(f"grouped:{group_id}", port_id, "is in that group")
    for instance_id, nics in records.nics.items():
        for port_id in nics:
            if owners.get(port_id) != instance_id:
                yield _left(f"nics:{instance_id}", port_id, "is that instance's")


def _left(key: str, port_id: PortId, what: str) -> Finding:
    said = f"port {port_id} is indexed there, and by no instance's record it {what}"
    return _finding(Code.MEMBER_WITHOUT_PORT, f"{key} {port_id}", said, None)


def _finding(code: Code, subject: str, message: str, host: HostName | None) -> Finding:
    return Finding(code=code, subject=subject, host=host, message=message)
