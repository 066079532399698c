"""The message that asks a host to look anew at what surrounds its guests. Knows of Celery only how it is sent."""

from collections.abc import Callable

from celery import Celery

from tasks.surroundings import Send
from taskvisor.model.ids import HostName, NetworkId

REFRESH = "host.refresh_networks"
TOLD_WITHIN_S = 300
"""A host that does not take a message for so long has looked at all its networks before it comes to that one."""


def refresh_sender(app: Celery, queue_of: Callable[[str], str]) -> Send:
    """Sends it through that app. `queue_of`: the queue of the node that takes what a host is asked besides steps."""

    def send(host: HostName, networks: tuple[NetworkId, ...]) -> None:
        fields = {"networks": list(networks)}
        app.send_task(REFRESH, kwargs=fields, queue=queue_of(host), expires=TOLD_WITHIN_S, ignore_result=True)

    return send
