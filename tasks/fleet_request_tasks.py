"""The part of the edge that is about hosts, aggregates, server groups, batches and plans: which requests there are.

Knows of Celery only how a message is sent and a task is registered; what is done is in `fleet_requests`, `batch` and `planning`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery

from tasks.batch import build_many
from tasks.door import Door
from tasks.fleet_requests import AggregateDoor, HostDoor, ServerGroupDoor
from tasks.node import Asking, Node
from tasks.planning import PLAN_ON_HOST, Planned, plan_build, plan_on_host
from tasks.telling import Teller
from taskvisor.model.errors import TaskvisorError
from taskvisor.model.ids import OperationId
from taskvisor.model.queues import control_queue

PLAN_LIMIT_S = 60
"""A host is asked for its facts, which takes a moment; a hypervisor that hangs must not keep the control node."""
GRACE_S = 15


class FleetRequestTasks:
    """The requests, of one app."""

    def __init__(self, app: Celery, node: Callable[[], Node], teller: Teller) -> None:
        self._app = app
        self._node = node
        self._teller = teller

    @property
    def requests(self) -> Mapping[str, Asking]:
        """What is asked of no host, or of one that is found first, by the task's name."""
        return {
            "host.enable": lambda door, *asked: self._hosts(door).enable(*asked),
            "host.disable": lambda door, *asked: self._hosts(door).disable(*asked),
            "host.label": lambda door, *asked: self._hosts(door).label(*asked),
            "aggregate.create": lambda door, *asked: self._aggregates(door).create(*asked),
            "aggregate.delete": lambda door, *asked: self._aggregates(door).delete(*asked),
            "aggregate.add_host": lambda door, *asked: self._aggregates(door).add_host(*asked),
            "aggregate.remove_host": lambda door, *asked: self._aggregates(door).remove_host(*asked),
            "aggregate.set": lambda door, *asked: self._aggregates(door).set_properties(*asked),
            "server_group.create": lambda door, *asked: self._groups(door).create(*asked),
            "server_group.delete": lambda door, *asked: self._groups(door).delete(*asked),
            "instance.build_many": build_many,
            "instance.plan": self._plan,
        }

    def register(self) -> None:
        """What a host is asked."""

        def plan(request: dict[str, Any], placement: dict[str, Any]) -> Any:
            """What a build would come to on this host: its disks, its NICs, its definition. Nothing is touched."""
            node = self._node()
            return plan_on_host(node.ports, node.door, node.report.host, request, placement)

        self._app.task(
            plan,
            name=PLAN_ON_HOST,
            shared=False,
            throws=(TaskvisorError,),
            soft_time_limit=PLAN_LIMIT_S,
            time_limit=PLAN_LIMIT_S + GRACE_S,
        )

    def _plan(self, door: Door, request_id: OperationId, fields: dict[str, Any]) -> Planned:
        """The host is found here, and asked under the request's own id: what it answers is the request's result."""
        planned = plan_build(door, request_id, fields)
        self._app.send_task(
            PLAN_ON_HOST,
            kwargs={"request": planned.request, "placement": planned.placement},
            task_id=request_id,
            queue=control_queue(planned.host),
            expires=PLAN_LIMIT_S,
        )
        return planned

    def _hosts(self, door: Door) -> HostDoor:
        return HostDoor(store=door.store, answers=self._teller)

    def _aggregates(self, door: Door) -> AggregateDoor:
        return AggregateDoor(store=door.store, answers=self._teller)

    def _groups(self, door: Door) -> ServerGroupDoor:
        return ServerGroupDoor(store=door.store, answers=self._teller)
