"""Step and Flow: what is done, how it is undone, and within which bounds.

A step is a `do` that converges and an `undo` that converges, side by side. Its body uses only `StepContext`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from taskvisor.flow.ports import Ports, Progress
from taskvisor.model.errors import Cancelled
from taskvisor.model.network import Port
from taskvisor.model.operation import Facts, Operation
from taskvisor.model.records import Fault, Image, Instance
from taskvisor.model.states import InstanceAction, TaskState, VmState

F = TypeVar("F")


@dataclass(frozen=True, kw_only=True)
class NoFacts:
    """For steps that have nothing to tell."""


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """What a step is given: the request, the instance's record, what earlier steps found, and the ports."""

    operation: Operation
    instance: Instance
    ports: Ports
    progress: Progress
    now: float
    waited_s: float  # in earlier slices of this step, each ended by `Busy`; while no worker lives no time goes by

    def facts_of(self, step: "type[Step[F]]") -> F:
        """What an earlier step found; KeyError when it is not done."""
        facts: F = msgspec.convert(self.operation.facts[step.name], step.facts_type)
        return facts

    def request_as(self, kind: type[F]) -> F:
        """The operation's request as the dataclass its door made of it."""
        return msgspec.convert(self.operation.request, kind)


class Step(ABC, Generic[F]):
    """One imperative phrase. Subclasses set the class variables they need.

    Invariant: `do` twice is `do` once; `undo` of nothing is success; `undo` after a half-finished `do` leaves nothing.
    """

    name: ClassVar[str]
    facts_type: ClassVar[type[Any]] = NoFacts
    task_state: ClassVar[TaskState | None] = None
    time_limit_s: ClassVar[int] = 60
    """The process is killed beyond it (prefork); a runner past it has lost its step to whoever asks next."""
    tries: ClassVar[int] = 3
    wait_limit_s: ClassVar[int] = 600
    """Bound of all `Busy` waits together."""

    def task_state_for(self, operation: Operation) -> TaskState | None:  # noqa: ARG002 - for steps whose word depends on the request
        """What the instance is said to be doing while the step runs; None: as before."""
        return self.task_state

    @abstractmethod
    def do(self, ctx: StepContext) -> F:
        """Converge on the step's effect and return what was found or made."""

    def undo(self, ctx: StepContext) -> None:
        """Converge on the step's effect not being there. Default: there is nothing to take back."""


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """What the end of an operation does to the records.

    `instance` replaces the record; `forget_instance` removes it with its claim, ports and name. `images` are registered
    under the names that the door reserved; `released_image_name` is free again, as are `released_volumes` (identities), which the
    instance holds no more, and the addresses of `released_ports`. `result` is the operation's outcome for its caller when it
    succeeded.
    """

    instance: Instance | None = None
    forget_instance: bool = False
    images: tuple[Image, ...] = ()
    released_image_name: str | None = None
    released_volumes: tuple[str, ...] = ()
    released_ports: tuple[Port, ...] = ()
    result: Facts | None = None


def fault_of(operation: Operation, now: float) -> Fault | None:
    """What the instance's record says of an operation that failed; None when it did not, or was only asked to stop."""
    if operation.failure is None or operation.failure.code == Cancelled.__name__:
        return None
    failure = operation.failure
    return Fault(code=failure.code, message=failure.message, step=failure.step, operation_id=operation.id, at=now)


class Flow(ABC):
    """An ordered tuple of steps, and what its beginning and end do to the instance's record."""

    name: ClassVar[str]  # instance.build: the entry task
    prefix: ClassVar[str]  # build: of its steps' task names
    action: ClassVar[InstanceAction]
    """What the caller asked; from which states it may be, `taskvisor.model.allowed` says."""
    steps: ClassVar[tuple[Step[Any], ...]]
    preempts: ClassVar[bool] = False
    """True: stops the operation that holds the instance at its next step boundary and takes over."""
    yields: ClassVar[bool] = True
    """Pre-empted, it ends where it is: all that it made goes with the instance. False: it is rolled back first."""
    reschedules: ClassVar[bool] = False
    """True: `DoesNotFit` sends it to the next host instead of ending it."""

    @abstractmethod
    def succeeded(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        """The records after the last step."""

    def keeps(self, operation: Operation) -> bool:  # noqa: ARG002 - for flows whose request may say so
        """True: when a step fails for good, what was done stays, to be gone on with later. Default: it is rolled back."""
        return False

    def kept(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        """The records of an operation that failed and left what it had done."""
        failed = replace(instance, vm_state=VmState.ERROR, task_state=None, fault=fault_of(operation, now))
        return Settlement(instance=failed)

    def regained(self, instance: Instance) -> Instance:
        """The record when an operation that was kept goes on."""
        return replace(instance, fault=None)

    def failed(self, operation: Operation, instance: Instance, now: float) -> Settlement:
        """The records after a complete roll-back. Default: the instance stays, at rest, with a fault noted."""
        return Settlement(instance=replace(instance, task_state=None, fault=fault_of(operation, now)))

    def step(self, name: str) -> Step[Any]:
        """The step of that name; KeyError when it is not of this flow."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)

    def task_name(self, step: str) -> str:
        """The Celery task of a step: build.prepare_disk."""
        return f"{self.prefix}.{step}"


Flows = Mapping[str, Flow]
"""Every flow by name."""
