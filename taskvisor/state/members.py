"""Who is on a network and in a security group: kept in the very transactions that write instances' records.

Every write of a record writes its ports' places anew, so an index that lacks a port (an older version wrote the record) has it
after the next write. A port that is no longer in the record loses its floating address too.

Invariant: nothing here is carried out; `Transaction.run` is.
"""

from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.network import Member, Port
from taskvisor.model.records import Instance
from taskvisor.state.codec import encode
from taskvisor.state.keys import Keys
from taskvisor.state.transaction import Transaction


def place_ports(tx: Transaction, keys: Keys, instance: Instance) -> None:
    """Add to a transaction: the instance's ports, and no others of it, are members of their networks and groups."""
    words: list[str] = []
    for port in instance.ports:
        words += [port.id, " ".join((port.network_id, *port.security_groups)), encode(member_for(port, instance.host))]
    _place(tx, keys, instance.id, words)


def forget_ports(tx: Transaction, keys: Keys, instance_id: InstanceId) -> None:
    """Add to a transaction: no port of the instance is a member of anything."""
    _place(tx, keys, instance_id, [])


def member_for(port: Port, host: HostName) -> Member:
    """The port as others must know it."""
    return Member(
        port_id=port.id,
        host=host,
        mac=port.mac,
        addresses=port.addresses,
        security_groups=port.security_groups,
    )


def _place(tx: Transaction, keys: Keys, instance_id: InstanceId, words: list[str]) -> None:
    stems = keys.members(""), keys.grouped("")
    tx.do("nics", keys.nics(instance_id), *stems, keys.floating_bound, keys.floating_ports, *words)
