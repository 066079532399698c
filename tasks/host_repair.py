"""What a host does about one finding of `taskvisor verify` about what it has: it looks for itself, and mends what it finds.

Invariant: under the instance's lock, while no operation holds the instance, and only what is so still at this second look. A
guest that runs is not stopped, started or paused by any of it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from net.plan import bridge_name_for, parse_owner, vif_plan_for
from tasks.domain_uses import find_user
from tasks.drift import drifts_of
from tasks.guest_plans import xml_of
from tasks.periodic import HostReport
from tasks.plugging import PluggedGuest
from tasks.repair_requests import mended, not_there
from tasks.replug import PlugCheck
from tasks.store import Store
from taskvisor.compute.audit_drift import FILES
from taskvisor.compute.audit_hosts import ON_ITS_HOST
from taskvisor.flow.ports import Exclusion, Ports
from taskvisor.model.drift import Holds
from taskvisor.model.errors import Busy, Refused
from taskvisor.model.finding import Code
from taskvisor.model.ids import HostName, InstanceId, PortId
from taskvisor.model.network import Port
from taskvisor.model.observed import LinkFacts
from taskvisor.model.plan import VifPlan
from taskvisor.model.records import Instance
from taskvisor.model.repair import RepairSpec
from taskvisor.model.volume import VolumeAttachment
from taskvisor.state.admission import Holding

log = structlog.get_logger(__name__)

Done = str | None
"""What was done; None: nothing, for it is not so (any more)."""
HARD_REBOOT = "`taskvisor reboot --hard NAME` gives the guest what it lacks"


@dataclass(frozen=True, kw_only=True)
class HostRepairs:
    """One host's. `exclusion` is that of the host's runner."""

    store: Store
    host: HostName
    ports: Ports
    exclusion: Exclusion
    plugs: PlugCheck
    report: HostReport

    def mend(self, asked: RepairSpec) -> dict[str, Any]:
        """What the caller is told. Refused with what to do by hand; CannotAsk when records or host can't be asked; Busy while
        a step of the guest runs.
        """
        rules: Mapping[Code, Callable[[str], Done]] = {
            Code.POWER_DIFFERS: self._power,
            Code.LINK_MISSING: self._plug,
            Code.LINK_NOT_OPEN: self._plug,
            Code.FILTER_MISSING: self._plug,
            Code.DHCP_MISSING: self._plug,
            Code.METADATA_MISSING: self._plug,
            Code.DOMAIN_MISSING: self._domain,
            Code.GUEST_DRIFTED: self._definition,
            Code.CONNECTION_MISSING: self._connection,
            Code.CONNECTION_WITHOUT_RECORD: self._connection_left,
            Code.LINK_WITHOUT_RECORD: self._link_left,
        }
        rule = rules.get(asked.code)
        if rule is None:
            raise Refused(f"{asked.code.value} is nothing that a host mends")
        done = rule(asked.subject)
        if done is None:
            return not_there(asked)
        log.warning("finding_mended", code=asked.code.value, subject=asked.subject, done=done)
        return mended(asked, done)

    @contextmanager
    def _alone_with(self, instance_id: InstanceId) -> Iterator[Holding | None]:
        """No step of the instance runs here, and no operation holds it; None: there is no record of it. Busy otherwise."""
        with self.exclusion.hold(instance_id) as alone:
            if not alone:
                raise Busy(f"a step of instance {instance_id} runs on this host; ask again when that has ended")
            holding = self.store.admission.read_holding(instance_id)
            if holding is not None and holding.lease is not None:
                raise Refused(f"operation {holding.lease.operation_id} holds {holding.instance.name}: ask again later")
            yield holding

    @contextmanager
    def _resting(self, instance_id: str) -> Iterator[Instance | None]:
        """The instance, if it is recorded here and at rest."""
        with self._alone_with(InstanceId(instance_id)) as holding:
            here = holding is not None and holding.instance.host == self.host
            yield holding.instance if holding is not None and here and holding.instance.task_state is None else None

    def _power(self, subject: str) -> Done:
        changed = self.report.sync_power_state(InstanceId(subject))
        return "the record says what the hypervisor says" if changed else None

    def _plug(self, subject: str) -> Done:
        instances = self.store.catalog.list_instances(self.host)
        owner = next((one for one in instances if any(port.id == subject for port in one.ports)), None)
        if owner is None or not self.plugs.restore(owner.id):
            return None
        return f"the plug of {owner.name} is whole"

    def _domain(self, subject: str) -> Done:
        with self._resting(subject) as instance:
            if instance is None or instance.vm_state not in ON_ITS_HOST:
                return None
            if self.ports.hypervisor.read_domain(instance.id) is not None:
                return None
            if instance.id not in self.ports.disks.list_directories():
                raise Refused(
                    f"{instance.name} has no directory on this host, so its disks are not there; restore it first"
                )
            self.ports.hypervisor.ensure_defined(instance.id, self._xml_of(instance))
            self.report.sync_power_state(instance.id)
            return f"the domain of {instance.name} is defined, and off: `taskvisor start {instance.name}` starts it"

    def _definition(self, subject: str) -> Done:
        with self._resting(subject) as instance:
            domain = None if instance is None else self.ports.hypervisor.read_domain(instance.id)
            if instance is None or domain is None or not domain.owned:
                return None
            holds = self._drift_of(instance)
            if not holds:
                return None
            if holds == {Holds.UNTIL_NEXT_START}:
                raise Refused(f"{instance.name} is defined as recorded, and runs with something else; {HARD_REBOOT}")
            self.ports.hypervisor.ensure_defined(instance.id, self._xml_of(instance))
            left = f", and runs with what it had; {HARD_REBOOT}" if self._drift_of(instance) else ""
            return f"{instance.name} is defined as recorded{left}"

    def _drift_of(self, instance: Instance) -> frozenset[Holds]:
        """When the differences of its definition hold; none: it is as recorded."""
        found = drifts_of(self.ports, (instance,), frozenset({instance.id}))
        told = (one for drift in found for one in drift.differences if not one.code.startswith(FILES))
        return frozenset(one.holds for one in told)

    def _xml_of(self, instance: Instance) -> str:
        return xml_of(PluggedGuest(instance=instance, ports=self.ports))

    def _connection(self, subject: str) -> Done:
        instance_id, _, source = subject.partition(" ")
        with self._resting(instance_id) as instance:
            volume = next((one for one in instance.volumes if one.source == source), None) if instance else None
            if instance is None or volume is None or self._is_connected(instance_id, source):
                return None
            self.ports.volumes.ensure_connected(volume, instance.id)
            return f"this host is connected to {source} for {instance.name}"

    def _is_connected(self, instance_id: str, source: str) -> bool:
        connected = self.ports.volumes.list_connected()
        return any((one.instance_id, one.source) == (instance_id, source) for one in connected)

    def _connection_left(self, subject: str) -> Done:
        instance_id, _, source = subject.partition(" ")
        with self._alone_with(InstanceId(instance_id)) as holding:
            instance = holding.instance if holding is not None else None
            has_it = instance is not None and instance.host == self.host
            if not self._is_connected(instance_id, source):
                return None
            if has_it and instance is not None and source in (one.source for one in instance.volumes):
                return None
            path = self.ports.volumes.plan_for(VolumeAttachment(source=source, serial="")).path
            if user := find_user(self.ports, lambda seen: path in (disk.path for disk in seen.disks)):
                raise Refused(f"domain {user} has {source} as a disk; detach it there first")
            self.ports.volumes.ensure_disconnected(source, InstanceId(instance_id))
            return f"{source} is disconnected for instance {instance_id}"

    def _link_left(self, subject: str) -> Done:
        link = next((one for one in self.ports.fabric.list_links() if one.name == subject), None)
        owner = parse_owner(link.owner) if link is not None else None
        if link is None or owner is None:
            return None
        with self._alone_with(owner.instance_id) as holding:
            instance = holding.instance if holding is not None else None
            if (
                instance is not None
                and instance.host == self.host
                and owner.port_id in {port.id for port in instance.ports}
            ):
                return None
            if user := find_user(self.ports, lambda seen: link.name in seen.taps):
                raise Refused(f"domain {user} has link {link.name}; see `taskvisor orphans`")
            self.ports.fabric.ensure_unplugged(
                stray_vif_of(self.ports, self.store, link, owner.instance_id, owner.port_id)
            )
            return f"link {link.name} is gone, with its filters and its DHCP entry"


def stray_vif_of(ports: Ports, store: Store, link: LinkFacts, instance_id: InstanceId, port_id: PortId) -> VifPlan:
    """How to unplug a link whose port no record has: by what this host remembers of it. Refused when it remembers nothing."""
    plugged = ports.fabric.find_plug(link.name)
    if plugged is None:
        raise Refused(
            f"this host remembers nothing of link {link.name}: another installation may have made it; see that nobody uses"
            f" it, then `ip link delete {link.name}`"
        )
    network = next((one for one in store.catalog.list_networks() if bridge_name_for(one.id) == plugged.bridge), None)
    if network is None:
        raise Refused(f"the network of link {link.name} has no record: see that nobody uses it, then remove it by hand")
    port = Port(
        id=port_id,
        instance_id=instance_id,
        network_id=network.id,
        network=network.name,
        index=0,
        mac=plugged.mac,
        address=plugged.address,
    )
    return vif_plan_for(port, network, hostname="gone", links=ports.host_links)
