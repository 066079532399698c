"""What a host's instances are to give back: those whose delete failed half-way, and those that were deleted softly for long.

Each is asked for as an ordinary operation. A reclaim deletes only what is deleted softly when it is let in, so that a restore
that came a moment before wins. (Domains and files that no record knows of are not looked at here: they are the audit's.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID, uuid5

import structlog

from tasks.asking import Ask, new_operation_id
from tasks.soft_delete import RECLAIM
from tasks.store import Store
from taskvisor.compute.patience import Waited, waited_after
from taskvisor.model.allowed import DELETE
from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.records import Instance
from taskvisor.model.states import TaskState, VmState
from taskvisor.model.tick import Counts

log = structlog.get_logger(__name__)

RETRY_DELETES, RECLAIM_INSTANCES = "host.retry_deletes", "host.reclaim"
HALF_DELETED = frozenset({VmState.ERROR, VmState.SOFT_DELETED})
"""In which states a delete, or a reclaim, that failed has left its instance; one that goes on has it in others too."""
DELETES_LIMIT = 5
"""A delete that failed is asked for so often again; Nova's maximum_instance_delete_attempts. A person's retry is not counted."""


@dataclass(frozen=True, kw_only=True)
class Reclaimer:
    """One host's."""

    store: Store
    host: HostName
    ask: Ask
    now: Callable[[], float]
    reclaim_s: float
    period_s: float
    """Of the look at what was deleted softly."""

    def retry_deletes(self) -> Counts:
        """Each instance here that is half deleted, and that nothing holds, is asked to be deleted again."""
        halves = [instance for instance in self.store.catalog.list_instances(self.host) if _is_half_deleted(instance)]
        asked = sum(self._asked_again(instance) for instance in halves)
        return {"half_deleted": len(halves), "asked": asked}

    def reclaim(self) -> Counts:
        """Each instance here that was seen deleted softly for `reclaim_s` is asked to be deleted for good."""
        soft = {
            instance.id: instance
            for instance in self.store.catalog.list_instances(self.host)
            if _is_soft_deleted(instance)
        }
        key = f"{RECLAIM_INSTANCES}:{self.host}"
        before = {one: Waited(waited_s=s, seen_at=at) for one, (s, at) in self.store.waiting.read(key).items()}
        waited = waited_after(before, soft, now=self.now(), period_s=self.period_s)
        self.store.waiting.write(key, {one: (w.waited_s, w.seen_at) for one, w in waited.items()})
        overdue = [instance for instance in soft.values() if waited[instance.id].waited_s >= self.reclaim_s]
        for instance in overdue:
            log.info("instance_reclaimed", instance=instance.id, name=instance.name)
            self.ask(RECLAIM, new_operation_id(), {"instance": instance.id})
        return {"soft_deleted": len(soft), "asked": len(overdue)}

    def _asked_again(self, instance: Instance) -> bool:
        seen = self.store.admission.read_holding(instance.id)
        if seen is None or seen.lease is not None:
            return False  # it goes on, or it is STUCK: a person must look
        for number in range(1, DELETES_LIMIT + 1):
            operation_id = delete_id_for(instance, number)
            if self.store.catalog.read_operation(operation_id) is None:
                log.warning("delete_asked_again", instance=instance.id, name=instance.name, number=number)
                self.ask(DELETE, operation_id, {"instance": instance.id})
                return True
        log.error("delete_given_up", instance=instance.id, name=instance.name, asked=DELETES_LIMIT)
        return False


def delete_id_for(instance: Instance, number: int) -> OperationId:
    """The id of the delete that is asked for that often: known, so that each is asked for once."""
    return OperationId(str(uuid5(UUID(instance.id), f"delete again {number}")))


def _is_half_deleted(instance: Instance) -> bool:
    return instance.task_state is TaskState.DELETING and instance.vm_state in HALF_DELETED


def _is_soft_deleted(instance: Instance) -> bool:
    return instance.vm_state is VmState.SOFT_DELETED and instance.task_state is None
