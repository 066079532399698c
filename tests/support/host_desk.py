"""Requests about whole hosts over a fleet, and drains carried on as a control node does it. No worker runs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tasks.door import Already
from tasks.draining import Drainer
from tasks.host_requests import HostOperationsDoor
from taskvisor.model.drain import Drain
from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.records import Host
from taskvisor.state.writing import Outcome
from tests.support.fleet import Fleet
from tests.support.published import require_published_result

LOOKS_LIMIT = 100


class Answers:
    """Answers as they would be stored, under keys of their own."""

    def answer_for(self, request_id: OperationId, result: Mapping[str, Any]) -> Outcome:
        return Outcome(key=f"answer:{request_id}", payload=json.dumps(dict(result)), keep_s=3600)


@dataclass
class HostDesk:
    """`at_once`: so many guests are stopped or started together."""

    fleet: Fleet
    at_once: int = 2
    asked: int = field(default=0, init=False)

    @property
    def drainer(self) -> Drainer:
        return Drainer(
            door=self.fleet.door, launch=self.fleet.post.launch, now=self.fleet.clock.now, at_once=self.at_once
        )

    @property
    def door(self) -> HostOperationsDoor:
        return HostOperationsDoor(
            store=self.fleet.store, drainer=self.drainer, now=self.fleet.clock.now, answers=Answers()
        )

    def ask(self, act: str, request_id: str | None = None, **fields: Any) -> dict[str, Any]:
        """What its caller is told; a refusal is raised."""
        told = self._told(act, request_id, fields)
        require_published_result(f"host.{act}", told)
        return told

    def _told(self, act: str, request_id: str | None, fields: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        request_id = request_id or f"request-{self.asked}"
        answer = getattr(self.door, act)(OperationId(request_id), fields)
        if isinstance(answer, Already):
            return dict(answer.result)
        stored = self.fleet.client.get(f"answer:{request_id}")
        assert stored is not None
        told: dict[str, Any] = json.loads(str(stored))
        return told

    def look(self) -> None:
        """Every drain is looked at once, however lately it was."""
        self.drainer.advance_all(not_looked_at_for_s=0.0)

    def drain_to_its_end(self, host: str = "h1") -> Drain:
        """Looks, messages and time go by until the drain is not active any more."""
        for _ in range(LOOKS_LIMIT):
            self.fleet.sweep.run()
            self.look()
            self.fleet.post.deliver_all()
            if not self.read(host).phase.is_active:
                return self.read(host)
            self.fleet.clock.sleep(2.0)
        raise AssertionError(f"the drain has not ended: {self.read(host)}")

    def read(self, host: str = "h1") -> Drain:
        """The host's drain, which must be there."""
        seen = self.fleet.store.drains.read(HostName(host))
        assert seen is not None
        return seen.drain

    def host(self, name: str = "h1") -> Host:
        return next(host for host in self.fleet.store.hosts.list_hosts() if host.name == name)

    def with_door(self, **parts: Any) -> Drainer:
        """A drainer whose store has other parts."""
        door = replace(self.fleet.door, store=replace(self.fleet.store, **parts))
        return replace(self.drainer, door=door)
