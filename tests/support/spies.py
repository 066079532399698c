"""Ports that tell of each call before and after it is made: for spying, for failing, and for dying in the midst."""

from collections.abc import Callable
from dataclasses import fields, replace
from enum import StrEnum
from typing import Any, TypeVar, cast

from taskvisor.flow.ports import Ports

P = TypeVar("P")


class Moment(StrEnum):
    BEFORE = "before"
    AFTER = "after"


OnCall = Callable[[str, Moment], None]
"""Told of "fabric.ensure_plugged" and the moment; what it raises is what the caller of the port gets."""

WATCHED = ("hypervisor", "disks", "images", "fabric", "networks")


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
    assert {field.name for field in fields(ports)} == {*WATCHED, "clock", "limits"}, "a new port: is it to be watched?"
    return replace(ports, **{name: watched(getattr(ports, name), name, on_call) for name in WATCHED})


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
