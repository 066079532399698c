"""Who is on a network and in a security group: kept in the very transactions that write instances' records.

Every write of a record writes its ports' places anew, so an index that lacks a port (an older version wrote the record, or
somebody's hand was in it) has it after the next write; and its host looks periodically (taskvisor/state/ports.py). A port that
is no longer in the record loses its floating address too.

Invariant: nothing here is carried out; `Transaction.run` is.
"""

from collections.abc import Iterator, Mapping

from taskvisor.model.ids import InstanceId, NetworkId, PortId
from taskvisor.model.network import Member, Port, member_for
from taskvisor.model.records import Instance
from taskvisor.model.survey import GroupedPort
from taskvisor.state.codec import decode, encode
from taskvisor.state.keys import Keys
from taskvisor.state.transaction import Transaction


def place_ports(tx: Transaction, keys: Keys, instance: Instance) -> None:
    """Add to a transaction: the instance's ports, and no others of it, are members of their networks and groups."""
    words: list[str] = []
    for port in instance.ports:
        words += [port.id, _place_of(port), encode(member_for(port, instance.host))]
    _place(tx, keys, instance.id, words)


def entries_of(keys: Keys, instance: Instance) -> Iterator[tuple[str, PortId, str]]:
    """What `place_ports` makes: each field of each hash, and its text."""
    for port in instance.ports:
        member = encode(member_for(port, instance.host))
        yield keys.nics(instance.id), port.id, _place_of(port)
        yield keys.members(port.network_id), port.id, member
        for group_id in port.security_groups:
            yield keys.grouped(group_id), port.id, f"{port.network_id} {member}"


def forget_ports(tx: Transaction, keys: Keys, instance_id: InstanceId) -> None:
    """Add to a transaction: no port of the instance is a member of anything."""
    _place(tx, keys, instance_id, [])


def parse_places(texts: Mapping[str, str]) -> dict[PortId, tuple[str, ...]]:
    """Of what is noted of an instance: each port's network, and its groups."""
    return {PortId(port_id): tuple(text.split()) for port_id, text in texts.items()}


def parse_member(text: str, what: str) -> Member:
    """Of what is noted of a network. UnreadableRecord names `what` it was."""
    return decode(text, Member, what)


def parse_grouped(text: str, what: str) -> GroupedPort:
    """Of what is noted of a security group. UnreadableRecord as above."""
    network_id, _, member = text.partition(" ")
    return GroupedPort(network_id=NetworkId(network_id), member=parse_member(member, what))


def _place_of(port: Port) -> str:
    return " ".join((port.network_id, *port.security_groups))


def _place(tx: Transaction, keys: Keys, instance_id: InstanceId, words: list[str]) -> None:
    stems = keys.members(""), keys.grouped("")
    tx.do("nics", keys.nics(instance_id), *stems, keys.floating_bound, keys.floating_ports, *words)
