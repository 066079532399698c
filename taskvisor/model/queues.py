"""The names of queues, and of the lists beside them (`workers/inflight.py` says what is in these). Knows no Redis.

Every host has two queues, and one is everybody's. A list's name is made of a queue's, so no host may bear a name that reads
as another's list.
"""

import re

from taskvisor.model.ids import HostName

COMPUTE_QUEUE = "compute"
"""Requests, for whichever control node takes them first."""
OF_A_HOST = re.compile(r"host\.(.+?)(\.control)?")


def steps_queue(host: str) -> str:
    """The queue of a host's steps node: long work."""
    return f"host.{host}"


def control_queue(host: str) -> str:
    """The queue of a host's control node: ticks."""
    return f"host.{host}.control"


def queues_of(host: str) -> tuple[str, str]:
    """Those that nobody but the host takes from."""
    return steps_queue(host), control_queue(host)


def host_of_queue(queue: str) -> HostName | None:
    """The host whose own queue it is; None for the one that is everybody's."""
    found = OF_A_HOST.fullmatch(queue)
    return HostName(found[1]) if found else None


def inflight_key(queue: str, consumer: str) -> str:
    """The list of what a consumer has taken and not settled."""
    return f"{queue}.inflight.{consumer}"


def dead_key(queue: str) -> str:
    """The list of messages that could not be taken, each with its reason."""
    return f"{queue}.dead"


def reads_as_a_list(host: str) -> bool:
    """The name would make the host's queue the list of another's."""
    return host.endswith((".control", ".dead")) or ".inflight." in host
