"""What a host does for its own guests at its start, once its unsettled operations are sent on: heals records that were left,
and starts the guests that ran when the machine went down, where that is wished.

Knows no Celery. Twice is once: a resumption's id follows from the boot and the guest, so that it is asked once a boot,
whichever process dies meanwhile, and the boot is noted after the last was asked.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import structlog

from tasks.door import Admitted, Door
from tasks.store import Store
from taskvisor.compute.recovery import at_rest, wants_resuming, was_left
from taskvisor.flow.ports import Hypervisor
from taskvisor.model.change import Change, LeaseMove
from taskvisor.model.errors import Conflicting, Refused, StoreConflict
from taskvisor.model.ids import HostName, InstanceId, OperationId, resumption_id_for
from taskvisor.model.observed import DomainFacts
from taskvisor.model.operation import Operation
from taskvisor.model.records import Instance
from taskvisor.model.states import RebootType

log = structlog.get_logger(__name__)

REBOOT = "instance.reboot"
"""A hard one, as in Nova: definition, links and volumes are made anew from the records before the guest starts."""


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """Whether guests that ran when the host went down are started, `at_once` of them, and then one each `stagger_s`."""

    wished: bool
    at_once: int
    stagger_s: float


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """What came of it."""

    healed: int
    resumed: int


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """One host's, in one boot of it."""

    store: Store
    host: HostName
    hypervisor: Hypervisor
    door: Door
    launch: Callable[[Operation], None]
    now: Callable[[], float]
    boot_id: str
    resumption: Resumption

    def run(self) -> Recovered:
        """Records that say something is being done while nothing is, are at rest; guests are resumed as `ensure_resumed` says.

        CannotAsk when records or hypervisor can't be asked: nothing was concluded then.
        """
        recovered = Recovered(healed=self._healed(), resumed=self.ensure_resumed())
        log.info("host_recovered", host=self.host, healed=recovered.healed, resumed=recovered.resumed)
        return recovered

    def ensure_resumed(self) -> int:
        """Guests that ran when the host went down are about to be started, once for each boot of it; returns how many are.

        To be called before records follow the hypervisor: afterwards they would say that their guests were stopped. The
        first boot that is ever seen is only noted: nobody knows what ran before it.
        """
        former = self.store.identities.read_recovered_boot(self.host)
        if former == self.boot_id:
            return 0
        resumed = self._resumed() if former is not None and self.resumption.wished else 0
        self.store.identities.note_recovered_boot(self.host, self.boot_id)
        if former is not None:
            log.info("boot_recovered_from", host=self.host, boot_id=self.boot_id, former=former, resumed=resumed)
        return resumed

    def _healed(self) -> int:
        left = [instance for instance in self.store.catalog.list_instances(self.host) if was_left(instance)]
        if not left:
            return 0
        domains = self._domains()
        under_way = self._under_way()
        return sum(self._heal(instance, domains.get(instance.id)) for instance in left if instance.id not in under_way)

    def _heal(self, instance: Instance, domain: DomainFacts | None) -> bool:
        """True when nobody held it, and it is at rest now."""
        resting = at_rest(instance, domain, self.now())
        was = (instance.task_state or instance.vm_state).value
        try:
            self.store.admission.heal_at_rest(instance, resting, was=was, at=self.now())
        except Conflicting:
            return False  # somebody holds it: its operation is sent on
        log.warning(
            "left_record_healed", instance_id=instance.id, name=instance.name, was=was, vm_state=resting.vm_state.value
        )
        return True

    def _under_way(self) -> frozenset[InstanceId]:
        """Instances that an unsettled operation of this host is about, whatever leases say.

        UnreadableRecord when one of them can't be read: it may be about any.
        """
        loaded = map(self.store.journal.load, self.store.catalog.list_unsettled_on(self.host))
        return frozenset(one.operation.instance_id for one in loaded if one is not None)

    def _resumed(self) -> int:
        domains = self._domains()
        instances = sorted(self.store.catalog.list_instances(self.host), key=lambda one: (one.created_at, one.name))
        begun = 0
        for instance in instances:
            known = self.store.catalog.read_operation(self._id_for(instance))  # asked before we died
            if known is None and not wants_resuming(instance, domains.get(instance.id)):
                continue
            begun += self._begin(instance, begun)
        return begun

    def _begin(self, instance: Instance, place: int) -> bool:
        """The guest's hard reboot is let in, to be sent when its turn has come. False when somebody else has it in hand."""
        try:
            answer = self.door.change(
                REBOOT, self._id_for(instance), {"instance": instance.id, "type": RebootType.HARD.value}
            )
        except (Conflicting, Refused) as refusal:
            log.warning("guest_not_resumed", instance_id=instance.id, name=instance.name, reason=str(refusal))
            return False
        if not isinstance(answer, Admitted):
            return False
        if not answer.operation.phase.settled:
            self.launch(self._put_off(answer.operation, place))
        return True

    def _put_off(self, operation: Operation, place: int) -> Operation:
        """The operation with its turn noted in the journal, so that a lost message does not bring it forward."""
        wait_s = max(0, place + 1 - self.resumption.at_once) * self.resumption.stagger_s
        if wait_s == 0 or operation.not_before is not None or operation.timeline or operation.runner is not None:
            return operation
        later = replace(
            operation,
            not_before=self.now() + wait_s,
            revision=operation.revision + 1,
            updated_at=self.now(),
        )
        try:
            self.store.journal.commit(Change(before=operation, after=later, lease=LeaseMove.WATCH))
        except StoreConflict:
            return operation  # somebody carries it on already
        return later

    def _id_for(self, instance: Instance) -> OperationId:
        return resumption_id_for(self.boot_id, instance.id)

    def _domains(self) -> Mapping[InstanceId, DomainFacts]:
        return {domain.instance_id: domain for domain in self.hypervisor.list_domains()}
