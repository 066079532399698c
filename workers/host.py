"""A host's nodes from start to end, in Nova's order: init_host (recover), pre_start_hook (report), consume, then periodic work.

A node is a Celery worker that consumes queues of this host. Which of the two it is, its queues say: `host.<name>` makes it
the *steps* node, `host.<name>.control` the *control* node; a worker started without -Q is both.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog
from celery import Celery, bootsteps
from celery.signals import worker_init

from tasks.edge import Edge, control_queue, relaunch_all, steps_queue
from taskvisor.flow.recovery import was_run_by
from taskvisor.model.errors import TaskvisorError
from taskvisor.model.ids import HostName
from taskvisor.settings import Settings
from workers.locks import open_lock_within
from workers.node import OpenNode

log = structlog.get_logger(__name__)

LOOK_FOR_DEATHS_S = 0.5
FORMER_SELF_LIMIT_S = 10.0
"""The pool processes of a node that was killed die a moment after it, and hold its lock until then."""


class HostNode:
    """What the parent process of a node knows of itself. Its pool processes inherit the incarnation by fork."""

    def __init__(self, app: Celery, settings: Settings, edge: Edge, open_node: Callable[[], OpenNode]) -> None:
        self._app = app
        self.settings = settings
        self.edge = edge
        self.open_node = open_node
        self.incarnation = uuid4().hex
        self.queues: frozenset[str] = frozenset()
        self._locks: list[int] = []

    @property
    def runs_steps(self) -> bool:
        return steps_queue(self.settings.host) in self.queues

    @property
    def runs_control(self) -> bool:
        return control_queue(self.settings.host) in self.queues

    def take_identity(self, worker: Any) -> None:
        """Hold this host's lock for each role, or exit: two nodes of one name would each take the other for dead."""
        self.queues = frozenset(worker.app.amqp.queues.consume_from)
        for role, plays in (("steps", self.runs_steps), ("control", self.runs_control)):
            if plays:
                self._take_lock(role)

    def _take_lock(self, role: str) -> None:
        path = Path(self.settings.state_dir) / "locks" / f"{self.settings.host}.{role}.lock"
        descriptor = open_lock_within(path, time_limit_s=FORMER_SELF_LIMIT_S)
        if descriptor is None:
            raise SystemExit(
                f"the {role} node of host {self.settings.host} runs already (it holds {path}); stop it first, or give this"
                " one another TASKVISOR_HOST and TASKVISOR_STATE_DIR"
            )
        self._locks.append(descriptor)

    def init_host(self) -> None:
        """Send on all that the former self of this host left: it is dead, for we hold its lock."""
        sent = relaunch_all(self.edge, self.open_node(), HostName(self.settings.host))
        log.info("host_initialised", host=self.settings.host, operations_sent_on=sent)

    def pre_start_hook(self) -> None:
        """Resources are reported before the first request is taken: the report is at the front of this node's queue."""
        for task in ("host.track", "host.sync_power_states"):
            self._app.send_task(task, queue=control_queue(self.settings.host), ignore_result=True, expires=60)

    def relaunch_after(self, dead_pids: frozenset[int]) -> int:
        """Send on what these pool processes were running when they died; returns how many operations."""
        node, sent = self.open_node(), 0
        for operation_id in node.store.catalog.list_unsettled_on(HostName(self.settings.host)):
            loaded = node.store.journal.load(operation_id)
            if loaded is not None and was_run_by(loaded.operation, incarnation=self.incarnation, dead_pids=dead_pids):
                self.edge.launch(loaded.operation)
                sent += 1
        return sent


class Heartbeat(threading.Thread):
    """Says that the node lives, from its own process: a busy pool is never called dead."""

    def __init__(self, host_node: HostNode) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._host_node = host_node
        self._stopped = threading.Event()

    def run(self) -> None:
        settings = self._host_node.settings
        hosts = self._host_node.open_node().store.hosts
        while not self._stopped.is_set():
            try:
                hosts.note_alive(HostName(settings.host), self._host_node.incarnation, keep_s=settings.host_down_s)
            except TaskvisorError as silence:
                log.warning("heartbeat_missed", reason=str(silence))
            self._stopped.wait(settings.heartbeat_s)
        try:
            hosts.note_gone(HostName(settings.host), self._host_node.incarnation)
        except TaskvisorError as silence:
            log.warning("farewell_not_said", reason=str(silence))

    def stop(self) -> None:
        """Say that the host is gone, and end: nothing new is placed on a node that was shut down."""
        self._stopped.set()
        if self.is_alive():
            self.join(timeout=FORMER_SELF_LIMIT_S)


def install(app: Celery, host_node: HostNode) -> None:
    """Make the app's workers nodes of this host."""

    class StartHost(bootsteps.StartStopStep):
        """init_host and pre_start_hook, once, before anything is consumed; then the heartbeat."""

        requires = ("celery.worker.consumer.connection:Connection",)

        def __init__(self, consumer: Any, **options: Any) -> None:
            super().__init__(consumer, **options)
            self._heartbeat: Heartbeat | None = None

        def start(self, consumer: Any) -> None:
            del consumer
            if self._heartbeat is not None:
                return  # a reconnect is no start: what runs here goes on
            if host_node.runs_control:
                host_node.pre_start_hook()
            if host_node.runs_steps:
                host_node.init_host()
            self._heartbeat = Heartbeat(host_node)
            if host_node.runs_steps:
                self._heartbeat.start()

        def shutdown(self, consumer: Any) -> None:
            del consumer
            if self._heartbeat is not None:
                self._heartbeat.stop()

    class WatchPool(bootsteps.StartStopStep):
        """Notices at once when a pool process has died, and sends on what it ran."""

        requires = ("celery.worker.components:Pool", "celery.worker.components:Hub")

        def __init__(self, worker: Any, **options: Any) -> None:
            super().__init__(worker, **options)
            self._known: frozenset[int] = frozenset()

        def start(self, worker: Any) -> None:
            if host_node.runs_steps and worker.hub is not None and hasattr(worker.pool, "_pool"):
                worker.hub.call_repeatedly(LOOK_FOR_DEATHS_S, self._look, worker)

        def _look(self, worker: Any) -> None:
            alive = frozenset(
                process.pid for process in getattr(worker.pool._pool, "_pool", ()) if process.exitcode is None
            )
            dead, self._known = self._known - alive, alive
            if not dead:
                return
            try:
                sent = host_node.relaunch_after(dead)
            except TaskvisorError as silence:
                self._known |= dead  # look again: they stay dead
                log.warning("relaunch_delayed", reason=str(silence))
                return
            log.warning("pool_process_died", pids=sorted(dead), operations_sent_on=sent)

    app.steps["consumer"].add(StartHost)
    app.steps["worker"].add(WatchPool)
    worker_init.connect(lambda sender, **_: host_node.take_identity(sender), weak=False)
