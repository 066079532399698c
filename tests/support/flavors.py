"""Requests about flavors over a fleet, without Celery."""

from collections.abc import Callable
from typing import Any

import msgspec

from tasks.door import Already
from tasks.flavor_requests import FlavorDoor
from tasks.image_requests import Answered
from taskvisor.model.ids import OperationId
from tests.support.fleet import Fleet
from tests.support.images import PlainAnswers

SIZE = {"vcpus": 2, "memory_mib": 256, "disk_gib": 3}


class FlavorDesk:
    """Takes requests as the edge does."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.door = FlavorDoor(store=fleet.store, answers=PlainAnswers(), now=fleet.clock.now)

    def create(self, name: str, *, request_id: str = "make", **fields: Any) -> dict[str, Any]:
        """What its caller is told; of a flavor of SIZE, unless the fields say otherwise."""
        return self.ask(self.door.create, request_id, name=name, **{**SIZE, **fields})

    def ask(
        self,
        request: Callable[[OperationId, dict[str, Any]], Already | Answered],
        request_id: str,
        **fields: Any,
    ) -> dict[str, Any]:
        answer = request(OperationId(request_id), fields)
        if isinstance(answer, Already):
            return dict(answer.result)
        state, result = msgspec.json.decode(str(self._fleet.client.get(f"result:{request_id}")))
        assert state == "SUCCESS"
        return dict(result)


def make_flavor(fleet: Fleet, name: str, **fields: Any) -> None:
    """A flavor is there whose id is `id-of-<name>`."""
    FlavorDesk(fleet).create(name, request_id=f"make-{name}", id=f"id-of-{name}", **fields)
