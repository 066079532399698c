"""The part of the edge that is about networks, security groups and floating addresses: which requests there are, and whom they
concern on other hosts.

Knows of Celery only how a message is sent; what is done is in `network_requests`, `group_requests` and `floating_requests`.
"""

from collections.abc import Callable, Mapping

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from tasks.door import Already, Door
from tasks.floating_requests import FloatingDoor
from tasks.group_requests import Changed, GroupDoor
from tasks.image_requests import Answered
from tasks.network_requests import NetworkDoor
from tasks.node import Asking
from tasks.surroundings import Send, tell_hosts
from tasks.telling import Teller
from taskvisor.model.errors import CannotAsk
from taskvisor.model.ids import HostName

log = structlog.get_logger(__name__)


class NetworkRequestTasks:
    """The requests, of one app."""

    def __init__(self, app: Celery, teller: Teller, send: Send, ask_to_copy: Callable[[HostName], None]) -> None:
        """`send` asks a host to look at networks anew, `ask_to_copy` to let the copies of records follow; they may raise what
        sending a message raises.
        """
        self._app = app
        self._teller = teller
        self._send = send
        self._ask_to_copy = ask_to_copy

    @property
    def requests(self) -> Mapping[str, Asking]:
        """What is asked of no host, by the task's name."""
        return {
            "network.create": lambda door, *asked: self._networks(door).create(*asked),
            "network.delete": lambda door, *asked: self._networks(door).delete(*asked),
            "security_group.create": lambda door, *asked: self._groups(door).create(*asked),
            "security_group.update": lambda door, *asked: self._told(door, self._groups(door).update(*asked)),
            "security_group.delete": lambda door, *asked: self._groups(door).delete(*asked),
            "port.update": lambda door, *asked: self._told(door, self._groups(door).update_port(*asked)),
            "floating.create": lambda door, *asked: self._floating(door).create(*asked),
            "floating.bind": lambda door, *asked: self._told(door, self._floating(door).bind(*asked)),
            "floating.release": lambda door, *asked: self._told(door, self._floating(door).release(*asked)),
            "floating.delete": lambda door, *asked: self._floating(door).delete(*asked),
        }

    def _told(self, door: Door, answer: Already | Answered) -> Already | Answered:
        """The change is in the records, and its caller knows. Whom it concerns may come late to it: a host that could not be
        told finds out with its next periodic look.
        """
        if not isinstance(answer, Changed):
            return answer
        try:
            if answer.host is not None and answer.network is not None:
                self._send(answer.host, (answer.network,))
            tell_hosts(door.store, self._send, (), answer.groups, rules_of=answer.rules_of)
            if answer.recorded_on is not None:
                self._ask_to_copy(answer.recorded_on)
        except (CannotAsk, OperationalError, *self._app.connection_for_write().connection_errors) as silence:
            log.warning("hosts_not_told_of_change", host=answer.host, reason=str(silence))
        return answer

    def _networks(self, door: Door) -> NetworkDoor:
        return NetworkDoor(store=door.store, answers=self._teller)

    def _groups(self, door: Door) -> GroupDoor:
        return GroupDoor(store=door.store, answers=self._teller)

    def _floating(self, door: Door) -> FloatingDoor:
        return FloatingDoor(store=door.store, answers=self._teller)
