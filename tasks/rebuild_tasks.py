"""The part of the edge that is about a lost store: hosts keep copies of records, and tell all that they have.

Knows of Celery only how a task is registered and sent; what is done is `keeping` and `holdings`.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from tasks.holdings import holdings_of
from tasks.node import Node
from taskvisor.model.errors import Busy, TaskvisorError
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.operation import Operation
from taskvisor.model.queues import control_queue
from taskvisor.state.closing import Closing

log = structlog.get_logger(__name__)

TELL, KEEP = "host.tell", "host.keep_record"
KEPT_WITHIN_S = 60
"""A host that takes the message no sooner looks at all its records by itself."""
TELL_LIMIT_S = 120
"""The definitions and copies of some hundreds of guests are read in seconds."""
GRACE_S = 15
CLOSED_LOOK_S = 2.0
"""A request that meets a closed store looks again so often."""


class RebuildTasks:
    """The tasks that are about a lost store, of one app."""

    def __init__(self, app: Celery, node: Callable[[], Node]) -> None:
        self._app = app
        self._node = node

    def register(self) -> None:
        """What a host is asked."""

        def tell() -> Any:
            """All that this host has of records, for `taskvisor rebuild --from-hosts`. Changes nothing."""
            keeper = self._node().keeper
            return msgspec.to_builtins(
                holdings_of(keeper.ports, keeper.store.resources, keeper.host, keeper.ports.clock.now())
            )

        def keep_record(instance: str) -> None:
            """Keep a copy of the instance's record beside its disks. What changes otherwise is the periodic look's."""
            keeper = self._node().keeper
            keeper.keep_one(InstanceId(instance))
            keeper.keep_images()  # a snapshot has made one

        limits = {"soft_time_limit": TELL_LIMIT_S, "time_limit": TELL_LIMIT_S + GRACE_S}
        self._app.task(tell, name=TELL, shared=False, throws=(TaskvisorError,), **limits)
        self._app.task(keep_record, name=KEEP, shared=False, ignore_result=True, throws=(TaskvisorError,), **limits)

    def ask_to_keep(self, ended: Operation) -> None:
        """The host of an operation that has ended is asked to keep what it changed. What is not sent is the periodic look's."""
        queue = control_queue(ended.host)
        try:
            self._app.send_task(
                KEEP,
                kwargs={"instance": ended.instance_id},
                queue=queue,
                expires=KEPT_WITHIN_S,
                ignore_result=True,
            )
        except (OperationalError, *self._app.connection_for_write().connection_errors) as silence:
            log.warning("record_kept_later", instance_id=ended.instance_id, reason=str(silence))


def require_open(closing: Closing, host: HostName) -> None:
    """Busy, with the reason, while the store takes no requests: they wait until it does. `host` is whose node asks."""
    reason = closing.reason_at(host)
    if reason is not None:
        raise Busy(f"the store takes no requests now: {reason}", delay_s=CLOSED_LOOK_S)
