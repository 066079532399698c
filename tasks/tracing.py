"""What the edge tells of requests and steps to whoever traces them. Off unless it is asked for: a call that does nothing.

`workers/tracing.py` is the one that tells. Must never know OpenTelemetry.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from taskvisor.model.ids import OperationId
from taskvisor.model.operation import Operation
from taskvisor.model.states import Direction

PARENT_HEADER = "traceparent"
"""Of a message: whose part it is. https://www.w3.org/TR/trace-context/#traceparent-header"""


@dataclass(frozen=True, kw_only=True)
class StepTold:
    """What is told of a step that begins."""

    operation_id: OperationId
    instance: str
    flow: str
    step: str
    direction: Direction
    parent: str | None
    """What the message bore."""


class Watched(Protocol):
    """A step that is being traced."""

    def failed(self, error: Exception) -> None:
        """It did not do what it was to do."""
        ...


class Tracing(Protocol):
    """One process's."""

    @property
    def is_on(self) -> bool:
        """Whether anything is told."""
        ...

    def headers_for(self, operation_id: OperationId) -> Mapping[str, str]:
        """What the messages of an operation bear, so that its steps are part of its trace, whoever sends them on."""
        ...

    def request(self, name: str, request_id: OperationId, parent: str | None) -> AbstractContextManager[None]:
        """A request is dealt with meanwhile. `parent` is what its message bore: its caller's part of a trace."""
        ...

    def step(self, told: StepTold) -> AbstractContextManager[Watched]:
        """A step's message is dealt with meanwhile."""
        ...

    def ended(self, operation: Operation) -> None:
        """The operation has come to an end. Told twice is told once."""
        ...

    def shutdown(self) -> None:
        """What was told has been sent, as far as it can be; this process ends."""
        ...


class _Unwatched:
    def failed(self, error: Exception) -> None:
        del error


class NoTracing:
    """Tells nobody anything."""

    is_on = False

    def headers_for(self, operation_id: OperationId) -> Mapping[str, str]:
        del operation_id
        return {}

    def request(self, name: str, request_id: OperationId, parent: str | None) -> AbstractContextManager[None]:
        del name, request_id, parent
        return nullcontext()

    def step(self, told: StepTold) -> AbstractContextManager[Watched]:
        del told
        return nullcontext(_UNWATCHED)

    def ended(self, operation: Operation) -> None:
        del operation

    def shutdown(self) -> None:
        """Nothing was told."""


_UNWATCHED = _Unwatched()
NO_TRACING = NoTracing()


def parent_in(request: Any) -> str | None:
    """The parent that a message bore, as Celery gives it to its task; None when it bore none, or no text."""
    found = request.get(PARENT_HEADER) or (request.headers or {}).get(PARENT_HEADER)
    return found if isinstance(found, str) else None
