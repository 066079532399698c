"""Each step of each flow, forwards and backwards, as a task of Celery. What follows is the edge's business."""

from collections.abc import Callable
from typing import Any

import structlog
from celery import Celery, Task
from celery.exceptions import SoftTimeLimitExceeded

from tasks.flows import ALL_FLOWS
from tasks.node import Node
from tasks.tracing import StepTold, Tracing, parent_in
from tasks.unreadable import telling_of_unreadable
from taskvisor.flow.runner import Dropped, Next, StepMessage
from taskvisor.flow.step import Flow, Step
from taskvisor.model.errors import Refused, TaskvisorError
from taskvisor.model.ids import OPERATION_ID_RULE, OperationId
from taskvisor.model.states import Direction
from taskvisor.state.counters import CounterName, Counters

log = structlog.get_logger(__name__)

GRACE_S = 15
"""Between telling a step that its time is up and killing its process."""
TIME_UP: tuple[type[Exception], ...] = (SoftTimeLimitExceeded,)
STEP_FIELDS = frozenset({"instance", "operation"})
"""Of a step's message. The instance is for people who look at it."""
COUNTED = {
    Dropped.UNKNOWN_OPERATION: CounterName.MESSAGES_DROPPED_UNKNOWN_OPERATION,
    Dropped.FOREIGN_STEP: CounterName.MESSAGES_DROPPED_MALFORMED,
    Dropped.TWIN_RUNNING: CounterName.MESSAGES_DROPPED_TWIN_RUNNING,
}


class StepTasks:
    """A message carries ids; the runner, and the journal behind it, judge it."""

    def __init__(
        self,
        app: Celery,
        node: Callable[[], Node],
        tracing: Callable[[], Tracing],
        *,
        go_on: Callable[[Task, Next], None],
    ) -> None:
        """`go_on` sees to what follows a step that was run or let go, and raises what its task ends with."""
        self._app = app
        self._node = node
        self._tracing = tracing
        self._go_on = go_on

    def register(self) -> None:
        """Called once, when the app is made."""
        for flow in ALL_FLOWS:
            for step in flow.steps:
                self._register(flow, step, Direction.DO)
                self._register(flow, step, Direction.UNDO)

    def _register(self, flow: Flow, step: Step[Any], direction: Direction) -> None:
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
        self._counters.add(CounterName.MESSAGES_DROPPED_MALFORMED)
        log.warning("malformed_message_dropped", task=task, fields=len(fields), args=len(args))
        raise Refused(f"{task} takes the names of an instance and an operation, by name, and nothing else")

    def _run(self, message: StepMessage) -> Next:
        with telling_of_unreadable(self._counters, message.operation_id):
            following = self._node().runner.run(message)
        if following.dropped is not None:
            self._counters.add(COUNTED[following.dropped])
        return following

    @property
    def _counters(self) -> Counters:
        return self._node().door.store.counters
