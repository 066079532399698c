"""How a node of ours hooks into a Celery worker's start: what runs before it consumes, and what watches its pool.

See https://docs.celeryq.dev/en/stable/userguide/extending.html#blueprints.
"""

from typing import Any, ClassVar

import structlog
from celery import Celery, bootsteps
from celery.signals import worker_init

from taskvisor.model.errors import TaskvisorError
from workers.host import Heartbeat, HostNode

log = structlog.get_logger(__name__)

LOOK_FOR_DEATHS_S = 0.5


class StartHost(bootsteps.StartStopStep):
    """init_host and pre_start_hook, once, before anything is consumed; then the heartbeat."""

    requires = ("celery.worker.consumer.connection:Connection",)
    host_node: ClassVar[HostNode]

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._heartbeat: Heartbeat | None = None

    def start(self, consumer: Any) -> None:
        del consumer
        if self._heartbeat is not None:
            return  # a reconnect is no start: what runs here goes on
        if self.host_node.runs_control:
            self.host_node.pre_start_hook()
        if self.host_node.runs_steps:
            self.host_node.init_host()
        self._heartbeat = Heartbeat(self.host_node)
        self._heartbeat.start()

    def shutdown(self, consumer: Any) -> None:
        del consumer
        if self._heartbeat is not None:
            self._heartbeat.stop()


class WatchPool(bootsteps.StartStopStep):
    """Notices at once when a pool process has died, and sends on what it ran."""

    requires = ("celery.worker.components:Pool", "celery.worker.components:Hub")
    host_node: ClassVar[HostNode]

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._known: frozenset[int] = frozenset()

    def start(self, worker: Any) -> None:
        if self.host_node.runs_steps and worker.hub is not None and hasattr(worker.pool, "_pool"):
            worker.hub.call_repeatedly(LOOK_FOR_DEATHS_S, self._look, worker)

    def _look(self, worker: Any) -> None:
        alive = _living_pids(worker.pool)
        dead, self._known = self._known - alive, alive
        if not dead:
            return
        try:
            sent = self.host_node.relaunch_after(dead)
        except TaskvisorError as silence:
            self._known |= dead  # look again: they stay dead
            log.warning("relaunch_delayed", reason=str(silence))
            return
        log.warning("pool_process_died", pids=sorted(dead), operations_sent_on=sent)


def _living_pids(pool: Any) -> frozenset[int]:
    """The processes of a prefork pool that have not ended; a pool that is closing down has none."""
    processes = getattr(pool._pool, "_pool", ())
    return frozenset(process.pid for process in processes if process.exitcode is None)


def install(app: Celery, host_node: HostNode) -> None:
    """Make the app's workers nodes of this host."""
    StartHost.host_node = WatchPool.host_node = host_node
    app.steps["consumer"].add(StartHost)
    app.steps["worker"].add(WatchPool)
    worker_init.connect(lambda sender, **_: host_node.take_identity(sender), weak=False)
