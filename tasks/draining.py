"""Carrying drains on: look at the host's records, write what was decided, then ask for it.

The record is written before anything is asked for, and every operation's id follows from the drain's: whoever dies in between,
the next look asks for the same. Stops and starts are ordinary requests through the door. No host is touched here.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from tasks.door import Admitted, Door
from taskvisor.compute.drain import Look, Situation, advanced, already_so, refused
from taskvisor.model.drain import Drain, DrainPhase
from taskvisor.model.errors import Busy, Conflicting, Refused, StoreConflict, TaskvisorError, UnreadableRecord
from taskvisor.model.host_mark import HostAct, HostEvent
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.operation import Operation
from taskvisor.state.drains import StoredDrain

log = structlog.get_logger(__name__)

Launch = Callable[[Operation], None]
"""Sends an operation on from where its journal says it is."""


@dataclass(frozen=True, kw_only=True)
class Drainer:
    """Carries on the drains of one store. `at_once`: so many guests of a host are stopped or started together."""

    door: Door
    launch: Launch
    now: Callable[[], float]
    at_once: int

    def advance_all(self, *, not_looked_at_for_s: float) -> tuple[HostName, ...]:
        """Each drain that nobody has looked at for so long is carried on. Returns the hosts that want another look soon."""
        soon = []
        for host in self.door.store.drains.list_active():
            try:
                seen = self.door.store.drains.read(host)
                if seen is None or self.now() - seen.drain.looked_at < not_looked_at_for_s:
                    continue
                soon += [host] if self._advance(seen) else []
            except TaskvisorError as problem:
                log.warning("drain_not_advanced", host=host, reason=str(problem))
        return tuple(soon)

    def advance(self, host: HostName, revision: int) -> bool:
        """The drain is carried on if it is at that revision: of messages that came twice, one does it. True: look again soon."""
        seen = self.door.store.drains.read(host)
        if seen is None or seen.drain.revision != revision or not seen.drain.phase.is_active:
            return False
        return self._advance(seen)

    def read_revision(self, host: HostName) -> int | None:
        """How often the host's drain was written; None when there is none."""
        seen = self.door.store.drains.read(host)
        return None if seen is None else seen.drain.revision

    def situation_of(self, host: HostName, drain: Drain | None = None) -> Situation:
        """What is so on the host by the records. Refused when there is no such host."""
        store, catalog = self.door.store, self.door.store.catalog
        there = store.hosts.find(host)
        asked = {errand.operation_id for errand in drain.errands.values()} if drain is not None else set()
        operation_ids, instance_ids = catalog.list_unsettled_on(host), catalog.list_instance_ids(host)
        going, instances = catalog.read_operations(operation_ids), catalog.read_instances(instance_ids)
        read: set[str] = {one.id for one in going} | {one.id for one in instances}
        return Situation(
            host=there,
            instances=instances,
            under_way=tuple(one for one in going if not one.phase.settled),
            errands={operation.id: operation for operation in catalog.read_operations(asked)},
            unreadable=tuple(sorted({*operation_ids, *instance_ids} - read)),
        )

    def _advance(self, seen: StoredDrain) -> bool:
        host = seen.drain.host
        situation = self.situation_of(host, seen.drain)
        look = advanced(seen.drain, situation, self.now(), self.at_once)
        written = self._written(look, seen, situation.host.disabled_reason)
        if written is None:
            return False
        for operation_id in look.cancels:
            self._cancel(operation_id)
        self._ask_all(look, written)
        return look.drain.phase.is_active and any(one.problem is None for one in look.drain.errands.values())

    def _written(self, look: Look, seen: StoredDrain, disabled: str | None) -> StoredDrain | None:
        """None: somebody else carries it on."""
        drain = look.drain
        ended = None if drain.phase.is_active else _event_of_end(drain)
        try:
            written = self.door.store.drain_changes.write(drain, seen, disabled, ended)
        except StoreConflict:
            return None
        if ended is not None:
            log.info("drain_ended", host=drain.host, phase=drain.phase.value, in_the_way=len(drain.prospects))
        return written

    def _cancel(self, operation_id: str) -> None:
        try:
            operation = self.door.cancel(operation_id)
        except TaskvisorError as problem:
            log.warning("build_not_cancelled_for_drain", op=operation_id, reason=str(problem))
            return
        if not operation.phase.settled:
            self.launch(operation)

    def _ask_all(self, look: Look, written: StoredDrain) -> None:
        """What the door says of those that it does not let in is written too: they are not asked for for ever."""
        drain = written.drain
        for instance_id in look.asks:
            drain = self._asked(drain, instance_id)
        if drain is not written.drain:
            try:
                self.door.store.drain_changes.write(drain, written)
            except StoreConflict:
                log.info("drain_moved_meanwhile", host=drain.host)

    def _asked(self, drain: Drain, instance_id: InstanceId) -> Drain:
        errand = drain.errands[instance_id]
        try:
            answer = self.door.change(errand.kind.value, errand.operation_id, {"instance": instance_id})
        except (Busy, Conflicting, UnreadableRecord) as later:
            log.info("errand_not_yet_let_in", host=drain.host, instance=instance_id, reason=str(later))
            return drain
        except Refused as refusal:
            return refused(drain, instance_id, str(refusal))
        if not isinstance(answer, Admitted):
            return already_so(drain, instance_id)
        self.launch(answer.operation)
        return drain


def _event_of_end(drain: Drain) -> HostEvent:
    assert drain.ended_at is not None  # noqa: S101 - it has just ended
    outcome = (
        drain.phase.value if drain.phase is not DrainPhase.PARTIAL else f"partial, {len(drain.prospects)} in the way"
    )
    return HostEvent(
        act=HostAct.DRAIN_ENDED,
        host=drain.host,
        request_id=drain.id,
        by=drain.by,
        reason=drain.reason,
        outcome=outcome,
        at=drain.ended_at,
    )
