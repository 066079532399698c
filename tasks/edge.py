"""The edge to Celery: every step of every flow is a task, every request is a task. Of `tasks/` only this, the modules named
`…_tasks`, and `telling` know Celery.

A chain's messages carry ids. What is true is in the journal: `launch` sends an operation on from where that says it is,
and serves first start, resume, retry, roll-back, cancel and hand-over alike.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog
from celery import Celery, Task, chain
from celery.exceptions import Retry
from kombu.exceptions import OperationalError

from tasks.door import BUILD, CHANGES
from tasks.entry_tasks import EntryTasks
from tasks.flavor_request_tasks import flavor_requests
from tasks.fleet_request_tasks import FleetRequestTasks
from tasks.flows import FLOWS
from tasks.host_request_tasks import HostRequestTasks
from tasks.image_tasks import ImageTasks
from tasks.network_request_tasks import NetworkRequestTasks
from tasks.network_tasks import NetworkTasks
from tasks.node import Asking, Node
from tasks.orphan_tasks import orphan_requests
from tasks.rebuild_tasks import RebuildTasks
from tasks.recovery_tasks import register_recovery
from tasks.repair_tasks import RepairTasks
from tasks.step_tasks import GRACE_S, StepTasks
from tasks.telling import Teller
from tasks.tick_tasks import TickTasks
from tasks.tracing import NO_TRACING, Tracing
from tasks.unreadable import telling_of_unreadable
from tasks.verify import host_seen
from taskvisor.flow.recovery import wants_settling
from taskvisor.flow.runner import Next, Onward
from taskvisor.flow.transitions import messages_for
from taskvisor.model.errors import (
    Busy,
    CannotAsk,
    Retryable,
    TaskvisorError,
    UnreadableRecord,
)
from taskvisor.model.ids import HostName, InstanceId, OperationId, message_id_for
from taskvisor.model.operation import Operation
from taskvisor.model.queues import COMPUTE_QUEUE, steps_queue
from taskvisor.model.states import Direction, Phase

log = structlog.get_logger(__name__)

SYNC_ONE = "host.sync_power_state"
"""What a control node is asked when something was heard of one of its guests; SYNC_ALL, when it may have been missed of any."""
LOOK_LIMIT_S = 60
"""A look at all that a host has takes a second or two; a hypervisor that hangs must not keep the control node."""


class Edge:
    """Registers every task with an app and sends operations on through it."""

    def __init__(
        self, app: Celery, node: Callable[[], Node], tracing: Callable[[], Tracing] = lambda: NO_TRACING
    ) -> None:
        """`tracing`: who is told of requests and steps, in this process."""
        self._app = app
        self._tracing = tracing
        self._node = node
        self.teller = Teller(app)
        self._images = ImageTasks(app, node, self.teller)
        self.networks = NetworkTasks(app, node)
        self._rebuilds = RebuildTasks(app, node)
        self._records = NetworkRequestTasks(app, self.teller, self.networks.ask_to_refresh, self.networks.ask_to_copy)
        self._hosts = HostRequestTasks(app, node, self.teller, self.launch_or_leave)
        self.ticks = TickTasks(
            app,
            node,
            sweep_images=self._images.sweep,
            sweep_drains=self._hosts.sweep,
        )
        self._fleet = FleetRequestTasks(app, node, self.teller)
        self._repairs = RepairTasks(app, node, self.teller, launch=self.launch, images=self._images)
        self._steps = StepTasks(app, node, tracing, go_on=self._go_on)
        self._entries = EntryTasks(
            app,
            node,
            tracing,
            teller=self.teller,
            images=self._images,
            networks=self.networks,
            launch=self.launch,
            launch_or_leave=self.launch_or_leave,
        )

    def register(self) -> None:
        """Every task that there is. Called once, when the app is made."""
        self._steps.register()
        self._entries.register(
            {
                BUILD: lambda door, op, fields: door.build(op, fields),
                **{name: _change(name) for name in CHANGES},
                **self._images.requests,
                **self._records.requests,
                **flavor_requests(self.teller),
                **self._fleet.requests,
                **self._hosts.requests,
                **self._repairs.requests,
                **orphan_requests(self.teller),
            }
        )
        self._images.register()
        self._hosts.register()
        self.networks.register()
        self._fleet.register()
        self.ticks.register()
        self._repairs.register()
        self._rebuilds.register()
        self._register_periodic()
        register_recovery(self._app, self._node)

    def launch(self, operation: Operation) -> None:
        """Send the operation on from where its journal says it is, at its `not_before`. Once too often is harmless."""
        if wants_settling(operation):
            self._app.send_task("operation.settle", (operation.id,), queue=COMPUTE_QUEUE, ignore_result=True)
            return
        delay_s = max(0.0, (operation.not_before or 0.0) - time.time())
        steps = messages_for(operation)
        if steps:
            headers = self._tracing().headers_for(operation.id)
            messages = [self._message(operation, step, headers) for step in steps]
            options = {"countdown": delay_s} if delay_s > 0 else {}
            chain(*messages).apply_async(root_id=operation.id, parent_id=operation.id, **options)

    def _message(self, operation: Operation, step: str, headers: Mapping[str, str]) -> Any:
        flow = FLOWS[operation.flow]
        undo = operation.direction is Direction.UNDO
        return self._app.signature(
            flow.task_name(step) + (".undo" if undo else ""),
            kwargs={"instance": operation.instance_name, "operation": operation.id},  # what people look for comes first
            immutable=True,
            queue=steps_queue(operation.host),
            task_id=message_id_for(operation.id, step, operation.direction, operation.revision),
            **({"headers": dict(headers)} if headers else {}),
        )

    def _go_on(self, task: Task, following: Next) -> None:
        """Let the chain send the next step, or cut it here. What became of the step is what Flower shows of its task."""
        if following.ended is not None:
            self.teller.tell_watchers(following.ended)
            self._tracing().ended(following.ended)
            self._rebuilds.ask_to_keep(following.ended)
        elif following.operation is not None and following.operation.current_step is not None:
            self.teller.tell_progress(following.operation)
        self.networks.tell_of_ports(following.gone)
        if following.onward is not Onward.CONTINUE:
            task.request.chain = None
        if following.onward is Onward.SEND and following.operation is not None:
            self.launch(following.operation)
        if isinstance(following.error, Busy | Retryable) and following.ended is None:
            raise Retry(str(following.error), exc=following.error, when=following.error.delay_s)
        if following.error is not None:
            raise following.error

    def launch_or_leave(self, operation: Operation) -> None:
        """What is in the journal goes on by the sweep: that its first message could not be sent is no failure to tell."""
        try:
            self.launch(operation)
        except (OperationalError, *self._app.connection_for_write().connection_errors) as silence:
            log.warning("launch_left_to_sweep", op=operation.id, reason=str(silence))

    def _register_periodic(self) -> None:
        def settle(operation: str) -> None:
            """End an operation that is rolled back, or send it to its next host."""
            with telling_of_unreadable(self._node().door.store.counters, OperationId(operation)):
                following = self._node().settler.settle(OperationId(operation))
            self._tell_settled(OperationId(operation))
            if following is not None:
                self.launch(following)

        self._app.task(
            settle, name="operation.settle", shared=False, ignore_result=True, throws=(CannotAsk, UnreadableRecord)
        )
        self._register_looks()

    def _tell_settled(self, operation_id: OperationId) -> None:
        """Who traces is told of an end that a settler wrote; the settler itself says only what follows."""
        if not self._tracing().is_on:
            return
        operation = self._node().door.store.catalog.read_operation(operation_id)
        if operation is not None and operation.phase.settled:
            self._tracing().ended(operation)

    def _register_looks(self) -> None:
        def verify() -> Any:
            """What this host has, ours or not, for `taskvisor verify`."""
            ports, report = self._node().ports, self._node().report
            instances = report.store.catalog.list_instances(report.host)
            return msgspec.to_builtins(host_seen(ports, ports.clock.now(), instances))

        def sync_power_state(instance: str) -> None:
            """Let the record of one instance follow this host's hypervisor: something was heard of it."""
            self._node().recovery.ensure_resumed()
            self._node().report.sync_power_state(InstanceId(instance))

        limits = {"soft_time_limit": LOOK_LIMIT_S, "time_limit": LOOK_LIMIT_S + GRACE_S}

        self._app.task(verify, name="host.verify", shared=False, throws=(TaskvisorError,), **limits)
        self._app.task(
            sync_power_state, name=SYNC_ONE, shared=False, ignore_result=True, throws=(TaskvisorError,), **limits
        )


def _change(name: str) -> Asking:
    return lambda door, operation_id, fields: door.change(name, operation_id, fields)


def relaunch_all(edge: Edge, node: Node, host: HostName) -> int:
    """Send on every unsettled operation of the host: its node has just started, and all that its former self ran is dead."""
    store = node.door.store
    sent = 0
    for operation_id in store.catalog.list_unsettled_on(host):
        try:
            loaded = store.journal.load(operation_id)
            if loaded is not None and loaded.operation.phase is not Phase.WAITING:
                edge.launch(loaded.operation)
                sent += 1
        except UnreadableRecord as problem:
            log.error("operation_not_sent_on", op=operation_id, reason=str(problem))  # noqa: TRY400 - says all there is
    return sent
