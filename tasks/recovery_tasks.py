"""The part of the edge that is about a host's start: it asks itself to recover. Knows of Celery only how a task is registered."""

from collections.abc import Callable

from celery import Celery

from tasks.node import Node
from taskvisor.model.errors import TaskvisorError

RECOVER = "host.recover"
RECOVER_LIMIT_S = 300
"""A hard reboot is let in within milliseconds, and all guests of a host may want one."""
GRACE_S = 15


def register_recovery(app: Celery, node: Callable[[], Node]) -> None:
    """The task of one app."""

    def recover() -> None:
        """Heal records that were left, and start guests that ran when this host went down, where that is wished."""
        node().recovery.run()

    app.task(
        recover,
        name=RECOVER,
        shared=False,
        ignore_result=True,
        throws=(TaskvisorError,),
        soft_time_limit=RECOVER_LIMIT_S,
        time_limit=RECOVER_LIMIT_S + GRACE_S,
    )
