"""What mends addresses, ports and MACs that disagree with each other or with their instances. A part of `repairs`.

`members:<network>` has every port that is in an instance's record: it is written with the record itself, so a port that is not
there is no instance's at that very moment.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from taskvisor.model.finding import Code, Finding
from taskvisor.model.ids import InstanceId, NetworkId, PortId, SecurityGroupId
from taskvisor.model.network import Port
from taskvisor.model.records import Instance
from taskvisor.model.repair import (
    ByHand,
    Condition,
    DropField,
    DropMember,
    FieldAbsent,
    FieldIs,
    FieldThere,
    FreePort,
    NotedBefore,
    NotNoted,
    PlacePorts,
    PutField,
    RecordRepair,
    Repair,
    Unchanged,
)
from taskvisor.model.survey import AllocationNote, NetworkRecord, Records


@dataclass(frozen=True, kw_only=True)
class _Books:
    """What is noted of one family's addresses on a network, and under which keys."""

    addresses_key: str
    ports_key: str
    addresses: Mapping[str, PortId]
    ports: Mapping[PortId, str]


def _books_of(network_id: NetworkId, network: NetworkRecord) -> tuple[_Books, _Books]:
    """IPv4's and IPv6's."""
    return (
        _Books(
            addresses_key=f"addresses:{network_id}",
            ports_key=f"ports:{network_id}",
            addresses=network.addresses,
            ports=network.ports,
        ),
        _Books(
            addresses_key=f"addresses6:{network_id}",
            ports_key=f"ports6:{network_id}",
            addresses=network.addresses6,
            ports=network.ports6,
        ),
    )


def _address_left(finding: Finding, records: Records) -> Repair:
    network, _, address = finding.subject.partition(" ")
    network_id = NetworkId(network)
    books = next(one for one in _books_of(network_id, records.networks[network_id]) if address in one.addresses)
    port_id = books.addresses[address]
    return RecordRepair(
        done=f"address {address} is free",
        conditions=(
            FieldIs(key=books.addresses_key, field=address, value=port_id),
            _as_read(books.ports_key, port_id, books.ports.get(port_id)),
            FieldAbsent(key=f"members:{network_id}", field=port_id),
        ),
        changes=(DropField(key=books.addresses_key, field=address),),
    )


def _address_missing(finding: Finding, records: Records) -> Repair:
    port_id = PortId(finding.subject)
    missing = [
        (books, books.ports[port_id])
        for network_id, network in records.networks.items()
        for books in _books_of(network_id, network)
        if port_id in books.ports and books.ports[port_id] not in books.addresses
    ]
    return RecordRepair(
        done=f"{' and '.join(address for _, address in missing)} is noted as port {port_id}'s",
        conditions=tuple(
            condition
            for books, address in missing
            for condition in (
                FieldIs(key=books.ports_key, field=port_id, value=address),
                FieldAbsent(key=books.addresses_key, field=address),
            )
        ),
        changes=tuple(PutField(key=books.addresses_key, field=address, value=port_id) for books, address in missing),
    )


def _port_left(finding: Finding, records: Records) -> Repair:
    port_id = PortId(finding.subject)
    network_id, network = next(
        (one, network) for one, network in records.networks.items() if port_id in {**network.ports, **network.ports6}
    )
    macs = tuple(mac for (of, mac), owner in records.macs.items() if (of, owner) == (network_id, port_id))
    return RecordRepair(
        done=f"the addresses of port {port_id} are free",
        conditions=(
            *(_as_read(books.ports_key, port_id, books.ports.get(port_id)) for books in _books_of(network_id, network)),
            FieldAbsent(key=f"members:{network_id}", field=port_id),
        ),
        changes=(FreePort(network_id=network_id, port_id=port_id, macs=macs),),
    )


def _port_missing(finding: Finding, records: Records) -> Repair:
    instance, port = _port_of(PortId(finding.subject), records)
    of_4, of_6 = _books_of(port.network_id, records.networks[port.network_id])
    wanted = [(of_4, port.address), *([(of_6, port.address6)] if port.address6 is not None else [])]
    mac_owner = records.macs.get((port.network_id, port.mac))
    owners = {mac_owner, *(books.addresses.get(address) for books, address in wanted)}
    others = any(books.ports.get(port.id) not in (None, address) for books, address in wanted)
    if owners - {None, port.id} or others:
        return ByHand(
            why=f"the address or the MAC of {instance.name} is another port's: one of two guests would lose it"
        )
    fields: list[tuple[str, str, str, str | None]] = [("macs", f"{port.network_id} {port.mac}", port.id, mac_owner)]
    for books, address in wanted:
        fields.append((books.ports_key, port.id, address, books.ports.get(port.id)))
        fields.append((books.addresses_key, address, port.id, books.addresses.get(address)))
    return RecordRepair(
        done=f"{' and '.join(port.addresses)} ({port.mac}) is noted as {instance.name}'s",
        conditions=(
            Unchanged(key=f"instance:{instance.id}", record=instance),
            *(_as_read(key, name, there) for key, name, _, there in fields),
        ),
        changes=tuple(PutField(key=key, field=name, value=value) for key, name, value, _ in fields),
    )


def _port_of(port_id: PortId, records: Records) -> tuple[Instance, Port]:
    return next(
        (instance, port) for instance in records.instances.values() for port in instance.ports if port.id == port_id
    )


def _member_differs(finding: Finding, records: Records) -> Repair:
    """The index follows from the record, and the record as it was read from what it is now."""
    instance, port = _port_of(PortId(finding.subject), records)
    return RecordRepair(
        done=f"the ports of {instance.name} are indexed as recorded, {port.address} among them",
        conditions=(Unchanged(key=f"instance:{instance.id}", record=instance),),
        changes=(PlacePorts(instance=instance),),
    )


def _member_left(finding: Finding, records: Records) -> Repair:
    """By the record of the port's instance it is not there; or no record has the port, and no request is being let in that would
    write one. Should one be all the same, its host notes the port again when it looks (`taskvisor/state/ports.py`).
    """
    key, _, port = finding.subject.partition(" ")
    port_id = PortId(port)
    done, changes = f"port {port_id} is in {key} no more", (DropField(key=key, field=port_id),)
    owner = _owner_of(port_id, records)
    if owner is not None:
        unchanged = Unchanged(key=f"instance:{owner.id}", record=owner)
        return RecordRepair(done=done, conditions=(unchanged, FieldThere(key=key, field=port_id)), changes=changes)
    network_id = _network_of_entry(key, port_id, records)
    notes = [note for note in records.allocating if note.port_id == port_id]
    if notes:
        return ByHand(why=f"a request is being let in with port {port_id}; if none is, a sweep frees it")
    macs = [mac for (of, mac), owned_by in records.macs.items() if (of, owned_by) == (network_id, port_id)]
    return RecordRepair(
        done=done,
        conditions=(
            FieldThere(key=key, field=port_id),
            *(NotNoted(key="allocating", member=f"{network_id} {port_id} {mac}") for mac in macs),
        ),
        changes=changes,
    )


def _owner_of(port_id: PortId, records: Records) -> Instance | None:
    owners = (one for one in records.instances.values() if port_id in {port.id for port in one.ports})
    return next(owners, None)


def _network_of_entry(key: str, port_id: PortId, records: Records) -> NetworkId:
    kind, _, owner = key.partition(":")
    if kind == "members":
        return NetworkId(owner)
    if kind == "grouped":
        return records.grouped[SecurityGroupId(owner)][port_id].network_id
    return NetworkId(records.nics[InstanceId(owner)][port_id][0])


def _mac_left(finding: Finding, records: Records) -> Repair:
    network_id, _, mac = finding.subject.partition(" ")
    port_id = records.macs[NetworkId(network_id), mac]
    return RecordRepair(
        done=f"MAC {mac} is free",
        conditions=(
            FieldIs(key="macs", field=finding.subject, value=port_id),
            FieldAbsent(key=f"ports:{network_id}", field=port_id),
            FieldAbsent(key=f"ports6:{network_id}", field=port_id),
            FieldAbsent(key=f"members:{network_id}", field=port_id),
        ),
        changes=(DropField(key="macs", field=finding.subject),),
    )


def _note_of(finding: Finding, records: Records) -> AllocationNote:
    return next(note for note in records.allocating if note.port_id == finding.subject)


def _allocation_forgotten(finding: Finding, records: Records) -> Repair:
    note = _note_of(finding, records)
    return RecordRepair(
        done=f"the addresses of port {note.port_id} are free",
        conditions=(
            NotedBefore(key="allocating", member=_member_of(note), at_most=note.noted_at),
            FieldAbsent(key=f"members:{note.network_id}", field=note.port_id),
        ),
        changes=(FreePort(network_id=note.network_id, port_id=note.port_id, macs=(note.mac,)),),
    )


def _allocation_of_instance(finding: Finding, records: Records) -> Repair:
    note = _note_of(finding, records)
    return RecordRepair(
        done=f"port {note.port_id} is no more noted as being given out",
        conditions=(FieldThere(key=f"members:{note.network_id}", field=note.port_id),),
        changes=(DropMember(key="allocating", member=_member_of(note), is_sorted=True),),
    )


def _member_of(note: AllocationNote) -> str:
    return f"{note.network_id} {note.port_id} {note.mac}"


def _as_read(key: str, field: str, value: str | None) -> Condition:
    return FieldAbsent(key=key, field=field) if value is None else FieldIs(key=key, field=field, value=value)


ADDRESS_RULES: Mapping[Code, Callable[[Finding, Records], Repair]] = {
    Code.ADDRESS_WITHOUT_PORT: _address_left,
    Code.PORT_WITHOUT_ADDRESS: _address_missing,
    Code.PORT_WITHOUT_INSTANCE: _port_left,
    Code.INSTANCE_WITHOUT_PORT: _port_missing,
    Code.MAC_WITHOUT_PORT: _mac_left,
    Code.ALLOCATION_FORGOTTEN: _allocation_forgotten,
    Code.ALLOCATION_OF_INSTANCE: _allocation_of_instance,
    Code.MEMBER_DIFFERS: _member_differs,
    Code.MEMBER_WITHOUT_PORT: _member_left,
}
