"""What a host does about what it has and no record is of: it is put in quarantine, looked at again much later, then by policy.

Nova's _cleanup_running_deleted_instances, and wider. Invariant: whatever is done, is done under the instance's lock after another
look, at the records by id and at the thing itself; what can't be asked is left alone; disks are set aside, never removed.
A removal that dies is carried on by the next tick: the quarantine says what was begun, and each part of it converges.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import structlog

from net.plan import bridge_name_for, parse_owner
from tasks.domain_uses import find_user
from tasks.host_repair import stray_vif_of
from tasks.store import Store
from taskvisor.compute.orphans import OrphanPolicy, act_for, is_confirmed, is_same_store, quarantine_for, strays_for
from taskvisor.compute.repairs import unrecorded
from taskvisor.flow.ports import Exclusion, Ports, StoreNotes
from taskvisor.model.errors import CannotAsk, Refused, StoreConflict, TaskvisorError
from taskvisor.model.ids import HostName, InstanceId, OperationId, image_id_for
from taskvisor.model.observed import DhcpFacts, LinkSeen
from taskvisor.model.orphan import (
    Explained,
    Holdings,
    Orphan,
    OrphanAction,
    OrphanKind,
    StoreMemory,
    StoreSeen,
    Stray,
)
from taskvisor.model.repair import DropClaim, DropField, DropKey, ForgetPorts, FreePort, RecordRepair
from taskvisor.model.volume import VolumeAttachment
from taskvisor.state.counters import CounterName
from virt.readback import DomainSeen

log = structlog.get_logger(__name__)

CHECK = "host.check_orphans"
DEFINITION_FILE = "domain.xml"
"""What is kept of a domain that is taken away, in its instance's directory."""


@dataclass(frozen=True, kw_only=True)
class OrphanPatrol:
    """One host's. `exclusion` is that of the host's runner."""

    store: Store
    host: HostName
    ports: Ports
    exclusion: Exclusion
    notes: StoreNotes
    policy: OrphanPolicy

    def run(self) -> int:
        """Look, note, and act where that is due. Returns how many orphans are in quarantine.

        CannotAsk when host or records can't be asked: half a look would make the rest seem to be gone. UnreadableRecord when
        an operation of this host can't be read: it may be about any of it.
        """
        seen, strays = self.store.orphans.tick(self.host), self._strays()
        memory = self._remembered(seen, strays)
        quarantine = self.store.orphans.read(self.host)
        now = self.ports.clock.now()
        orphans = quarantine_for(quarantine.orphans, strays, memory, seen, now)
        try:
            self.store.orphans.put(quarantine, orphans)
        except StoreConflict:
            return len(orphans)  # an operator has kept one meanwhile: the next look sees that
        self.notes.write(replace(memory, ticks=seen.ticks, run=seen.run))
        if seen.recorded:  # an empty store makes nobody an orphan
            for orphan in orphans.values():
                self._dealt_with(orphan)
        self._remove_old(now)
        return len(orphans)

    def _remembered(self, seen: StoreSeen, strays: tuple[Stray, ...]) -> StoreMemory:
        """What the host knows of this store. Of one that it does not know, or that has forgotten, all that is there is older."""
        memory = self.notes.read()
        if memory is None or not is_same_store(memory, seen):
            before = tuple(stray.key for stray in strays)
            memory = StoreMemory(birth=seen.birth, ticks=seen.ticks, run=seen.run, before=before)
            self.notes.write(memory)
            log.warning("store_seen_for_the_first_time", birth=seen.birth, unrecorded=len(before))
        there = {stray.key for stray in strays}
        return replace(memory, before=tuple(key for key in memory.before if key in there))

    def _strays(self) -> tuple[Stray, ...]:
        """What no record explained when it was looked at: the host first, then the records of just those, by id."""
        found = self._holdings()
        ids = {
            *(domain.instance_id for domain in found.domains if domain.owned),
            *found.directories,
            *(link.instance_id for link in found.links),
            *(volume.instance_id for volume in found.volumes),
            *found.disks,
            *found.claims,
        }
        return strays_for(found, self._explained(ids, found.dhcp))

    def _holdings(self) -> Holdings:
        ports, links = self.ports, tuple(self._links())
        return Holdings(
            domains=ports.hypervisor.list_domains(),
            directories=ports.disks.list_directories(),
            links=links,
            remembered=frozenset(link.name for link in links if ports.fabric.find_plug(link.name) is not None),
            volumes=ports.volumes.list_connected(),
            dhcp=ports.fabric.list_dhcp(),
            disks=ports.disks.list_pool_disks(),
            images=ports.disks.list_images(),
            claims=self.store.orphans.list_claimed(self.host),
        )

    def _links(self) -> Iterator[LinkSeen]:
        for link in self.ports.fabric.list_links():
            owner = parse_owner(link.owner)
            if owner is not None:
                yield LinkSeen(name=link.name, instance_id=owner.instance_id, port_id=owner.port_id)

    def _explained(self, ids: set[InstanceId], dhcp: Sequence[DhcpFacts]) -> Explained:
        store = self.store
        under_way = [store.catalog.read_operation(one) for one in store.catalog.list_unsettled_on(self.host)]
        about = {operation.instance_id for operation in under_way if operation is not None}
        owners = [*store.orphans.list_image_owners(), *(one.id for one in under_way if one is not None)]
        return Explained(
            instances=store.orphans.list_recorded(ids) | about,
            images=frozenset({*owners, *(image_id_for(OperationId(one)) for one in owners)}),
            dhcp=self._explained_dhcp(dhcp),
        )

    def _explained_dhcp(self, dhcp: Sequence[DhcpFacts]) -> frozenset[tuple[str, str]]:
        """Entries whose MAC is given out; and those of networks that there is no record of, about which nothing can be told."""
        networks = {bridge_name_for(network.id): network.id for network in self.store.catalog.list_networks()}
        named = {(entry.bridge, entry.mac.lower()) for entry in dhcp}
        asked = {(networks[bridge], mac) for bridge, mac in named if bridge in networks}
        given = self.store.orphans.list_given(asked)
        return frozenset(
            (bridge, mac) for bridge, mac in named if bridge not in networks or (networks[bridge], mac) in given
        )

    def _dealt_with(self, orphan: Orphan) -> None:
        """What is due now is done; what it meets is noted, and hinders no other."""
        if not is_confirmed(orphan, self.policy) or self.policy.action is OrphanAction.NOOP:
            return
        self.store.counters.add(CounterName.ORPHANS_CONFIRMED)
        log.warning("orphan_confirmed", key=orphan.stray.key, said=orphan.stray.said, action=self.policy.action.value)
        acts: dict[OrphanAction, Callable[[Orphan], bool]] = {
            OrphanAction.STOP: self._stopped,
            OrphanAction.REAP: self._reaped,
        }
        act = acts.get(act_for(orphan, self.policy))
        if act is None:
            return
        try:
            with self.exclusion.hold(_owner_of(orphan)) as alone:
                if alone and not self.store.orphans.list_recorded([_owner_of(orphan)]):
                    act(orphan)
        except CannotAsk:
            raise
        except TaskvisorError as problem:
            log.error("orphan_not_dealt_with", key=orphan.stray.key, reason=str(problem))  # noqa: TRY400 - says all there is
            self._note(orphan, replace(orphan, problem=str(problem)))

    def _stopped(self, orphan: Orphan) -> bool:
        domain = self.ports.hypervisor.read_domain(_owner_of(orphan))
        if domain is None or not domain.owned or domain.power_state.is_down:
            return False
        self.ports.hypervisor.ensure_off(domain.instance_id)
        self.store.counters.add(CounterName.ORPHANS_STOPPED)
        log.warning("orphan_stopped", key=orphan.stray.key)
        return True

    def _reaped(self, orphan: Orphan) -> bool:
        begun = replace(orphan, begun_at=orphan.begun_at or self.ports.clock.now(), problem=None)
        if begun != orphan and not self._note(orphan, begun):
            return False
        reaping: dict[OrphanKind, Callable[[Orphan], None]] = {
            OrphanKind.DOMAIN: self._domain_gone,
            OrphanKind.LINK: self._link_gone,
            OrphanKind.CONNECTION: self._connection_gone,
            OrphanKind.DIRECTORY: self._directory_aside,
            OrphanKind.CLAIM: self._claim_gone,
        }
        reaping[orphan.stray.kind](begun)
        self._note(begun, None)
        self.store.counters.add(CounterName.ORPHANS_REAPED)
        log.warning("orphan_reaped", key=orphan.stray.key)
        return True

    def _note(self, former: Orphan, orphan: Orphan | None) -> bool:
        """The quarantine says so. False when it says something else by now than `former`: an operator has kept it."""
        seen = self.store.orphans.read(self.host)
        key = former.stray.key
        if seen.orphans.get(key) != former:
            return False
        after = {name: one for name, one in seen.orphans.items() if name != key}
        try:
            self.store.orphans.put(seen, after if orphan is None else {**after, key: orphan})
        except StoreConflict:
            return False
        return True

    def _domain_gone(self, orphan: Orphan) -> None:
        """Its definition is kept beside its disks, so that it can be brought back."""
        instance_id = _owner_of(orphan)
        found = next((one for one in self.ports.hypervisor.list_definitions() if one.instance_id == instance_id), None)
        if found is None:
            return
        self.ports.disks.ensure_kept_beside(instance_id, DEFINITION_FILE, found.persistent_xml or found.live_xml or "")
        self.ports.hypervisor.ensure_undefined(instance_id)

    def _link_gone(self, orphan: Orphan) -> None:
        """Its addresses first: only by the link can it be told whose they were. What is given back last is given out last."""
        link = next((one for one in self.ports.fabric.list_links() if one.name == orphan.stray.subject), None)
        owner = parse_owner(link.owner) if link is not None else None
        if link is None or owner is None or owner.instance_id != _owner_of(orphan):
            return
        self._require_unused(lambda seen: link.name in seen.taps, f"link {link.name}")
        vif = stray_vif_of(self.ports, self.store, link, owner.instance_id, owner.port_id)
        self.store.repairs.carry_out(
            RecordRepair(
                done=f"the addresses of port {vif.port_id} are free",
                conditions=unrecorded(owner.instance_id),
                changes=(
                    ForgetPorts(instance_id=owner.instance_id),
                    DropField(key=f"members:{vif.network_id}", field=vif.port_id),
                    FreePort(network_id=vif.network_id, port_id=vif.port_id, macs=(vif.mac,)),
                ),
            )
        )
        self.ports.fabric.ensure_unplugged(vif)

    def _connection_gone(self, orphan: Orphan) -> None:
        _, _, source = orphan.stray.subject.partition(" ")
        path = self.ports.volumes.plan_for(VolumeAttachment(source=source, serial="")).path
        self._require_unused(lambda seen: path in (disk.path for disk in seen.disks), f"volume {source}")
        self.ports.volumes.ensure_disconnected(source, _owner_of(orphan))

    def _directory_aside(self, orphan: Orphan) -> None:
        instance_id = _owner_of(orphan)
        if self.ports.hypervisor.read_domain(instance_id) is not None:
            raise Refused(f"domain {instance_id} is there still; its directory stays with it")
        inside = f"{self.ports.limits.instances_dir}/{instance_id}/"
        self._require_unused(
            lambda seen: any((disk.path or "").startswith(inside) for disk in seen.disks), f"directory {instance_id}"
        )
        self.ports.disks.ensure_set_aside(instance_id, f"{instance_id}-{int(orphan.begun_at or 0)}")
        if instance_id in self.ports.disks.list_directories():
            raise Refused(
                f"the directory of {instance_id} is half removed, by a delete that was cut off: remove the rest by hand"
            )

    def _claim_gone(self, orphan: Orphan) -> None:
        instance_id = _owner_of(orphan)
        if self.ports.hypervisor.read_domain(instance_id) is not None:
            raise Refused(f"domain {instance_id} is there still, and uses what is claimed for it")
        self.store.repairs.carry_out(
            RecordRepair(
                done=f"the claim of {instance_id} on {self.host} was given back",
                conditions=unrecorded(instance_id),
                changes=(DropClaim(host=self.host, instance_id=instance_id), DropKey(key=f"history:{instance_id}")),
            )
        )

    def _require_unused(self, uses: Callable[[DomainSeen], bool], what: str) -> None:
        """Refused when a domain of this host, anyone's, has it: as defined or as it runs."""
        user = find_user(self.ports, uses)
        if user is not None:
            raise Refused(f"domain {user} has {what}; it stays while that is there")

    def _remove_old(self, now: float) -> None:
        """What was set aside long enough ago is removed."""
        for name in self.ports.disks.list_set_aside():
            aside_at = float(name.rpartition("-")[2])
            if now - aside_at > self.policy.keep_s:
                self.ports.disks.ensure_set_aside_removed(name)
                log.warning("set_aside_removed", name=name)


def _owner_of(orphan: Orphan) -> InstanceId:
    assert orphan.stray.instance_id is not None  # noqa: S101 - what has no owner is never dealt with
    return orphan.stray.instance_id
