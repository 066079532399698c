"""Doors whose store moves under them, and things that happen while a port is called."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tasks.door import Door
from taskvisor.model.errors import DoesNotFit, Retryable
from tests.support.fleet import Fleet
from tests.support.spies import Moment


class Meanwhile:
    """A door to whose store something happens right after a look ("admission.read_holding"), so many times."""

    def __init__(self, fleet: Fleet, look: str, happen: Callable[[], object], *, times: int = 1) -> None:
        part, _, self._look = look.partition(".")
        self._part = getattr(fleet.store, part)
        self._happen = happen
        self._times = times
        self.door: Door = replace(fleet.door, store=replace(fleet.store, **{part: self}))  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._part, name)
        if name != self._look or self._times == 0:
            return attribute

        def looked(*args: Any, **named: Any) -> Any:
            seen = attribute(*args, **named)
            self._times -= 1
            self._happen()
            return seen

        return looked


class Failing:
    """A port that can never be asked."""

    def __getattr__(self, verb: str) -> Callable[..., None]:
        def fail(*_: object) -> None:
            raise Retryable(f"cannot {verb}")

        return fail


def do_during(fleet: Fleet, call: str, do: Callable[[], object]) -> None:
    """The first time that h1's runner calls the port, something is done meanwhile."""
    began: list[str] = []

    def on_call(name: str, moment: Moment) -> None:
        if name == call and moment is Moment.BEFORE and not began:
            began.append(name)
            do()

    fleet.watch(on_call)


def refuse_once(fleet: Fleet, *hosts: str) -> None:
    """Each of the hosts says of the first guest that it does not fit."""
    for host in hosts:
        _refuse_once(fleet, host)


def _refuse_once(fleet: Fleet, host: str) -> None:
    refused: list[str] = []

    def on_call(name: str, moment: Moment) -> None:
        if name == "images.ensure_cached" and moment is Moment.BEFORE and not refused:
            refused.append(name)
            raise DoesNotFit(f"host {host}: no room on its disk")

    fleet.watch(on_call, host=host)
