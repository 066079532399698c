"""The part of the edge that is about what surrounds guests: whom to tell when ports come and go, and what a host then does.

Knows of Celery only how a task is registered and sent; what is done is `port_news` and `replug`.
"""

from collections.abc import Callable

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from tasks.node import Node
from tasks.port_news import tell_of_ports
from tasks.replug import COPY, REFRESH
from taskvisor.model.errors import TaskvisorError
from taskvisor.model.ids import HostName, NetworkId
from taskvisor.model.network import Port
from taskvisor.model.queues import control_queue

log = structlog.get_logger(__name__)

TOLD_WITHIN_S = 300
"""A host that does not take a message for so long has looked at all its networks before it comes to that one."""
CHECK_LIMIT_S = 300
"""A plug takes some tens of milliseconds, and all guests of a host may lack one."""
GRACE_S = 15


class NetworkTasks:
    """The tasks that are about what surrounds guests, of one app."""

    def __init__(self, app: Celery, node: Callable[[], Node]) -> None:
        self._app = app
        self._node = node

    def register(self) -> None:
        """What a host is asked."""

        def refresh_networks(networks: list[str]) -> None:
            """Let what surrounds these networks on this host, or all of its networks, follow the records."""
            self._node().plugs.refresh([NetworkId(network_id) for network_id in networks])

        def copy_records() -> None:
            """Let the copies of records that domains of this host carry follow the records."""
            self._node().plugs.copy_records()

        for function, name in ((refresh_networks, REFRESH), (copy_records, COPY)):
            self._app.task(
                function,
                name=name,
                shared=False,
                ignore_result=True,
                throws=(TaskvisorError,),
                soft_time_limit=CHECK_LIMIT_S,
                time_limit=CHECK_LIMIT_S + GRACE_S,
            )

    def tell_of_ports(self, ports: tuple[Port, ...], *, aware: HostName | None = None) -> None:
        """The hosts that must know of these ports, which have come, gone or moved, are asked to look, but for the one that is
        `aware`: it plugs them.

        Raises nothing: of what could not be sent, each host finds out for itself in time.
        """
        if not ports:
            return
        try:
            tell_of_ports(self._node().door.store, self.ask_to_refresh, ports, aware=aware)
        except (TaskvisorError, OperationalError, *self._app.connection_for_write().connection_errors) as silence:
            log.warning("hosts_not_told_of_ports", ports=[port.id for port in ports], reason=str(silence))

    def ask_to_refresh(self, host: HostName, networks: tuple[NetworkId, ...]) -> None:
        """Ask a host to look at what surrounds these of its networks, or all of them when none is named."""
        fields = {"networks": list(networks)}
        queue = control_queue(host)
        self._app.send_task(REFRESH, kwargs=fields, queue=queue, expires=TOLD_WITHIN_S, ignore_result=True)

    def ask_to_copy(self, host: HostName) -> None:
        """Ask a host to let the copies of records follow them."""
        self._app.send_task(COPY, queue=control_queue(host), expires=TOLD_WITHIN_S, ignore_result=True)
