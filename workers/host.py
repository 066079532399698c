"""A host's nodes from start to end, in Nova's order: init_host (recover), pre_start_hook (report), consume, post_start_hook
(announce), then periodic work. Before all of it the store is looked at, and whether this machine is the host it is to be.

A node is a Celery worker that consumes queues of this host. Which of the two it is, its queues say: `host.<name>` makes it
the *steps* node, `host.<name>.control` the *control* node; a worker started without -Q is both. One of `compute` alone is
neither, and no host: it takes requests.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog
from celery import Celery, chain
from kombu.exceptions import OperationalError

from tasks.edge import Edge, relaunch_all
from tasks.keeping import KEEP_RECORDS
from tasks.recovery_tasks import RECOVER
from tasks.replug import CHECK
from tasks.tick_tasks import SYNC_ALL, TRACK
from taskvisor.compute.monitors import load_monitors
from taskvisor.compute.resources.registry import UnknownKind
from taskvisor.flow.recovery import was_run_by
from taskvisor.model.errors import Refused, TaskvisorError, UnreadableRecord
from taskvisor.model.identity import Role
from taskvisor.model.ids import HostName
from taskvisor.model.queues import COMPUTE_QUEUE, control_queue, steps_queue
from taskvisor.settings import Settings
from taskvisor.state.hosts import Hosts
from workers.choices import monitor_names_of, open_table_of, placement_rules_of
from workers.identity_opening import identity_check_for
from workers.locks import lock_path, open_lock_within
from workers.node import OpenNode
from workers.open_tracing import require_tracing
from workers.store_check import ensure_store_fit

log = structlog.get_logger(__name__)

EXPIRES_S = 60
"""What a node asks of itself at its start is of no use to the start after that."""
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
        self._heartbeat: Heartbeat | None = None

    @property
    def runs_steps(self) -> bool:
        return steps_queue(self.settings.host) in self.queues

    @property
    def runs_control(self) -> bool:
        return control_queue(self.settings.host) in self.queues

    @property
    def takes_requests(self) -> bool:
        return COMPUTE_QUEUE in self.queues

    def take_identity(self, worker: Any) -> None:
        """Hold this host's lock for each role, or exit: two nodes of one name would each take the other for dead."""
        self.queues = frozenset(worker.app.amqp.queues.consume_from)
        for role in self.roles:
            self._take_lock(role)

    @property
    def roles(self) -> tuple[Role, ...]:
        """What this node is for."""
        plays = {Role.STEPS: self.runs_steps, Role.CONTROL: self.runs_control}
        return tuple(role for role in Role if plays[role])

    def _take_lock(self, role: Role) -> None:
        path = lock_path(Path(self.settings.state_dir), self.settings.host, role)
        descriptor = open_lock_within(path, time_limit_s=FORMER_SELF_LIMIT_S)
        if descriptor is None:
            raise SystemExit(
                f"the {role} node of host {self.settings.host} runs already (it holds {path}); stop it first, or give this"
                " one another TASKVISOR_HOST and TASKVISOR_STATE_DIR"
            )
        self._locks.append(descriptor)

    def check_store(self) -> None:
        """The Redis that this node was given is fit to hold records, and written by no newer version, and what it is to measure
        is known; else exit, in words.
        """
        try:
            ensure_store_fit(self.open_node().redis, self.settings)
            if self.runs_control:
                load_monitors(monitor_names_of(self.settings))
        except (Refused, UnreadableRecord) as refusal:
            raise SystemExit(f"host {self.settings.host} does not start: {refusal}") from refusal

    def check_plugins(self) -> None:
        """Every kind of resource, every rule of placement and what traces take can be had, as the settings name them; else exit,
        in words.
        """
        try:
            open_table_of(self.settings)
            placement_rules_of(self.settings)
            require_tracing(self.settings)
        except (UnknownKind, Refused) as refusal:
            raise SystemExit(f"host {self.settings.host} does not start: {refusal}") from refusal

    def check_identity(self) -> None:
        """This machine is the host that its settings say; else exit, in words. CannotAsk when Redis is silent.

        A node that only takes requests is no host, and is registered as none.
        """
        if not self.roles:
            return
        try:
            identity_check_for(self.settings, self.open_node().redis, roles=self.roles).ensure_identity()
        except (Refused, UnreadableRecord) as refusal:
            raise SystemExit(f"host {self.settings.host} does not start: {refusal}") from refusal

    def init_host(self) -> None:
        """Send on all that the former self of this host left: it is dead, for we hold its lock."""
        placed = self.open_node().store.port_changes.ensure_placed(HostName(self.settings.host))
        sent = relaunch_all(self.edge, self.open_node(), HostName(self.settings.host))
        log.info("host_initialised", host=self.settings.host, operations_sent_on=sent, instances_placed=placed)

    def pre_start_hook(self) -> None:
        """Resources are reported before the first request is taken: the report is at the front of this node's queue. Then it is
        recovered from what happened to the host's guests while nobody looked.
        """
        self._ask_ourselves(TRACK, RECOVER)

    def post_start_hook(self) -> None:
        """The node takes messages from now on: it is announced by its heartbeat. Then what may take long and delays no start: the
        power states of all guests, and the plugs of those that run, which nobody restored while the node was down.
        """
        self._heartbeat = Heartbeat(self)
        self._heartbeat.start()
        log.info("host_started", host=self.settings.host, roles=[role.value for role in self.roles])
        if self.runs_control:
            try:
                self._ask_ourselves(SYNC_ALL, CHECK)
            except (OperationalError, *self._app.connection_for_write().connection_errors) as silence:
                log.warning("looks_not_asked_for", reason=str(silence))  # the periodic ones come all the same

    def introduce(self) -> None:
        """The store does not know this host, which has reported to it: no tick comes any more. First the host looks whether the
        store has lost its records, and closes it; only then it reports, and requests find it again.
        """
        log.warning("host_unknown_to_store", host=self.settings.host)
        steps = [
            self._app.signature(
                task, queue=control_queue(self.settings.host), immutable=True, ignore_result=True, expires=EXPIRES_S
            )
            for task in (KEEP_RECORDS, TRACK)
        ]
        try:
            chain(*steps).apply_async()
        except (OperationalError, *self._app.connection_for_write().connection_errors) as silence:
            log.warning("introduction_not_sent", reason=str(silence))  # the next heartbeat sees the same

    def _ask_ourselves(self, *tasks: str) -> None:
        for task in tasks:
            self._app.send_task(task, queue=control_queue(self.settings.host), ignore_result=True, expires=EXPIRES_S)

    def stop(self) -> None:
        """The heartbeat, if there was one, has said its farewell."""
        if self._heartbeat is not None:
            self._heartbeat.stop()

    def relaunch_after(self, dead_pids: frozenset[int]) -> int:
        """Send on what these pool processes were running when they died; returns how many operations."""
        node, sent = self.open_node(), 0
        for operation_id in node.store.catalog.list_unsettled_on(HostName(self.settings.host)):
            try:
                loaded = node.store.journal.load(operation_id)
                if loaded is not None and was_run_by(
                    loaded.operation, incarnation=self.incarnation, dead_pids=dead_pids
                ):
                    self.edge.launch(loaded.operation)
                    sent += 1
            except UnreadableRecord as problem:
                log.error("operation_not_sent_on", op=operation_id, reason=str(problem))  # noqa: TRY400 - says all there is
        return sent


class Heartbeat(threading.Thread):
    """Says that the node lives, and in which role, from its own process: a busy pool is never called dead."""

    def __init__(self, host_node: HostNode) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._host_node = host_node
        self._stopped = threading.Event()
        self._has_beaten = False

    def run(self) -> None:
        settings = self._host_node.settings
        hosts = self._host_node.open_node().store.hosts
        while not self._stopped.is_set():
            try:
                self._beat(hosts)
            except TaskvisorError as silence:
                log.warning("heartbeat_missed", reason=str(silence))
            self._stopped.wait(settings.heartbeat_s)
        try:
            hosts.note_gone(HostName(settings.host), self._host_node.incarnation)
        except TaskvisorError as silence:
            log.warning("farewell_not_said", reason=str(silence))

    def _beat(self, hosts: Hosts) -> None:
        node, settings = self._host_node, self._host_node.settings
        if node.runs_steps:
            hosts.note_alive(HostName(settings.host), node.incarnation, keep_s=settings.host_down_s)
        if node.runs_control:
            hosts.note_taking(HostName(settings.host), node.incarnation, keep_s=settings.host_down_s)
            known = hosts.is_known(HostName(settings.host))
            if not known and self._has_beaten:
                node.introduce()
            self._has_beaten = True  # before the first heartbeat the host's first report may not be written yet

    def stop(self) -> None:
        """Say that the host is gone, and end: nothing new is placed on a node that was shut down."""
        self._stopped.set()
        if self.is_alive():
            self.join(timeout=FORMER_SELF_LIMIT_S)
