"""Ports that tell of each call before and after it is made: for spying, for failing, and for dying in the midst."""

from collections.abc import Callable
from dataclasses import fields, replace
from enum import StrEnum
from typing import Any, TypeVar, cast

from taskvisor.flow.ports import Ports
from taskvisor.flow.step import Flow, StepContext
from taskvisor.model.states import Direction

P = TypeVar("P")


class Moment(StrEnum):
    BEFORE = "before"
    AFTER = "after"


OnCall = Callable[[str, Moment], None]
"""Told of "fabric.ensure_plugged" and the moment; what it raises is what the caller of the port gets."""

WATCHED = ("hypervisor", "disks", "images", "fabric", "vendor_data", "networks", "volumes")


class WorkerDied(BaseException):
    """As by SIGKILL: nothing of ours may catch it."""


class _Watched:
    def __init__(self, port: object, name: str, on_call: OnCall) -> None:
        self._port = port
        self._name = name
        self._on_call = on_call

    def __getattr__(self, verb: str) -> Any:
        call, name, on_call = getattr(self._port, verb), f"{self._name}.{verb}", self._on_call

        def watched(*args: Any, **named: Any) -> Any:
            on_call(name, Moment.BEFORE)
            answer = call(*args, **named)
            on_call(name, Moment.AFTER)
            return answer

        return watched


def watched(port: P, name: str, on_call: OnCall) -> P:
    """The same port, with every call told."""
    return cast("P", _Watched(port, name, on_call))


def watched_ports(ports: Ports, on_call: OnCall) -> Ports:
    """The same ports, each of those that touch the world with every call told."""
    assert {field.name for field in fields(ports)} == {*WATCHED, "clock", "limits", "choices", "host_links"}, (
        "a new port: is it to be watched?"
    )
    return replace(ports, **{name: watched(getattr(ports, name), name, on_call) for name in WATCHED})


def with_spied_step(flow: Flow, name: str, direction: Direction, told: Callable[[Moment], None]) -> Flow:
    """The same flow, but `told` is told before and after that step is done (or undone); what it raises is the step's error."""
    step = flow.step(name)
    real = getattr(type(step), direction.value)

    def spied(self: object, ctx: StepContext) -> Any:
        told(Moment.BEFORE)
        answer = real(self, ctx)
        told(Moment.AFTER)
        return answer

    changed = type(type(step).__name__, (type(step),), {direction.value: spied})()
    steps = tuple(changed if old is step else old for old in flow.steps)
    return cast("Flow", type(type(flow).__name__, (type(flow),), {"steps": steps})())


class RaiseAt:
    """Told of a moment, it raises if it is the one: each time, as a step would that cannot but fail. `raised` counts."""

    def __init__(self, moment: Moment, error: Callable[[], BaseException]) -> None:
        self._moment = moment
        self._error = error
        self.raised = 0

    def __call__(self, moment: Moment) -> None:
        if moment is self._moment:
            self.raised += 1
            raise self._error()


class RefuseAt:
    """The n-th moment (from 1) of a call to a port is refused, once: before the call, or when it has had its effect."""

    def __init__(self, number: int, error: Callable[[str], Exception]) -> None:
        self._number = number
        self._error = error
        self.moments = 0
        self.refused_at: str | None = None

    def __call__(self, name: str, moment: Moment) -> None:
        if name.partition(".")[0] not in WATCHED:
            return
        self.moments += 1
        if self.moments == self._number:
            self.refused_at = f"{moment} {name}"
            raise self._error(f"refused {self.refused_at}")


class DieAt:
    """Raises WorkerDied at the n-th moment (from 1), once. `moments` counts all that there were."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.moments = 0
        self.died_at: str | None = None

    def __call__(self, name: str, moment: Moment) -> None:
        self.moments += 1
        if self.moments == self._number:
            self.died_at = f"{moment} {name}"
            raise WorkerDied(self.died_at)
