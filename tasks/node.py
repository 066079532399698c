"""What a process has opened, as its tasks see it. Who opens it is `workers`' business."""

from collections.abc import Callable
from typing import Any, Protocol

from tasks.batch import LetIn
from tasks.build_time_out import BuildTimeOut
from tasks.door import Answer, Door
from tasks.host_repair import HostRepairs
from tasks.host_watch import HostWatch
from tasks.image_requests import Answered
from tasks.image_upkeep import ImageUpkeep
from tasks.keeping import RecordKeeper
from tasks.monitoring import HostMonitor
from tasks.orphans import OrphanPatrol
from tasks.periodic import HostReport, Settler, Sweep
from tasks.reclaiming import Reclaimer
from tasks.recovering import Recovery
from tasks.replug import PlugCheck
from tasks.ticking import Ticker
from tasks.usage_audit import UsageAudit
from taskvisor.flow.ports import Ports
from taskvisor.flow.runner import StepRunner
from taskvisor.model.ids import HostName, OperationId

Asking = Callable[[Door, OperationId, dict[str, Any]], Answer | Answered | LetIn]
"""Asks the door, under an operation id, with the request's fields."""


class Node(Protocol):
    """What this process opened after fork. Each part is opened when it is first asked for, and once."""

    @property
    def host(self) -> HostName: ...
    @property
    def door(self) -> Door: ...
    @property
    def runner(self) -> StepRunner: ...
    @property
    def sweep(self) -> Sweep: ...
    @property
    def settler(self) -> Settler: ...
    @property
    def report(self) -> HostReport: ...
    @property
    def ports(self) -> Ports: ...
    @property
    def plugs(self) -> PlugCheck: ...
    @property
    def drain_at_once(self) -> int: ...
    @property
    def keeper(self) -> RecordKeeper: ...
    @property
    def repairs(self) -> HostRepairs: ...
    @property
    def orphans(self) -> OrphanPatrol: ...
    @property
    def recovery(self) -> Recovery: ...
    @property
    def ticker(self) -> Ticker: ...
    @property
    def monitor(self) -> HostMonitor: ...
    @property
    def host_watch(self) -> HostWatch: ...
    @property
    def build_time_out(self) -> BuildTimeOut: ...
    @property
    def reclaimer(self) -> Reclaimer: ...
    @property
    def image_upkeep(self) -> ImageUpkeep: ...
    @property
    def usage_audit(self) -> UsageAudit: ...
