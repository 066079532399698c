"""The part of the edge that is the timetable's: which task does which row, and how a row reaches every host.

Knows of Celery only how a task is registered and sent; when a run may begin, and what is recorded of it, is `ticking`; what is
done is each task's own module.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from beat_schedule import SLICES, expires_s_for
from tasks.build_time_out import TIME_OUT_BUILDS
from tasks.host_watch import CHECK_HOSTS
from tasks.image_upkeep import CLEAN_IMAGE_CACHE, PREWARM_IMAGES
from tasks.keeping import KEEP_RECORDS
from tasks.monitoring import MONITOR
from tasks.node import Node
from tasks.orphans import CHECK as CHECK_ORPHANS
from tasks.reclaiming import RECLAIM_INSTANCES, RETRY_DELETES
from tasks.replug import CHECK
from tasks.ticking import checked_period_s
from tasks.usage_audit import AUDIT_USAGE
from taskvisor.compute.power_sync import Look
from taskvisor.model.errors import Refused, TaskvisorError
from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.operation import Facts
from taskvisor.model.queues import COMPUTE_QUEUE, control_queue, steps_queue
from taskvisor.model.tick import Counts
from taskvisor.timetable import BY_TASK, Where

log = structlog.get_logger(__name__)

SWEEP, FAN_OUT, TRACK, SYNC_ALL = "operation.sweep", "host.fan_out", "host.track", "host.sync_power_states"
GRACE_S = 15
"""Between telling a run that its time is up and killing its process."""
LIMIT_S = 300
"""What looks at all that a host has, or at all operations, takes a second or two; what hangs must not keep the node."""
SLOW_LIMIT_S = 3600
"""A fetch of a large image."""
SWEEP_LIMIT_S = 600
ORPHANS_LIMIT_S = 600
"""A domain that is switched off may take QEMU's fifteen seconds; what is not reached is the next look's."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """What a row's task does on the node that takes it up. `period_s` is None when it was asked for out of turn."""

    work: Callable[[Node, float | None], Counts]
    says: str
    limit_s: int = LIMIT_S


class TickTasks:
    """The periodic tasks, of one app."""

    def __init__(
        self,
        app: Celery,
        node: Callable[[], Node],
        *,
        sweep_images: Callable[[], object],
        sweep_drains: Callable[[], object],
    ) -> None:
        """`sweep_images`: asks again for what image deletions wait for. `sweep_drains`: carries on forgotten drains."""
        self._app = app
        self._node = node
        self._sweep_images = sweep_images
        self._sweep_drains = sweep_drains

    @property
    def ticks(self) -> dict[str, Tick]:
        """What each task of the timetable does, by its name."""
        return {
            SWEEP: Tick(work=self._sweep, says="Send on what has lost its message.", limit_s=SWEEP_LIMIT_S),
            CHECK_HOSTS: Tick(
                work=lambda node, _: node.host_watch.run(), says="Tell which hosts fell silent or came back."
            ),
            TIME_OUT_BUILDS: Tick(
                work=lambda node, _: node.build_time_out.run(), says="Cancel builds that take too long."
            ),
            RETRY_DELETES: Tick(
                work=lambda node, _: node.reclaimer.retry_deletes(), says="Ask again for deletes that failed half-way."
            ),
            RECLAIM_INSTANCES: Tick(
                work=lambda node, _: node.reclaimer.reclaim(),
                says="Ask for the end of what was deleted softly for long.",
            ),
            TRACK: Tick(work=_track, says="Report what this host has."),
            MONITOR: Tick(work=lambda node, _: node.monitor.run(), says="Measure this host and its guests."),
            SYNC_ALL: Tick(work=_sync_power_states, says="Let the records follow this host's hypervisor."),
            CHECK: Tick(
                work=lambda node, _: {"restored": node.plugs.check()},
                says="Restore the plugs of guests that run here, and let what surrounds this host's networks follow the records.",
            ),
            CHECK_ORPHANS: Tick(
                work=lambda node, _: {"orphans": node.orphans.run()},
                says="Put in quarantine what this host has and no record is of, and do what is due about what was confirmed.",
                limit_s=ORPHANS_LIMIT_S,
            ),
            KEEP_RECORDS: Tick(
                work=lambda node, _: {"kept": node.keeper.keep()},
                says="Keep copies of this host's records beside what they are about, and see whether the store has lost them.",
            ),
            CLEAN_IMAGE_CACHE: Tick(
                work=lambda node, _: node.image_upkeep.clean(),
                says="Let go of images that nobody builds from any more.",
            ),
            PREWARM_IMAGES: Tick(
                work=lambda node, _: node.image_upkeep.prewarm(),
                says="Fetch images that builds will ask for.",
                limit_s=SLOW_LIMIT_S,
            ),
            AUDIT_USAGE: Tick(work=lambda node, _: node.usage_audit.run(), says="Tell what each instance here had."),
        }

    def register(self) -> None:
        """Every task of the timetable, and the one that sends a row's task to the hosts."""
        for name, tick in self.ticks.items():
            self._register(name, tick)

        def fan_out(task: str, period_s: float) -> None:
            """Send a host's periodic task to the next quarter of the live hosts."""
            self._fan_out(task, period_s)

        self._app.task(
            fan_out,
            name=FAN_OUT,
            shared=False,
            send_events=False,  # see below
            ignore_result=True,
            throws=(TaskvisorError,),
            soft_time_limit=LIMIT_S,
            time_limit=LIMIT_S + GRACE_S,
        )

    def send_events(self) -> None:
        """Tell Flower, and whoever else listens to Celery's events, of every run."""
        for name in (*self.ticks, FAN_OUT):
            self._app.tasks[name].send_events = True

    def ask(self, name: str, operation_id: OperationId, fields: Facts) -> None:
        """Ask for an operation, as any producer does. What can't be sent now is asked for at a later look."""
        try:
            self._app.send_task(
                name,
                kwargs=dict(fields),
                queue=COMPUTE_QUEUE,
                task_id=operation_id,
                expires=expires_s_for(LIMIT_S),
            )
        except (OperationalError, *self._app.connection_for_write().connection_errors) as silence:
            log.warning("operation_not_asked_for", task=name, op=operation_id, reason=str(silence))

    def _register(self, name: str, tick: Tick) -> None:
        def run(period_s: float | None = None) -> None:
            node = self._node()
            if BY_TASK[name].where is Where.FLEET:
                limit_s = tick.limit_s + GRACE_S
                node.ticker.run_for_fleet(name, lambda: tick.work(node, period_s), limit_s=limit_s, period_s=period_s)
            else:
                node.ticker.run_here(name, lambda: tick.work(node, period_s), period_s)

        run.__doc__ = tick.says
        self._app.task(
            run,
            name=name,
            shared=False,
            send_events=False,  # Flower opens with what somebody asked for; of ticks, `taskvisor ticks` tells more
            ignore_result=True,
            throws=(TaskvisorError,),
            soft_time_limit=tick.limit_s,
            time_limit=tick.limit_s + GRACE_S,
        )

    def _sweep(self, node: Node, period_s: float | None) -> Counts:
        del period_s
        sent_on = node.sweep.run()
        self._sweep_images()
        self._sweep_drains()
        return {"sent_on": sent_on}

    def _fan_out(self, task: str, period_s: float) -> None:
        """One message to each live host whose name falls into the next slice: over a period, each host gets one."""
        period_s, row = checked_period_s(period_s), BY_TASK.get(task) if isinstance(task, str) else None
        if row is None or row.where is Where.FLEET:
            raise Refused(f"task: {task!r}: is no periodic task of hosts; see docs/timetable.md")
        store = self._node().door.store
        turn = store.ticks.next_slice(task) % SLICES
        queue_of = steps_queue if row.where is Where.STEPS else control_queue
        options: dict[str, Any] = {"expires": expires_s_for(period_s), "ignore_result": True}
        hosts = [host for host, alive in store.hosts.list_alive() if alive and slice_of(host) == turn]
        with self._app.producer_or_acquire() as producer:  # one connection for all of them
            for host in hosts:
                self._app.send_task(
                    task, kwargs={"period_s": period_s}, queue=queue_of(host), producer=producer, **options
                )


def slice_of(host: HostName) -> int:
    """Which part of a period's fan-outs goes to the host: by its name, the same for ever."""
    return zlib.crc32(host.encode()) % SLICES


def _track(node: Node, period_s: float | None) -> Counts:
    del period_s
    node.report.track()
    return {}


def _sync_power_states(node: Node, period_s: float | None) -> Counts:
    node.recovery.ensure_resumed()  # first: afterwards nobody could tell which guests ran
    look = Look.FIRST if period_s is None else Look.CONFIRMING
    return {"changed": node.report.sync_power_states(look)}
