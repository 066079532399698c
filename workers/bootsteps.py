"""How a node of ours hooks into a Celery worker's start: what runs before it consumes, and what watches its pool.

See https://docs.celeryq.dev/en/stable/userguide/extending.html#blueprints.
"""

from typing import TYPE_CHECKING, Any, ClassVar

import structlog
from celery import Celery, bootsteps
from celery.signals import worker_init, worker_ready

from taskvisor.model.errors import CannotAsk, TaskvisorError
from taskvisor.state.counters import CounterName
from workers.host import HostNode

if TYPE_CHECKING:
    from workers.listener import ListenerThread

log = structlog.get_logger(__name__)

LOOK_FOR_DEATHS_S = 0.5


class StartHost(bootsteps.StartStopStep):
    """Store and identity are looked at, then init_host and pre_start_hook, once, before anything is consumed.

    The heartbeat comes with post_start_hook, when the first message can be taken.
    """

    requires = ("celery.worker.consumer.connection:Connection",)
    host_node: ClassVar[HostNode]
    _is_started = False

    def start(self, consumer: Any) -> None:
        del consumer
        if self._is_started:
            return  # a reconnect is no start: what runs here goes on
        try:
            self._start_host()
        except CannotAsk as silence:  # in Celery's words, by which it connects anew and comes here again
            raise ConnectionError(str(silence)) from silence
        self._is_started = True

    def _start_host(self) -> None:
        self.host_node.check_store()
        self.host_node.check_plugins()
        self.host_node.check_identity()
        if self.host_node.runs_steps:
            self.host_node.init_host()
        if self.host_node.runs_control:
            self.host_node.pre_start_hook()

    def shutdown(self, consumer: Any) -> None:
        del consumer
        self.host_node.stop()


class WatchPool(bootsteps.StartStopStep):
    """Notices at once when a pool process has died, and sends on what it ran."""

    requires = ("celery.worker.components:Pool", "celery.worker.components:Hub")
    host_node: ClassVar[HostNode]

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._known: frozenset[int] = frozenset()

    def start(self, worker: Any) -> None:
        if self.host_node.runs_steps and worker.hub is not None and hasattr(worker.pool, "_pool"):
            self._known = _living_pids(worker.pool)  # now: one may run a step and die before the first look
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
        self.host_node.open_node().store.counters.add(CounterName.POOL_PROCESSES_DIED, len(dead))
        log.warning("pool_process_died", pids=sorted(dead), operations_sent_on=sent)


class ServeMetrics(bootsteps.StartStopStep):
    """Who takes requests tells Prometheus what it asks, from its own process, until that ends: a busy pool costs it nothing."""

    requires = ("celery.worker.components:Pool",)
    host_node: ClassVar[HostNode]

    def start(self, worker: Any) -> None:
        del worker
        settings = self.host_node.settings
        if not self.host_node.takes_requests or settings.metrics_port == 0:
            return
        # Imported here, so that nodes that serve none do not carry what it takes.
        from workers.metrics import collector_for  # noqa: PLC0415
        from workers.metrics_server import MetricsServer  # noqa: PLC0415

        address, port = settings.metrics_address, settings.metrics_port
        try:
            MetricsServer(address, port, collector_for(settings))
        except OSError as error:
            log.error(  # noqa: TRY400 - the operator's business; nothing of ours is at fault
                "metrics_not_served",
                reason=f"{address} port {port} cannot be had: {error}; choose another TASKVISOR_METRICS_PORT or"
                " TASKVISOR_METRICS_ADDRESS, and restart. The node runs without metrics",
            )
        else:
            log.info("metrics_served", address=address, port=port)


class ListenToGuests(bootsteps.StartStopStep):
    """The control node hears of what happens to this host's guests. Of simulated guests nobody tells: the periodic sync looks."""

    requires = ("celery.worker.components:Pool",)
    host_node: ClassVar[HostNode]

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._listener: ListenerThread | None = None

    def start(self, worker: Any) -> None:
        if self.host_node.runs_control and self.host_node.settings.driver == "libvirt":
            from workers.listener import listener_for  # noqa: PLC0415 - as above

            self._listener = listener_for(worker.app, self.host_node.open_node())
            self._listener.start()

    def stop(self, worker: Any) -> None:
        del worker
        if self._listener is not None:
            self._listener.stop()

    terminate = stop


def _living_pids(pool: Any) -> frozenset[int]:
    """The processes of a prefork pool that have not ended; a pool that is closing down has none."""
    processes = getattr(pool._pool, "_pool", ())
    return frozenset(process.pid for process in processes if process.exitcode is None)


def install(app: Celery, host_node: HostNode) -> None:
    """Make the app's workers nodes of this host."""
    StartHost.host_node = WatchPool.host_node = ServeMetrics.host_node = ListenToGuests.host_node = host_node
    app.steps["consumer"].add(StartHost)
    app.steps["worker"].add(WatchPool)
    app.steps["worker"].add(ServeMetrics)
    app.steps["worker"].add(ListenToGuests)
    worker_init.connect(lambda sender, **_: host_node.take_identity(sender), weak=False)
    worker_ready.connect(
        lambda **_: host_node.post_start_hook(), weak=False
    )  # sent once, right after it began to consume
