"""Requests about images over a fleet, without Celery: what `tasks/image_tasks.py` does with it, done by hand."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from tasks.door import Already
from tasks.image_removal import ImageRemoval, RemovalSweep
from tasks.image_requests import Answered, ImageDoor
from taskvisor.model.errors import TaskvisorError
from taskvisor.model.ids import OperationId
from taskvisor.model.records import Image
from taskvisor.state.writing import Outcome
from tests.support.fleet import PERIOD_S, Fleet
from tests.support.spies import OnCall, watched

KEEP_S = 3600


class PlainAnswers:
    """What callers are told: the state, and what goes with it, as JSON."""

    def answer_for(self, request_id: OperationId, result: Mapping[str, Any]) -> Outcome:
        return _outcome(request_id, "SUCCESS", dict(result))

    def waiting_for(self, request_id: OperationId, reason: TaskvisorError) -> Outcome:
        return _outcome(request_id, "RETRY", str(reason))


def _outcome(request_id: OperationId, state: str, result: object) -> Outcome:
    return Outcome(key=f"result:{request_id}", payload=msgspec.json.encode([state, result]).decode(), keep_s=KEEP_S)


class ImageDesk:
    """Takes requests, and keeps the messages to hosts in the open."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._on_call: OnCall | None = None
        self.sent: list[Image] = []
        self.answers = PlainAnswers()

    def watch(self, on_call: OnCall) -> None:
        """From now on it is told of each call that the host's part makes, to its disks and to the records."""
        self._on_call = on_call

    def register(self, name: str, source: str, *, request_id: str = "reg", **fields: Any) -> dict[str, Any]:
        """What its caller is told."""
        asked = {"name": name, "source": source, **fields}
        return self._told(request_id, self.door.register(OperationId(request_id), asked))

    def delete(self, image: str, *, request_id: str = "del") -> dict[str, Any]:
        """What its caller is told by now; empty while the image is going."""
        return self._told(request_id, self.door.delete(OperationId(request_id), {"image": image}))

    @property
    def door(self) -> ImageDoor:
        return ImageDoor(store=self._fleet.store, now=self._fleet.clock.now, answers=self.answers)

    def shown(self, request_id: str = "del") -> tuple[str, Any] | None:
        """State and result that the caller sees."""
        text = self._fleet.client.get(f"result:{request_id}")
        return None if text is None else tuple(msgspec.json.decode(str(text)))

    def deliver(self, image: Image) -> bool:
        """One message, given to the host; it stays in the post when that dies of it."""
        host = self._fleet.hosts[image.host or self._no_host(image)]
        store, disks = self._fleet.store, host.ports.disks
        if self._on_call is not None:
            disks = watched(disks, "disks", self._on_call)
            store = replace(store, images=watched(store.images, "images", self._on_call))
        removal = ImageRemoval(store=store, disks=disks, host=host.name, answers=self.answers)
        return removal.remove(image.name, image.id)

    def deliver_all(self) -> None:
        while self.sent:
            self.deliver(self.sent.pop(0))

    def sweep(self) -> int:
        """The periodic look, and its messages are in the post."""
        return RemovalSweep(
            store=self._fleet.store, send=self.sent.append, now=self._fleet.clock.now, period_s=PERIOD_S
        ).run()

    def _told(self, request_id: str, answer: Already | Answered) -> dict[str, Any]:
        if isinstance(answer, Already):
            return dict(answer.result)
        if answer.removing is not None:
            self.sent.append(answer.removing)
            return {}
        shown = self.shown(request_id)
        assert shown is not None, f"the caller of {request_id} was told nothing"
        assert shown[0] == "SUCCESS", shown
        return dict(shown[1])

    def _no_host(self, image: Image) -> Any:
        raise AssertionError(f"image {image.name} has no host that could be asked")
