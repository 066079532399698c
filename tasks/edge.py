"""The one edge to Celery: every step of every flow is a task, every request is a task. Besides it only `telling`,
`image_tasks`, `network_request_tasks`, `host_request_tasks`, `network_tasks` and `tick_tasks` know Celery.

A chain's messages carry ids. What is true is in the journal: `launch` sends an operation on from where that says it is,
and serves first start, resume, retry, roll-back, cancel and hand-over alike.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import ceil
from typing import Any

import msgspec
import structlog
from celery import Celery, Task, chain
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from kombu.exceptions import OperationalError

from tasks.batch import LetIn
from tasks.door import BUILD, CHANGES, Admitted, Answer
from tasks.flavor_request_tasks import flavor_requests
from tasks.fleet_request_tasks import FleetRequestTasks
from tasks.flows import ALL_FLOWS, FLOWS
from tasks.host_request_tasks import HostRequestTasks
from tasks.image_requests import Answered
from tasks.image_tasks import ImageTasks
from tasks.network_request_tasks import NetworkRequestTasks
from tasks.network_tasks import NetworkTasks
from tasks.node import Asking, Node
from tasks.orphan_tasks import orphan_requests
from tasks.rebuild_tasks import RebuildTasks, require_open
from tasks.recovery_tasks import register_recovery
from tasks.repair_tasks import RepairTasks
from tasks.telling import Teller
from tasks.tick_tasks import TickTasks
from tasks.tracing import NO_TRACING, StepTold, Tracing, parent_in
from tasks.verify import host_seen
from taskvisor.flow.recovery import wants_settling
from taskvisor.flow.runner import Dropped, Next, Onward, StepMessage
from taskvisor.flow.step import Flow, Step
from taskvisor.flow.transitions import messages_for
from taskvisor.model.errors import (
    Busy,
    CannotAsk,
    Conflicting,
    IdInUse,
    Refused,
    Retryable,
    TaskvisorError,
    UnreadableRecord,
)
from taskvisor.model.ids import OPERATION_ID_RULE, HostName, InstanceId, OperationId, message_id_for
from taskvisor.model.operation import Operation
from taskvisor.model.queues import COMPUTE_QUEUE, control_queue, steps_queue
from taskvisor.model.spec import OperationSpec, parse_spec
from taskvisor.model.states import Direction, Phase
from taskvisor.state.counters import CounterName

log = structlog.get_logger(__name__)

TURNS_LIMIT = 1200
"""A delete that waits for another delete of the same instance looks again so often, half a second apart."""
TURN_S = 0.5
"""A request that waits for its turn looks again so often."""
DEATHS_LIMIT = 5
"""A request whose process dies is taken up again so often."""
SYNC_ONE = "host.sync_power_state"
"""What a control node is asked when something was heard of one of its guests; SYNC_ALL, when it may have been missed of any."""
GRACE_S = 15
"""Between telling a step that its time is up and killing its process."""
LOOK_LIMIT_S = 60
"""A look at all that a host has takes a second or two; a hypervisor that hangs must not keep the control node."""
STEP_FIELDS = frozenset({"instance", "operation"})
"""Of a step's message. The instance is for people who look at it."""
COUNTED = {
    Dropped.UNKNOWN_OPERATION: CounterName.MESSAGES_DROPPED_UNKNOWN_OPERATION,
    Dropped.FOREIGN_STEP: CounterName.MESSAGES_DROPPED_MALFORMED,
    Dropped.TWIN_RUNNING: CounterName.MESSAGES_DROPPED_TWIN_RUNNING,
}
TIME_UP: tuple[type[Exception], ...] = (SoftTimeLimitExceeded,)


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
        self._images = ImageTasks(app, node, self.teller, control_queue)
        self.networks = NetworkTasks(app, node, control_queue)
        self._rebuilds = RebuildTasks(app, node, control_queue)
        self._records = NetworkRequestTasks(app, self.teller, self.networks.ask_to_refresh, self.networks.ask_to_copy)
        self._hosts = HostRequestTasks(app, node, self.teller, COMPUTE_QUEUE, self._launch_or_leave)
        self.ticks = TickTasks(
            app,
            node,
            steps_queue=steps_queue,
            control_queue=control_queue,
            compute_queue=COMPUTE_QUEUE,
            sweep_images=self._images.sweep,
            sweep_drains=self._hosts.sweep,
        )
        self._fleet = FleetRequestTasks(app, node, self.teller, control_queue)
        self._repairs = RepairTasks(
            app, node, self.teller, queue_of=control_queue, launch=self.launch, images=self._images
        )

    def register(self) -> None:
        """Every task that there is. Called once, when the app is made."""
        for flow in ALL_FLOWS:
            for step in flow.steps:
                self._register_step(flow, step, Direction.DO)
                self._register_step(flow, step, Direction.UNDO)
        self._register_entry(BUILD, lambda door, op, fields: door.build(op, fields))
        for name in CHANGES:
            self._register_entry(name, lambda door, op, fields, name=name: door.change(name, op, fields))  # type: ignore[misc]
        for name, ask in {
            **self._images.requests,
            **self._records.requests,
            **flavor_requests(self.teller),
            **self._fleet.requests,
            **self._hosts.requests,
            **self._repairs.requests,
            **orphan_requests(self.teller),
        }.items():
            self._register_entry(name, ask)
        self._images.register()
        self._hosts.register()
        self.networks.register()
        self._fleet.register()
        self.ticks.register()
        self._repairs.register()
        self._rebuilds.register()
        self._register_wishes()
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

    def _register_step(self, flow: Flow, step: Step[Any], direction: Direction) -> None:
        name = flow.task_name(step.name) + (".undo" if direction is Direction.UNDO else "")

        def run_step(self_: Task, /, *args: Any, **fields: Any) -> None:
            operation_id = self._checked(name, args, fields)
            message = StepMessage(operation_id=operation_id, step=step.name, direction=direction)
            told = StepTold(
                operation_id=operation_id,
                instance=fields["instance"],
                flow=flow.name,
                step=step.name,
                direction=direction,
                parent=parent_in(self_.request),
            )
            with self._tracing().step(told) as watched:
                following = self._run(message)
                if following.error is not None:
                    watched.failed(following.error)
            self._go_on(self_, following)

        run_step.__doc__ = step.__doc__
        self._app.task(
            run_step,
            name=name,
            bind=True,
            shared=False,  # its node is this edge's: no other app of the process may run it
            typing=False,
            throws=(TaskvisorError,),
            ignore_result=True,
            reject_on_worker_lost=True,  # it comes again, and the journal judges it: tries are counted there, and bounded
            soft_time_limit=step.time_limit_s,
            time_limit=step.time_limit_s + GRACE_S,
        )

    def _checked(self, task: str, args: tuple[Any, ...], fields: dict[str, Any]) -> OperationId:
        """The operation that a step's message is about. Refused when the message is none of ours: anyone can send one."""
        if not args and fields.keys() == STEP_FIELDS and all(isinstance(value, str) for value in fields.values()):
            operation_id: str = fields["operation"]
            if OPERATION_ID_RULE.fullmatch(operation_id):
                return OperationId(operation_id)
        self._count(CounterName.MESSAGES_DROPPED_MALFORMED)
        log.warning("malformed_message_dropped", task=task, fields=len(fields), args=len(args))
        raise Refused(f"{task} takes the names of an instance and an operation, by name, and nothing else")

    def _run(self, message: StepMessage) -> Next:
        with self._telling_of_unreadable(message.operation_id):
            following = self._node().runner.run(message)
        if following.dropped is not None:
            self._count(COUNTED[following.dropped])
        return following

    @contextmanager
    def _telling_of_unreadable(self, operation_id: OperationId) -> Iterator[None]:
        """A message that leads to a record which can't be read is let go, and counted."""
        try:
            yield
        except UnreadableRecord as problem:
            self._count(CounterName.MESSAGES_DROPPED_UNREADABLE_RECORD)
            log.error("message_dropped_for_unreadable_record", op=operation_id, reason=str(problem))  # noqa: TRY400
            raise

    def _count(self, name: CounterName) -> None:
        self._node().door.store.counters.add(name)

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

    def _register_entry(self, name: str, ask: Asking) -> None:
        def enter(self_: Task, /, *args: Any, **fields: Any) -> Any:
            _require_names(name, args)
            try:
                with self._tracing().request(name, OperationId(self_.request.id), parent_in(self_.request)):
                    return self._enter(self_, ask, fields)
            except self.teller.silence as silence:
                # It may have been let in or not: the message that comes again finds out. It comes by this very Redis, so
                # it can't come again and again while that is away.
                raise Reject(str(silence), requeue=True) from silence

        enter.__doc__ = f"Request {name}; the task's id is the operation's."
        self._app.task(
            enter,
            name=name,
            bind=True,
            shared=False,  # its node is this edge's: no other app of the process may run it
            typing=False,
            throws=(TaskvisorError,),
            retry_on_worker_lost=True,  # not yet an operation: only its message knows of it
            max_retries=DEATHS_LIMIT,
            default_retry_delay=0.2,
        )

    def _enter(self, task: Task, ask: Asking, fields: dict[str, Any]) -> Any:
        operation_id, door = OperationId(task.request.id), self._node().door
        if self.teller.has_answered(operation_id) and door.store.catalog.read_operation(operation_id) is None:
            log.info("late_request_dropped", op=operation_id)  # refused, or nothing was to do: its caller knows
            raise Ignore
        try:
            with self._telling_of_unreadable(operation_id):
                require_open(door.store.closing, self._node().host)
                answer = ask(door, operation_id, fields)
        except IdInUse as other:
            self._count(CounterName.REQUESTS_DROPPED_ID_IN_USE)
            log.warning("request_dropped", op=operation_id, reason=str(other))
            raise Ignore from other
        except Busy as busy:
            raise _again(task, busy.delay_s, TURNS_LIMIT, busy) from busy
        except Conflicting as held:
            looks = ceil(fields.get("wait_turn_s", 0) / TURN_S)
            if looks == 0:
                raise
            raise _again(task, TURN_S, looks, held) from held
        return self._answer(answer)

    def _answer(self, answer: Answer | Answered | LetIn) -> Any:
        """Send the operation on, or return the answer that is there already.

        Ignore: the request ends when its operation does, and the journal shows what became of it. A refusal or an answer
        of the door is stored by Celery, as of any task.
        """
        if isinstance(answer, Answered):
            if answer.removing is not None:
                self._images.send_removal(answer.removing)
            raise Ignore
        if isinstance(answer, LetIn):
            return self._answer_batch(answer)
        if not isinstance(answer, Admitted):
            return answer.result
        self._send_on(answer)
        raise Ignore

    def _answer_batch(self, batch: LetIn) -> Any:
        """Every build goes on by itself; the request ends here."""
        for member in batch.members:
            self._send_on(member)
        if batch.error is not None:
            raise batch.error
        return batch.result

    def _send_on(self, answer: Admitted) -> None:
        operation = answer.operation
        self.networks.tell_of_ports(answer.come, aware=operation.host)
        if answer.stopping is not None:
            self._launch_or_leave(answer.stopping)
        if operation.phase.settled:
            self.teller.show(operation)
        else:
            self._launch_or_leave(operation)

    def _launch_or_leave(self, operation: Operation) -> None:
        """What is in the journal goes on by the sweep: that its first message could not be sent is no failure to tell."""
        try:
            self.launch(operation)
        except (OperationalError, *self._app.connection_for_write().connection_errors) as silence:
            log.warning("launch_left_to_sweep", op=operation.id, reason=str(silence))

    def _register_wishes(self) -> None:
        def cancel(*args: Any, **fields: Any) -> dict[str, str]:
            """Ask an operation to stop and roll back."""
            _require_names("operation.cancel", args)
            return self._wish(self._node().door.cancel, fields)

        def retry(*args: Any, **fields: Any) -> dict[str, str]:
            """Let a STUCK operation go on, or a failed one begin again."""
            _require_names("operation.retry", args)
            return self._wish(self._node().door.retry, fields)

        for function in (cancel, retry):
            name = f"operation.{function.__name__}"
            self._app.task(function, name=name, shared=False, typing=False, throws=(TaskvisorError,))

    def _wish(self, wish: Callable[[str], Operation], fields: dict[str, Any]) -> dict[str, str]:
        operation = wish(parse_spec(OperationSpec, fields).operation)
        if not operation.phase.settled:
            self.launch(operation)
        return {"operation": operation.id, "phase": operation.phase.value}

    def _register_periodic(self) -> None:
        def settle(operation: str) -> None:
            """End an operation that is rolled back, or send it to its next host."""
            with self._telling_of_unreadable(OperationId(operation)):
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


def _require_names(task: str, args: tuple[Any, ...]) -> None:
    if args:
        raise Refused(f"{task} takes its fields by name (kwargs); {len(args)} came without one")


def _again(task: Task, delay_s: float, limit: int, reason: TaskvisorError) -> Exception:
    """What to raise so that the request comes again after `delay_s`, at most `limit` times; then its caller gets `reason`.

    That it waits is stored before it is sent: the next look may be over before this process goes on, and what Celery stores
    after the sending would hide its end for good.
    """
    try:
        if task.request.retries < limit:
            task.backend.mark_as_retry(task.request.id, reason, request=task.request)
        task.retry(countdown=delay_s, max_retries=limit, exc=reason)
    except Reject as unsent:  # Redis was silent when it was to be sent anew: then this very message comes again
        again: Exception = Reject(unsent.reason, requeue=True)
    except Retry as sent:
        task.request.ignore_result = True
        again = sent
    else:
        again = reason
    return again


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
