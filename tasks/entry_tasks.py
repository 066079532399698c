"""Each request as a task of Celery, whose id is the operation's: asked of the door, and answered or sent on."""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

import structlog
from celery import Celery, Task
from celery.exceptions import Ignore, Reject, Retry

from tasks.batch import LetIn
from tasks.door import Admitted, Answer
from tasks.image_requests import Answered
from tasks.image_tasks import ImageTasks
from tasks.network_tasks import NetworkTasks
from tasks.node import Asking, Node
from tasks.rebuild_tasks import require_open
from tasks.telling import Teller
from tasks.tracing import Tracing, parent_in
from tasks.unreadable import telling_of_unreadable
from taskvisor.model.errors import Busy, Conflicting, IdInUse, Refused, TaskvisorError
from taskvisor.model.ids import OperationId
from taskvisor.model.operation import Operation
from taskvisor.model.spec import OperationSpec, parse_spec
from taskvisor.state.counters import CounterName

log = structlog.get_logger(__name__)

TURNS_LIMIT = 1200
"""A delete that waits for another delete of the same instance looks again so often, half a second apart."""
TURN_S = 0.5
"""A request that waits for its turn looks again so often."""
DEATHS_LIMIT = 5
"""A request whose process dies is taken up again so often."""


class EntryTasks:
    """What is let in goes on by `launch`; what is answered at once ends here."""

    def __init__(
        self,
        app: Celery,
        node: Callable[[], Node],
        tracing: Callable[[], Tracing],
        *,
        teller: Teller,
        images: ImageTasks,
        networks: NetworkTasks,
        launch: Callable[[Operation], None],
        launch_or_leave: Callable[[Operation], None],
    ) -> None:
        """`launch_or_leave` leaves to the sweep what can't be sent now."""
        self._app = app
        self._node = node
        self._tracing = tracing
        self._teller = teller
        self._images = images
        self._networks = networks
        self._launch = launch
        self._launch_or_leave = launch_or_leave

    def register(self, requests: Mapping[str, Asking]) -> None:
        """Every request by the name of its task, and the wishes. Called once, when the app is made."""
        for name, ask in requests.items():
            self._register(name, ask)
        self._register_wishes()

    def _register(self, name: str, ask: Asking) -> None:
        def enter(self_: Task, /, *args: Any, **fields: Any) -> Any:
            _require_names(name, args)
            try:
                with self._tracing().request(name, OperationId(self_.request.id), parent_in(self_.request)):
                    return self._enter(self_, ask, fields)
            except self._teller.silence as silence:
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
        if self._teller.has_answered(operation_id) and door.store.catalog.read_operation(operation_id) is None:
            log.info("late_request_dropped", op=operation_id)  # refused, or nothing was to do: its caller knows
            raise Ignore
        try:
            with telling_of_unreadable(door.store.counters, operation_id):
                require_open(door.store.closing, self._node().host)
                answer = ask(door, operation_id, fields)
        except IdInUse as other:
            door.store.counters.add(CounterName.REQUESTS_DROPPED_ID_IN_USE)
            log.warning("request_dropped", op=operation_id, reason=str(other))
            raise Ignore from other
        except Busy as busy:
            raise _again(task, busy.delay_s, TURNS_LIMIT, busy) from busy
        except Conflicting as held:
            looks = ceil(fields.get("wait_turn_s", 0) / TURN_S)
            if looks == 0:
                raise
            raise _again(task, TURN_S, looks, held) from held
        return self.answer(answer)

    def answer(self, answer: Answer | Answered | LetIn) -> Any:
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
        self._networks.tell_of_ports(answer.come, aware=operation.host)
        if answer.stopping is not None:
            self._launch_or_leave(answer.stopping)
        if operation.phase.settled:
            self._teller.show(operation)
        else:
            self._launch_or_leave(operation)

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
            self._launch(operation)
        return {"operation": operation.id, "phase": operation.phase.value}


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
