"""The client has a method for every request that workers take, and none for what they don't. Neither list is written here."""

import inspect
from collections.abc import Iterator
from typing import Any

from tasks.requests import REQUESTS
from taskvisor.client import Taskvisor

OF_HOSTS = {"host.verify", "host.tell", "host.track"}
"""What is asked of one host's control node; the rest is asked of whichever takes requests."""


class Spy(Taskvisor):
    """Sends nothing."""

    def __init__(self) -> None:
        super().__init__("redis://127.0.0.1:1/0")
        self.sent: list[tuple[str, str]] = []

    def _send(self, task: str, fields: Any, request_id: str, *, queue: str = "compute", expires_s: Any = None) -> None:
        self.sent.append((task, queue))


def filled(method: Any) -> Iterator[tuple[str, Any]]:
    """A value for each argument that has none."""
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.default is inspect.Parameter.empty and parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            kind = str(parameter.annotation)
            yield name, 1 if kind in ("int", "float") else {} if kind.startswith("Mapping") else "x"


def test_every_request_that_workers_take_has_a_method_of_the_client() -> None:
    spy = Spy()
    for name, method in inspect.getmembers(spy, inspect.ismethod):
        returns = str(inspect.signature(method).return_annotation)
        if (
            not name.startswith("_")
            and (returns.startswith("Handle[") or name == "report_of_host")
            and name != "handle"
        ):
            before = len(spy.sent)
            method(**dict(filled(method)))
            assert len(spy.sent) == before + 1, name
    asked = {task for task, queue in spy.sent if queue == "compute"}
    assert asked == set(REQUESTS)
    assert {task for task, queue in spy.sent if queue == "host.x.control"} == OF_HOSTS
