"""What beat keeps true: lost messages are sent again, hosts report what they have, records follow what hypervisors say.

Invariant: none of this destroys anything on a host.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from tasks.asking import Ask, new_operation_id
from tasks.placing import TellNone, place
from tasks.resolving import resolve
from tasks.store import Store
from tasks.tracking import Tracker
from taskvisor.compute.placement import Placer
from taskvisor.compute.power_sync import Look, synced
from taskvisor.flow import transitions
from taskvisor.flow.ports import Disks, Hypervisor
from taskvisor.flow.recovery import is_overdue, wants_settling
from taskvisor.flow.runner import ports_gone, settled_with, with_successor
from taskvisor.flow.step import Flows
from taskvisor.model.change import Change, LeaseMove, Loaded
from taskvisor.model.errors import Conflicting, Fenced, NoCapacity, Refused, StoreConflict, UnreadableRecord
from taskvisor.model.history import Cause
from taskvisor.model.ids import HostName, InstanceId, OperationId
from taskvisor.model.network import Port
from taskvisor.model.observed import DomainFacts
from taskvisor.model.operation import Operation
from taskvisor.model.placement import Explanation
from taskvisor.model.records import Claim, Instance
from taskvisor.model.spec import BuildSpec, parse_spec
from taskvisor.model.states import Phase, PowerPolicy
from taskvisor.model.sweep_finding import SweepFinding
from taskvisor.state.counters import CounterName, field_for

log = structlog.get_logger(__name__)

POWER_SYNC, GUEST_EVENT = "power_sync", "guest_event"
"""By whom an instance's states moved, when no operation moved them."""

FORGOTTEN_S = 600.0
"""An address given to a request that has not become an operation within this time is free again."""

Launch = Callable[[Operation], None]
"""Sends an operation on from where its journal says it is."""

TellOfPorts = Callable[[tuple[Port, ...]], None]
"""Tells the hosts concerned that these ports have gone or moved. It raises nothing: each host looks for itself in time."""

Reclaim = Callable[[HostName], int]
"""Puts requests that a silent host has in flight back into their queue; returns how many."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The guarantee behind the chains: what has made no progress is sent on, wherever its message went."""

    store: Store
    launch: Launch
    reclaim: Reclaim
    now: Callable[[], float]
    period_s: float

    def run(self) -> int:
        """Relaunch what is overdue, take back what silent hosts had in hand, free what was forgotten, drop what has expired.

        Returns how many operations were sent on.
        """
        now, found = self.now(), Counter[SweepFinding]()
        found[SweepFinding.REQUEST_OF_SILENT_HOST] += self._take_back_requests()
        for operation_id in self.store.catalog.list_unsettled(before=now - self.period_s):
            finding = self._sent_on(operation_id, now)
            if finding is not None:
                found[finding] += 1
        found[SweepFinding.FORGOTTEN_ADDRESS] += self._free_forgotten(now)
        self.store.catalog.forget_expired()
        self._count(found)
        return found[SweepFinding.OVERDUE_OPERATION]

    def _count(self, found: Counter[SweepFinding]) -> None:
        amounts = [
            (field_for(CounterName.SWEEP_FINDINGS, kind.value), number) for kind, number in found.items() if number
        ]
        if amounts:
            self.store.counters.add_amounts(amounts)

    def _take_back_requests(self) -> int:
        """A host that never comes back must not keep requests that no operation knows of yet. Twice taken is once let in."""
        taken = 0
        for host in self.store.hosts.list_not_taking():
            requests = self.reclaim(host)
            if requests:
                log.warning("requests_taken_back", host=host, requests=requests)
            taken += requests
        return taken

    def _sent_on(self, operation_id: OperationId, now: float) -> SweepFinding | None:
        try:
            loaded = self.store.journal.load(operation_id)
            if loaded is not None and self._sent_on_if_overdue(loaded.operation, now):
                return SweepFinding.OVERDUE_OPERATION
        except (StoreConflict, Fenced):
            return None  # it moved while we looked: somebody carries it on
        except UnreadableRecord as problem:
            log.error("operation_not_swept", op=operation_id, reason=str(problem))  # noqa: TRY400 - says all there is
            return SweepFinding.UNREADABLE_OPERATION
        except Exception as error:
            log.exception("operation_not_swept", op=operation_id, reason=str(error))
            return SweepFinding.UNREADABLE_OPERATION
        return None

    def _sent_on_if_overdue(self, operation: Operation, now: float) -> bool:
        if operation.phase is Phase.WAITING:
            return False  # its holder is swept; that one hands over
        incarnation = self.store.hosts.read_incarnation(operation.host)
        if not is_overdue(operation, incarnation=incarnation, period_s=self.period_s, now=now):
            return False
        noted = transitions.relaunched(operation, now)
        self.store.journal.commit(Change(before=operation, after=noted, lease=LeaseMove.WATCH))
        self.launch(noted)
        log.warning("operation_sent_again", op=operation.id, step=operation.current_step, relaunches=noted.relaunches)
        return True

    def _free_forgotten(self, now: float) -> int:
        freed = 0
        for port in self.store.addresses.list_forgotten(now - FORGOTTEN_S):
            if self.store.addresses.give_back(port, noted_before=now - FORGOTTEN_S):
                log.info("forgotten_port_freed", port=port.port_id)
                freed += 1
        return freed


@dataclass(frozen=True, kw_only=True)
class Settler:
    """Ends what is rolled back completely: on the next host if it is to be tried there, else for good."""

    store: Store
    flows: Flows
    now: Callable[[], float]
    max_reschedules: int
    tell: TellOfPorts
    placer: Placer = field(default_factory=Placer, compare=False)

    def settle(self, operation_id: OperationId) -> Operation | None:
        """The operation that is to be sent on: this one from its new host, or the one that waited for it. None when neither."""
        loaded = self.store.journal.load(operation_id)
        if loaded is None or not wants_settling(loaded.operation) or loaded.operation.runner is not None:
            return None
        flow = self.flows[loaded.operation.flow]
        if not transitions.wants_next_host(loaded.operation, flow):
            return self._ended(loaded)
        if loaded.operation.told_to_stop:
            stopped = transitions.cancelled(loaded.operation, flow, self.now())
            return self._ended(replace(loaded, operation=replace(stopped, revision=loaded.operation.revision)))
        return self._moved_or_ended(loaded)

    def _moved_or_ended(self, loaded: Loaded) -> Operation | None:
        operation = loaded.operation
        if len(operation.excluded_hosts) >= self.max_reschedules:
            return self._ended(loaded)
        told: list[Explanation] = []
        try:
            return self._moved(loaded, told.append)
        except (NoCapacity, Refused) as nowhere:
            assert operation.failure is not None  # noqa: S101 - nothing is rolled back without one
            said = f"{operation.failure.message}; and elsewhere: {nowhere}"
            ending = replace(operation, failure=replace(operation.failure, message=said))
            for why in told:
                ending = replace(ending, placement=why.rows, choice=why.choice)
            return self._ended(replace(loaded, operation=ending))

    def _moved(self, loaded: Loaded, tell_none: TellNone) -> Operation:
        operation, instance = loaded.operation, loaded.instance
        assert instance is not None  # noqa: S101 - a build that is not settled has its record
        spec = parse_spec(BuildSpec, dict(operation.request))
        resolved = resolve(self.store, spec, flavor=instance.flavor)
        ask = replace(resolved.ask, excluded=(*operation.excluded_hosts, operation.host))

        def claiming(claim: Claim, why: Explanation) -> Operation:
            moved = replace(transitions.moved_to(operation, claim.host, why.rows, self.now()), choice=why.choice)
            self.store.journal.commit(
                Change(
                    before=operation,
                    after=moved,
                    instance=replace(instance, host=claim.host, place=claim.place),
                    claim=claim,
                )
            )
            return moved

        log.info("operation_rescheduled", op=operation.id, from_host=operation.host)
        moved = place(
            self.store,
            self.placer,
            ask,
            instance.id,
            claiming,
            group=resolved.server_group,
            tell_none=tell_none,
        )
        self.tell(instance.ports)
        return moved

    def _ended(self, loaded: Loaded) -> Operation | None:
        now = self.now()
        settled, settlement = settled_with(loaded.operation, loaded.instance, self.flows[loaded.operation.flow], now)
        change = Change(
            before=loaded.operation,
            after=replace(settled, revision=settled.revision + 1, updated_at=now),
            lease=LeaseMove.RELEASE,
            instance=loaded.instance if settlement.forget_instance else settlement.instance,
            forget_instance=settlement.forget_instance,
            released_image_name=settlement.released_image_name,
            released_volumes=settlement.released_volumes,
            released_ports=settlement.released_ports,
        )
        change = with_successor(change, self.store.journal, now)
        self.store.journal.commit(change)
        self.tell(ports_gone(loaded.instance, change))
        return change.successor


@dataclass(frozen=True, kw_only=True)
class HostReport:
    """What a host tells of itself, from the hypervisor and the file system as they are now."""

    store: Store
    host: HostName
    hypervisor: Hypervisor
    disks: Disks
    tracker: Tracker
    now: Callable[[], float]
    ask: Ask
    power_policy: PowerPolicy = PowerPolicy.FOLLOW

    def track(self) -> None:
        """Nova's update_available_resource: the inventory is read and written."""
        self.tracker.track()

    def sync_power_states(self, look: Look = Look.FIRST) -> int:
        """Nova's _sync_power_states: records of instances at rest follow the hypervisor. Returns how many changed.

        A `look` that confirms puts instances into error whose domain was gone at the look before.
        """
        began_at = self.now()
        instances = self.store.catalog.list_instances(self.host)  # first: a guest made since then is not missed below
        domains = {domain.instance_id: domain for domain in self.hypervisor.list_domains()}
        changed = sum(self._follow(instance, domains.get(instance.id), look, POWER_SYNC) for instance in instances)
        self.store.hosts.note_power_synced(self.host, began_at)
        return changed

    def sync_power_state(self, instance_id: InstanceId) -> bool:
        """The same for one guest of which something was heard. True when its record changed.

        Whoever heard of it may be mistaken or late: nothing is done for a guest that is not, or no more, this host's.
        """
        instance = self.store.catalog.read_instance(instance_id)
        if instance is None or instance.host != self.host:
            return False
        return self._follow(instance, self.hypervisor.read_domain(instance_id), Look.FIRST, GUEST_EVENT)

    def _follow(self, instance: Instance, domain: DomainFacts | None, look: Look, by: str) -> bool:
        following = synced(instance, domain, policy=self.power_policy, look=look, now=self.now())
        if following is None or (following.gone and self.hypervisor.read_domain(instance.id) is not None):
            return False
        wanted = following.record
        if wanted != instance and not self._written(instance, wanted, self._cause(by, wanted)):
            return False
        if following.gone:
            self.store.counters.add(CounterName.DOMAINS_GONE)
            log.error("domain_gone", instance=instance.id, name=instance.name, host=self.host)
        if following.warn:
            log.warning("deleted_guest_runs", instance=instance.id, name=instance.name, power=wanted.power_state.label)
        if following.stop:
            self.ask("instance.stop", new_operation_id(), {"instance": instance.id})
            log.info("stop_asked", instance=instance.id, power=wanted.power_state.label)
        return True

    def _cause(self, by: str, wanted: Instance) -> Cause:
        return Cause(by=by, at=self.now(), reason=f"the hypervisor says {wanted.power_state.label}")

    def _written(self, instance: Instance, wanted: Instance, cause: Cause) -> bool:
        try:
            self.store.admission.write_at_rest(instance, wanted, cause)
        except Conflicting:
            return False  # an operation has begun since: it writes the record itself
        log.info("power_state_synced", instance=instance.id, power=wanted.power_state.label, vm=wanted.vm_state)
        return True
