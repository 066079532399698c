"""The part of the edge that is about repairs: the request, and what a host is asked to mend.

Knows of Celery only how a task is registered and sent; what is done is `repair_requests` and `host_repair`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery

from tasks.door import Door
from tasks.image_tasks import ImageTasks
from tasks.node import Asking, Node
from tasks.repair_requests import RepairDoor
from tasks.telling import Teller
from taskvisor.model.errors import TaskvisorError
from taskvisor.model.finding import AuditLimits
from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.operation import Operation
from taskvisor.model.queues import control_queue
from taskvisor.model.repair import RepairSpec
from taskvisor.model.spec import parse_spec

REPAIR, ON_HOST = "fleet.repair", "host.repair"
REPAIR_LIMIT_S = 300
"""A guest is given a NIC anew, or a volume connected, well within it; what hangs must not keep the control node."""
GRACE_S = 15


class RepairTasks:
    """The tasks that are about repairs, of one app."""

    def __init__(
        self,
        app: Celery,
        node: Callable[[], Node],
        teller: Teller,
        *,
        launch: Callable[[Operation], None],
        images: ImageTasks,
    ) -> None:
        self._app = app
        self._node = node
        self._teller = teller
        self._launch = launch
        self._images = images

    @property
    def requests(self) -> Mapping[str, Asking]:
        """What is asked of no host, or of one that is found first, by the task's name."""
        return {REPAIR: lambda door, request_id, fields: self._door(door).repair(request_id, fields)}

    def register(self) -> None:
        """What a host is asked."""

        def repair(code: str, subject: str, host: str | None = None) -> dict[str, Any]:
            """Mend what `taskvisor verify` has found on this host, if it is so still."""
            asked = parse_spec(RepairSpec, {"code": code, "subject": subject, "host": host})
            return self._node().repairs.mend(asked)

        self._app.task(
            repair,
            name=ON_HOST,
            shared=False,
            throws=(TaskvisorError,),
            soft_time_limit=REPAIR_LIMIT_S,
            time_limit=REPAIR_LIMIT_S + GRACE_S,
        )

    def _door(self, door: Door) -> RepairDoor:
        sweep = self._node().sweep
        return RepairDoor(
            store=door.store,
            now=door.now,
            limits=AuditLimits(sweep_s=sweep.period_s),
            answers=self._teller,
            launch=self._launch,
            ask_host=self._ask_host,
            ask_removal=self._images.send_removal,
        )

    def _ask_host(self, host: HostName, request_id: OperationId, asked: RepairSpec) -> None:
        """Under the request's own id: what the host answers is the request's result."""
        self._app.send_task(
            ON_HOST,
            kwargs=asked.model_dump(mode="json"),
            task_id=request_id,
            queue=control_queue(host),
            expires=REPAIR_LIMIT_S,
        )
