"""Requests to mend findings over a fleet, without Celery: what `tasks/repair_tasks.py` does with it, done by hand."""

from dataclasses import replace
from typing import Any

from tasks.door import Already
from tasks.host_repair import HostRepairs
from tasks.repair_requests import RepairDoor
from taskvisor.model.finding import AuditLimits, Finding
from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.repair import RepairSpec
from tests.support.fleet import PERIOD_S, Fleet
from tests.support.images import ImageDesk, PlainAnswers
from tests.support.published import require_published_result
from workers.locks import InstanceLocks


class RepairDesk:
    """Takes requests to mend, and gives hosts their messages at once."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._images = ImageDesk(fleet)
        self._asked = 0
        self._results: dict[str, dict[str, Any]] = {}

    def mend(self, finding: Finding, request_id: str | None = None) -> dict[str, Any]:
        """What the caller is told; a refusal is raised. Operations and images that are sent on come to their ends."""
        told = self._mended(finding, request_id)
        require_published_result("fleet.repair", told)
        return told

    def _mended(self, finding: Finding, request_id: str | None) -> dict[str, Any]:
        self._asked += 1
        name = request_id or f"repair-{self._asked}"
        fields = {"code": finding.code.value, "subject": finding.subject, "host": finding.host}
        answer = self.door.repair(OperationId(name), fields)
        self._images.deliver_all()
        self.fleet.post.deliver_all()
        if isinstance(answer, Already):
            return dict(answer.result)
        return self._results.pop(name, None) or self._shown(name)

    @property
    def door(self) -> RepairDoor:
        return RepairDoor(
            store=self.fleet.store,
            now=self.fleet.clock.now,
            limits=AuditLimits(sweep_s=PERIOD_S),
            answers=PlainAnswers(),
            launch=self.fleet.post.launch,
            ask_host=self._ask_host,
            ask_removal=self._images.sent.append,
        )

    def host(self, name: str = "h1") -> HostRepairs:
        """What the host does when it is asked."""
        there = self.fleet.hosts[HostName(name)]
        return HostRepairs(
            store=self.fleet.store,
            host=there.name,
            ports=there.ports,
            exclusion=InstanceLocks(there.root / "locks"),
            plugs=replace(there.plugs),
            report=there.report,
        )

    def _ask_host(self, host: HostName, request_id: OperationId, asked: RepairSpec) -> None:
        self._results[request_id] = self.host(host).mend(asked)

    def _shown(self, name: str) -> dict[str, Any]:
        shown = self._images.shown(name)
        assert shown is not None, f"the caller of {name} was told nothing"
        assert shown[0] == "SUCCESS", shown
        return dict(shown[1])
