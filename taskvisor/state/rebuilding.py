"""Writing records anew that hosts told of: all of them in one transaction, and the store is open with it, or nothing.

So a death in the midst leaves either the store as it was, closed, or all of it written; and no node ever sees half of the
members of a network, by which it would take the rest away from its guests. Nothing that is there is overwritten.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from taskvisor.model.errors import StoreConflict, UnreadableRecord
from taskvisor.model.history import Cause
from taskvisor.model.ids import HostName, NetworkId, PortId
from taskvisor.model.network import Network
from taskvisor.model.rebuilding import BoundFloating, Present, Rebuild
from taskvisor.model.records import Instance
from taskvisor.state.closing import open_door
from taskvisor.state.codec import encode
from taskvisor.state.connection import asking
from taskvisor.state.floating import FloatingAddresses
from taskvisor.state.keys import Keys
from taskvisor.state.networks import LIST as NETWORKS
from taskvisor.state.schema import ensure_schema
from taskvisor.state.security_groups import LIST as GROUPS
from taskvisor.state.security_groups import SecurityGroups, write_group
from taskvisor.state.survey import Survey
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Writer

if TYPE_CHECKING:
    import redis

TASK = "fleet.rebuild"
"""What the stream of events says that an instance came by."""


class Rebuilding:
    """Reads what a store has, and adds to it."""

    def __init__(self, client: "redis.Redis", writer: Writer) -> None:
        self._client = client
        self._writer = writer
        self._keys: Keys = writer.keys

    def read_present(self, now: float) -> Present:
        """What is there already. UnreadableRecord when any of it can't be read: what it stands for may be there."""
        records = Survey(self._client, self._keys).read(now)
        if records.unreadable:
            key, why = min(records.unreadable.items())
            raise UnreadableRecord(
                f"the record {key} can't be read ({why}); see `taskvisor verify`, and mend or remove it"
            )
        groups = SecurityGroups(self._client, self._keys, on_unreadable=_fail).list()
        networks = {one: record.network for one, record in records.networks.items() if record.network is not None}
        return Present(
            instances=frozenset(records.instances),
            names=records.names,
            networks=networks,
            groups={group.id: group for group in groups},
            floating={one.id: one for one in FloatingAddresses(self._client, self._keys).list()},
            images=records.image_names,
            addresses={**self._addresses(networks)},
            macs=records.macs,
            volumes=records.volumes,
        )

    def list_taking(self) -> tuple[HostName, ...]:
        """Hosts whose node that takes requests lives, by name; also those that have not reported to this store yet."""
        stem = self._keys.taking("")
        with asking("list the hosts that take requests"):
            return tuple(sorted(HostName(str(key).removeprefix(stem)) for key in self._client.scan_iter(f"{stem}*")))

    def count_unsettled(self) -> int:
        """Operations that are under way."""
        with asking("count the operations that are under way"):
            return int(self._client.zcard(self._keys.unsettled))

    def _addresses(self, networks: dict[NetworkId, Network]) -> dict[tuple[NetworkId, str], PortId]:
        ids = sorted(networks)
        with asking("read which addresses are given out"), self._client.pipeline(transaction=False) as pipe:
            for network_id in ids:
                pipe.hgetall(self._keys.addresses(network_id))
                pipe.hgetall(self._keys.addresses6(network_id))
            answers = pipe.execute()
        found = zip((one for one in ids for _ in "46"), answers, strict=True)
        return {(one, str(address)): PortId(str(port)) for one, given in found for address, port in given.items()}

    def write(self, rebuild: Rebuild, at: float) -> None:
        """All of it is recorded, and the store takes requests. StoreConflict when something of it came to be there meanwhile."""
        tx = Transaction()
        for network in rebuild.networks:
            self._network(tx, network)
        for group in rebuild.groups:
            tx.require_absent(self._keys.groups, group.id, _meanwhile(f"security group {group.name}"))
            write_group(tx, self._keys, group)
        for instance in rebuild.instances:
            self._instance(tx, instance, at)
        for claim in rebuild.claims:
            tx.require_absent(
                self._keys.claims(claim.host), claim.instance_id, _meanwhile(f"claim of {claim.instance_id}")
            )
            self._writer.claim_what_runs(tx, claim)
        for image in rebuild.images:
            tx.require_absent(self._keys.images, image.name, _meanwhile(f"image {image.name}"))
            self._writer.image(tx, image)
        for (
            bound
        ) in rebuild.floating:  # after the instances: a record that is written takes addresses from ports that left it
            self._floating(tx, bound)
        for one in rebuild.reserved:
            self._address(tx, one.network_id, one.port_id, one.mac, one.addresses)
        for changed, what in ((rebuild.networks, NETWORKS), (rebuild.groups, GROUPS)):
            if changed:
                tx.do("HINCRBY", self._keys.revisions, what, 1)
        open_door(tx, self._keys, at)
        ensure_schema(self._client, self._keys)
        tx.run(self._client, "write what the hosts told")

    def _network(self, tx: Transaction, network: Network) -> None:
        tx.require_absent(self._keys.networks, network.name, _meanwhile(f"network {network.name}"))
        tx.do("SET", self._keys.network(network.id), encode(network))
        tx.do("HSET", self._keys.networks, network.name, network.id)

    def _instance(self, tx: Transaction, instance: Instance, at: float) -> None:
        tx.require_absent(self._keys.names, instance.name, _meanwhile(f"instance {instance.name}"))
        tx.require_absent(self._keys.lease(instance.id), "op", _meanwhile(f"instance {instance.id}"))
        for port in instance.ports:
            self._address(tx, port.network_id, port.id, port.mac, port.addresses)
        cause = Cause(by=TASK, at=at, reason="its record was read back from its host")
        self._writer.new_instance(tx, instance, cause)
        self._writer.hold_volumes(tx, instance)
        self._writer.event_of_host(tx, instance, task=TASK, phase="rebuilt", outcome="", at=at)

    def _address(
        self, tx: Transaction, network_id: NetworkId, port_id: PortId, mac: str, addresses: tuple[str, ...]
    ) -> None:
        """The addresses and the MAC are the port's, as they were given out once."""
        keys = self._keys
        tx.require_vacant(keys.macs, f"{network_id} {mac}", port_id, _meanwhile(f"MAC {mac}"))
        tx.do("HSET", keys.macs, f"{network_id} {mac}", port_id)
        for address in addresses:
            given, ports = (keys.addresses6, keys.ports6) if ":" in address else (keys.addresses, keys.ports)
            tx.require_vacant(given(network_id), address, port_id, _meanwhile(f"address {address}"))
            tx.do("HSET", given(network_id), address, port_id)
            tx.do("HSET", ports(network_id), port_id, address)
        tx.do("ZREM", keys.freed(network_id), *addresses)

    def _floating(self, tx: Transaction, bound: BoundFloating) -> None:
        keys, floating = self._keys, bound.floating
        what = _meanwhile(f"floating address {floating.address}")
        tx.require_absent(keys.floating_bound, floating.id, what)
        tx.do("HSET", keys.floating, floating.id, floating.address)
        if bound.instance_id is not None and floating.port_id is not None:
            tx.require_absent(keys.floating_ports, floating.port_id, what)
            tx.do("HSET", keys.floating_bound, floating.id, f"{floating.port_id} {bound.instance_id}")
            tx.do("HSET", keys.floating_ports, floating.port_id, floating.id)


def _meanwhile(what: str) -> Callable[[str], Exception]:
    def error(_: str) -> Exception:
        return StoreConflict(f"{what} came to be there meanwhile, so nothing was written; run it again")

    return error


def _fail(problem: UnreadableRecord) -> None:
    raise problem
