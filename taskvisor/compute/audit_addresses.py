"""Where addresses, ports and MACs disagree with each other and with the instances that they were given to.

A port has an IPv4 address, and an IPv6 one where its network has IPv6. An address is held by a port, a port by an instance or by
a request that is not yet an operation; all of it both ways.
"""

from collections import defaultdict
from collections.abc import Iterator

from taskvisor.model.finding import Code, Finding
from taskvisor.model.ids import InstanceId, NetworkId, PortId
from taskvisor.model.network import Port
from taskvisor.model.records import Instance
from taskvisor.model.survey import NetworkRecord, Records


def address_findings(records: Records, now: float, forgotten_s: float) -> Iterator[Finding]:
    """What one reading has against the addresses. An allocation older than `forgotten_s` is forgotten."""
    owners = {port.id: instance for instance in records.instances.values() for port in instance.ports}
    for network_id, network in records.networks.items():
        yield from _of_network(network_id, network, records, owners)
    for instance in records.instances.values():
        for port in instance.ports:
            yield from _of_port(instance, port, records)
    yield from _held_twice(records)
    for (network_id, mac), port_id in records.macs.items():
        there = records.networks.get(network_id)
        known = port_id in owners or (there is not None and (port_id in there.ports or port_id in there.ports6))
        if not known and not records.is_unreadable(network_id):
            yield _finding(
                Code.MAC_WITHOUT_PORT, f"{network_id} {mac}", f"it is port {port_id}'s, which has no address"
            )
    yield from _allocations(records, owners, now - forgotten_s)


def _finding(code: Code, subject: str, message: str) -> Finding:
    return Finding(code=code, subject=subject, host=None, message=message)


def _of_network(
    network_id: NetworkId, network: NetworkRecord, records: Records, owners: dict[PortId, Instance]
) -> Iterator[Finding]:
    for addresses, ports in ((network.addresses, network.ports), (network.addresses6, network.ports6)):
        for address, port_id in addresses.items():
            if ports.get(port_id) != address and port_id not in owners:
                said = f"it is port {port_id}'s, which has {ports.get(port_id, 'none')}"
                yield _finding(Code.ADDRESS_WITHOUT_PORT, f"{network_id} {address}", said)
    allocating = {note.port_id for note in records.allocating}
    for port_id in {**network.ports, **network.ports6}:
        held = _held(network, port_id)
        free = [one for one in held if one not in network.addresses and one not in network.addresses6]
        if free:
            said = f"it has {' and '.join(free)}, noted as nobody's"
            yield _finding(Code.PORT_WITHOUT_ADDRESS, port_id, said)
        owned = port_id in owners or port_id in allocating
        if not owned and not records.any_unreadable("instance:"):
            said = f"it has {' and '.join(held)}, but is no instance's, and no request is being let in for it"
            yield _finding(Code.PORT_WITHOUT_INSTANCE, port_id, said)


def _of_port(instance: Instance, port: Port, records: Records) -> Iterator[Finding]:
    network = records.networks.get(port.network_id)
    if network is None or records.is_unreadable(port.network_id):
        return
    held, mac_owner = _held(network, port.id), records.macs.get((port.network_id, port.mac))
    if held == port.addresses and mac_owner == port.id:
        return
    has, noted = " and ".join(port.addresses), " and ".join(held) or "none"
    said = f"{instance.name} has {has} ({port.mac}); its port is noted with {noted}, the MAC as {mac_owner}'s"
    yield _finding(Code.INSTANCE_WITHOUT_PORT, port.id, said)


def _held(network: NetworkRecord, port_id: PortId) -> tuple[str, ...]:
    """The addresses that are noted for the port, IPv4 first."""
    noted = (network.ports.get(port_id), network.ports6.get(port_id))
    return tuple(address for address in noted if address is not None)


def _held_twice(records: Records) -> Iterator[Finding]:
    holders: dict[tuple[NetworkId, str], set[PortId]] = defaultdict(set)
    for network_id, network in records.networks.items():
        for port_id, address in (*network.ports.items(), *network.ports6.items()):
            holders[network_id, address].add(port_id)
    for instance in records.instances.values():
        for port in instance.ports:
            for address in port.addresses:
                holders[port.network_id, address].add(port.id)
    for (network_id, address), ports in holders.items():
        if len(ports) > 1:
            said = f"held by ports {', '.join(sorted(ports))}"
            yield _finding(Code.ADDRESS_HELD_TWICE, f"{network_id} {address}", said)


def _allocations(records: Records, owners: dict[PortId, Instance], before: float) -> Iterator[Finding]:
    for note in records.allocating:
        owner: InstanceId | None = owners[note.port_id].id if note.port_id in owners else None
        if owner is not None:
            said = f"it is noted as being allocated, but is instance {owner}'s: a sweep would free its address"
            yield _finding(Code.ALLOCATION_OF_INSTANCE, note.port_id, said)
        elif note.noted_at < before:
            said = "it was allocated for a request that never became an operation, and no sweep has freed it"
            yield _finding(Code.ALLOCATION_FORGOTTEN, note.port_id, said)
