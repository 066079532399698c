"""The part of the edge that is about whole hosts: which requests there are, and how drains are carried on.

A drain that has something under way is looked at every few seconds, by a message that names the record's revision: of two such
messages one does nothing. A message that is lost costs the wait for the next sweep, which looks at every drain.

Knows of Celery only how a task is registered and sent; what is done is in `host_requests` and `draining`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from tasks.door import Already, Door
from tasks.draining import Drainer, Launch
from tasks.host_requests import DrainMoved, HostOperationsDoor
from tasks.image_requests import Answered
from tasks.node import Asking, Node
from tasks.telling import Teller
from taskvisor.model.errors import CannotAsk, TaskvisorError
from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.queues import COMPUTE_QUEUE

log = structlog.get_logger(__name__)

ADVANCE = "host.advance_drain"
LOOK_AGAIN_S = 2.0
"""While guests shut down or boot."""
ADVANCE_LIMIT_S = 120
"""Some hundred records are read, and a handful of operations asked for."""
GRACE_S = 15

Asked = tuple[OperationId, dict[str, Any]]


class HostRequestTasks:
    """The requests, of one app."""

    def __init__(self, app: Celery, node: Callable[[], Node], teller: Teller, launch: Launch) -> None:
        """`launch` raises nothing when Redis is silent."""
        self._app = app
        self._node = node
        self._teller = teller
        self._launch = launch

    @property
    def requests(self) -> Mapping[str, Asking]:
        """What is asked of no host, by the task's name."""
        return {
            "host.plan_drain": lambda door, *asked: self._hosts(door).plan_drain(*asked),
            "host.drain": lambda door, *asked: self._moved(door, self._hosts(door).drain(*asked)),
            "host.undrain": lambda door, *asked: self._moved(door, self._hosts(door).undrain(*asked)),
            "host.force_down": lambda door, *asked: self._hosts(door).force_down(*asked),
            "host.force_up": lambda door, *asked: self._hosts(door).force_up(*asked),
            "host.remove": lambda door, *asked: self._hosts(door).remove(*asked),
        }

    def register(self) -> None:
        """What carries drains on."""

        def advance_drain(host: str, revision: int) -> None:
            """Look at a host that is being drained, and ask for what comes next."""
            drainer = self._drainer(self._node().door)
            if drainer.advance(HostName(host), revision):
                self._send(drainer, HostName(host), LOOK_AGAIN_S)

        self._app.task(
            advance_drain,
            name=ADVANCE,
            shared=False,
            ignore_result=True,
            throws=(TaskvisorError,),
            soft_time_limit=ADVANCE_LIMIT_S,
            time_limit=ADVANCE_LIMIT_S + GRACE_S,
        )

    def sweep(self) -> None:
        """Carry on every drain that nobody has looked at for a sweep's period."""
        drainer = self._drainer(self._node().door)
        for host in drainer.advance_all(not_looked_at_for_s=self._node().sweep.period_s):
            self._send(drainer, host, LOOK_AGAIN_S)

    def _moved(self, door: Door, answer: Already | Answered) -> Already | Answered:
        if isinstance(answer, DrainMoved):
            self._send(self._drainer(door), answer.host, 0.0)
        return answer

    def _send(self, drainer: Drainer, host: HostName, delay_s: float) -> None:
        """What could not be sent is the sweep's."""
        options = {"countdown": delay_s} if delay_s > 0 else {}
        try:
            revision = drainer.read_revision(host)
            fields = {"host": host, "revision": revision}
            self._app.send_task(ADVANCE, kwargs=fields, queue=COMPUTE_QUEUE, ignore_result=True, **options)
        except (CannotAsk, OperationalError, *self._app.connection_for_write().connection_errors) as silence:
            log.warning("drain_left_to_sweep", host=host, reason=str(silence))

    def _hosts(self, door: Door) -> HostOperationsDoor:
        return HostOperationsDoor(store=door.store, drainer=self._drainer(door), now=door.now, answers=self._teller)

    def _drainer(self, door: Door) -> Drainer:
        return Drainer(door=door, launch=self._launch, now=door.now, at_once=self._node().drain_at_once)
