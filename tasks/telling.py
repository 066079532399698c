"""What those who asked for an operation, and those who watch, see of it in Celery: its result, and its task's events.

The journal writes results together with its records; this only says what to write, as Celery's result back end would.
"""

from collections.abc import Mapping
from typing import Any

import structlog
from celery import Celery
from celery.states import READY_STATES

from taskvisor.model import errors
from taskvisor.model.errors import CannotAsk, TaskvisorError
from taskvisor.model.ids import OperationId
from taskvisor.model.operation import Failure, Operation
from taskvisor.model.records import Instance
from taskvisor.model.states import Mark, Phase
from taskvisor.state.writing import Outcome

log = structlog.get_logger(__name__)


class Teller:
    """Speaks under the operation's id, which is its request's task id."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def outcome_for(self, operation: Operation, instance: Instance | None) -> Outcome | None:
        """What the caller's AsyncResult is to show now: PROGRESS when a step begins, and the end when it ends."""
        del instance
        if not operation.phase.settled and operation.runner is None and _has_begun(operation):
            return None  # a step has ended: the next will show itself
        return self._outcome(operation.id, *_seen_of(operation))

    def answer_for(self, request_id: OperationId, result: Mapping[str, Any]) -> Outcome:
        """What the caller of a request is to see that is no operation, and has succeeded."""
        return self._outcome(request_id, "SUCCESS", dict(result))

    def waiting_for(self, request_id: OperationId, reason: TaskvisorError) -> Outcome:
        """What the caller of such a request is to see while it waits for something."""
        return self._outcome(request_id, "RETRY", reason)

    def _outcome(self, request_id: OperationId, state: str, result: Any) -> Outcome:
        backend = self._app.backend
        if isinstance(result, Exception):
            result = backend.prepare_exception(result)
        meta = backend._get_result_meta(result=result, state=state, traceback=None, request=None)
        key = backend.get_key_for_task(request_id)
        return Outcome(
            key=key.decode() if isinstance(key, bytes) else key,
            payload=backend.encode({**meta, "task_id": request_id}),
            keep_s=int(self._app.conf.result_expires),
        )

    @property
    def silence(self) -> tuple[type[Exception], ...]:
        """What a request meets when Redis does not answer: ours, and what `has_answered` and `show` raise."""
        return (CannotAsk, *(kind for kind in self._app.backend.connection_errors if kind is not KeyError))

    def has_answered(self, operation_id: OperationId) -> bool:
        """The caller of a request of that id has seen an end of it, and has not forgotten it."""
        state: str = self._app.backend.get_task_meta(operation_id, cache=False)["status"]
        return state in READY_STATES

    def show(self, operation: Operation) -> None:
        """Show the caller an end that was shown before, maybe so long ago that it has expired. A SUCCESS stays as it is."""
        state, result = _seen_of(operation)
        self._app.backend.store_result(operation.id, result, state)

    def tell_progress(self, operation: Operation) -> None:
        """A task event under the operation's id: Flower shows the request in the state PROGRESS, and how far it is."""
        done = sum(record.do is Mark.DONE for record in operation.steps)
        way = (
            "rolling back, next: "
            if operation.phase is Phase.ROLLING_BACK
            else f"{done} of {len(operation.steps)}, next: "
        )
        self._tell(operation, "task-progress", {"result": f"{way}{operation.current_step}"})

    def tell_watchers(self, operation: Operation) -> None:
        """Task events under the operation's id: Flower shows the request running until the operation ends."""
        kind = "task-succeeded" if operation.phase is Phase.SUCCEEDED else "task-failed"
        runtime_s = operation.updated_at - operation.created_at
        failure = operation.failure
        fields = (
            {"result": f"{operation.instance_name} on {operation.host}", "runtime": runtime_s}
            if failure is None
            else {
                "exception": f"{failure.code}: {failure.step}: {failure.message}",
                "traceback": failure.traceback or "",
            }
        )
        self._tell(operation, kind, fields)

    def _tell(self, operation: Operation, kind: str, fields: Mapping[str, Any]) -> None:
        try:
            with self._app.events.default_dispatcher(hostname=f"steps@{operation.host}") as dispatcher:
                dispatcher.send(kind, uuid=operation.id, **fields)
        except (OSError, self._app.connection_for_write().connection_errors) as error:
            log.warning("watchers_not_told", op=operation.id, reason=str(error))


def _has_begun(operation: Operation) -> bool:
    return any(record.do is not Mark.PENDING for record in operation.steps)


def _seen_of(operation: Operation) -> tuple[str, Any]:
    """Celery's state, and the result that goes with it."""
    if operation.phase is Phase.SUCCEEDED:
        return "SUCCESS", operation.result
    if operation.phase.settled:
        return "FAILURE", _error_for(operation.failure)
    return "PROGRESS", _progress_of(operation)


def _progress_of(operation: Operation) -> dict[str, Any]:
    step = operation.current_step
    return {
        "operation": operation.id,
        "instance": {"id": operation.instance_id, "name": operation.instance_name},
        "host": operation.host,
        "phase": operation.phase.value,
        "step": step,
        "number": operation.number_of(step) if step else len(operation.steps),
        "of": len(operation.steps),
    }


def _error_for(failure: Failure | None) -> Exception:
    """The exception that `.get()` raises for the caller: the error's class, and a message that begins with the step."""
    if failure is None:
        return errors.TaskvisorError("the operation ended without a reason")
    kind = getattr(errors, failure.code, errors.OutOfTries)
    known = isinstance(kind, type) and issubclass(kind, TaskvisorError)
    text = f"{failure.step}: {failure.message}"
    return kind(text) if known and hasattr(errors, failure.code) else errors.TaskvisorError(f"{failure.code} at {text}")
