"""What a host does for the plugs of its own guests, at its start, periodically, and when it hears that something has changed.

What surrounds its networks is made as the records have it, and the plug of a guest that runs is made whole again where
somebody has flushed the rules, removed a link or ended a DHCP server. Only guests at rest are touched, under their lock. A link
that was removed is lost to the QEMU that had it open: its guest is given the NIC anew, and must let go of the dead one for that.
The host's ports are put where other hosts look for them, and the copies of records that its domains carry follow.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import structlog

from tasks.at_rest import acted_alone, done_alone
from tasks.guest_plans import attached_nic_of, xml_of
from tasks.plugging import PluggedGuest, planned_vifs, plug, plug_lacks_of, running_in
from tasks.record_copies import RecordCopies
from tasks.store import Store
from taskvisor.flow.ports import Exclusion, Ports
from taskvisor.model.errors import Busy, CannotAsk, TaskvisorError
from taskvisor.model.ids import HostName, InstanceId, NetworkId, PortId
from taskvisor.model.network import Port
from taskvisor.model.observed import PlugLack, PlugPart
from taskvisor.model.records import Instance

log = structlog.get_logger(__name__)

REFRESH, CHECK, COPY = "host.refresh_networks", "host.check_networks", "host.copy_records"
"""The tasks: something has changed about these networks; the periodic look at all there is; and a record has changed, and nothing
of its guest but that."""

Lacks = Mapping[PortId, tuple[PlugPart, ...]]


@dataclass(frozen=True, kw_only=True)
class PlugCheck:
    """One host's. `exclusion` is that of the host's runner: no step of a guest runs while its plug is restored."""

    store: Store
    host: HostName
    ports: Ports
    exclusion: Exclusion

    def refresh(self, networks: Collection[NetworkId] = ()) -> int:
        """What surrounds these networks, or all that guests of this host are on, is as the records have it now.

        Returns of how many that could be said. One that is refused hinders no other: it is logged. CannotAsk when the records,
        or the host, can't be asked.
        """
        here = networks or _networks_of(self.store.catalog.list_instances(self.host))
        return sum(self._refreshed(network_id) for network_id in sorted(here))

    def check(self) -> int:
        """Every guest that runs here, and that no operation holds, has its plug whole, and the surroundings are refreshed.

        Returns how many guests were given something that they lacked. CannotAsk as above. First, their ports are where other
        hosts look for them.
        """
        placed = self.store.port_changes.ensure_placed(self.host)
        if placed:
            log.warning("members_placed", instances=placed)
        instances = self.store.catalog.list_instances(self.host)
        lacks = plug_lacks_of(self.ports, instances, self.ports.hypervisor.list_domains())
        lacking = {lack.port_id for lack in lacks}
        restored = sum(
            done_alone(self, instance.id, self._restored, undone="plug_not_restored")
            for instance in instances
            if not lacking.isdisjoint(port.id for port in instance.ports)
        )
        self.refresh(_networks_of(instances))
        self._copy_records_of(instances)
        return restored

    def copy_records(self) -> int:
        """The copies of records that this host's domains carry follow the records: see `RecordCopies.ensure_current`."""
        return self._copy_records_of(self.store.catalog.list_instances(self.host))

    def _copy_records_of(self, instances: Iterable[Instance]) -> int:
        copies = RecordCopies(store=self.store, host=self.host, ports=self.ports, exclusion=self.exclusion)
        return copies.ensure_current(instances)

    def restore(self, instance_id: InstanceId) -> bool:
        """The same for one guest, now. False when it lacks nothing, or an operation holds it. Raises what the host says; Busy
        while a step of the guest runs.
        """
        return acted_alone(self, instance_id, self._restored)

    def _refreshed(self, network_id: NetworkId) -> bool:
        try:
            self.ports.fabric.ensure_surroundings(self.ports.networks.read_surroundings(network_id))
        except CannotAsk:
            raise
        except TaskvisorError as problem:
            log.warning("surroundings_not_refreshed", network_id=network_id, reason=str(problem))
            return False
        return True

    def _restored(self, instance: Instance) -> bool:
        """Only what is still lacking is made again."""
        lacks = self._lacks_of(instance)
        if not lacks:
            return False
        plug(self.ports, [vif for vif in planned_vifs(self.ports, instance) if vif.port_id in lacks])
        dead = [port for port in instance.ports if PlugPart.GUEST in lacks.get(port.id, ())]
        kept = {port.id for port in dead if not self._reconnected(instance, port)}
        return self._told(
            instance, {port: _without_guest(parts) if port in kept else parts for port, parts in lacks.items()}
        )

    def _reconnected(self, instance: Instance, port: Port) -> bool:
        """The guest has the NIC anew, on the link that is there now. False when it does not let go of the dead one: then it keeps
        that, in its definition as well, and is asked again at the next look.
        """
        guest, hypervisor = PluggedGuest(instance=instance, ports=self.ports), self.ports.hypervisor
        let_go = True
        try:
            hypervisor.ensure_nic_detached(instance.id, port.mac)
        except Busy as busy:
            let_go = False
            log.warning("dead_nic_not_let_go", instance_id=instance.id, mac=port.mac, reason=str(busy))
        hypervisor.ensure_nic_attached(instance.id, attached_nic_of(guest, port))
        hypervisor.ensure_defined(instance.id, xml_of(guest))
        return let_go

    def _lacks_of(self, instance: Instance) -> Lacks:
        domain = self.ports.hypervisor.read_domain(instance.id)
        if domain is None or not running_in((domain,)):
            return {}
        return _by_port(plug_lacks_of(self.ports, (instance,), (domain,)))

    def _told(self, instance: Instance, restored: Lacks) -> bool:
        """What was restored is in the log and in the stream; False when nothing was."""
        missing = {port_id: [part.value for part in parts] for port_id, parts in restored.items() if parts}
        if not missing:
            return False
        log.warning("plug_restored", instance_id=instance.id, name=instance.name, missing=missing)
        named = sorted({part for parts in restored.values() for part in parts})
        self.store.admission.note_plug_restored(instance, named, task=CHECK, at=self.ports.clock.now())
        return True


def _by_port(lacks: Iterable[PlugLack]) -> Lacks:
    return {lack.port_id: lack.parts for lack in lacks}


def _without_guest(parts: tuple[PlugPart, ...]) -> tuple[PlugPart, ...]:
    return tuple(part for part in parts if part is not PlugPart.GUEST)


def _networks_of(instances: Iterable[Instance]) -> frozenset[NetworkId]:
    return frozenset(port.network_id for instance in instances for port in instance.ports)
