"""Builds that take too long are cancelled, and so rolled back, with their reason; nobody waits for ever."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from tasks.door import BUILD, Door
from tasks.store import Store
from taskvisor.compute.patience import Waited, waited_after
from taskvisor.model.errors import Conflicting, Refused, UnreadableRecord
from taskvisor.model.ids import OperationId
from taskvisor.model.operation import Operation
from taskvisor.model.states import Phase
from taskvisor.model.tick import Counts
from taskvisor.state.counters import CounterName

log = structlog.get_logger(__name__)

TIME_OUT_BUILDS = "builds.time_out"


@dataclass(frozen=True, kw_only=True)
class BuildTimeOut:
    """The fleet's. How long a build is under way is counted by its looks, not read off a clock that may jump."""

    store: Store
    door: Door
    launch: Callable[[Operation], None]
    now: Callable[[], float]
    limit_s: float
    period_s: float

    def run(self) -> Counts:
        """Each build that was seen under way for `limit_s` is told to stop. Counts those under way, and those told."""
        building = frozenset(
            operation.id for operation in self.store.catalog.list_under_way() if _is_building(operation)
        )
        before = {
            one: Waited(waited_s=s, seen_at=at) for one, (s, at) in self.store.waiting.read(TIME_OUT_BUILDS).items()
        }
        waited = waited_after(before, building, now=self.now(), period_s=self.period_s)
        overdue = [OperationId(one) for one, so_far in waited.items() if so_far.waited_s >= self.limit_s]
        for operation_id in overdue:
            self._cancel(operation_id)
            del waited[operation_id]  # whoever tries it again has all the time anew
        self.store.waiting.write(TIME_OUT_BUILDS, {one: (w.waited_s, w.seen_at) for one, w in waited.items()})
        return {"under_way": len(building), "timed_out": len(overdue)}

    def _cancel(self, operation_id: OperationId) -> None:
        reason = (
            f"cancelled: the build was under way for more than {self.limit_s:g} s, the limit of"
            " TASKVISOR_INSTANCE_BUILD_TIMEOUT_S; its timeline says at which step it hung"
        )
        try:
            told = self.door.cancel(operation_id, reason)
        except (Conflicting, Refused, UnreadableRecord) as problem:
            log.warning("build_not_timed_out", op=operation_id, reason=str(problem))
            return
        if not told.phase.settled:
            self.launch(told)
            self.store.counters.add(CounterName.BUILDS_TIMED_OUT)
            log.warning("build_timed_out", op=operation_id, instance=told.instance_name, step=told.current_step)


def _is_building(operation: Operation) -> bool:
    return operation.flow == BUILD and operation.phase is Phase.RUNNING and not operation.told_to_stop
