"""Who takes requests, and how many wait for somebody to take them. A look; nothing is changed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskvisor.model.ids import HostName
from taskvisor.state.connection import asking
from taskvisor.state.hosts import Hosts
from taskvisor.state.keys import Keys

if TYPE_CHECKING:
    import redis

REQUESTS_QUEUE = "compute"


@dataclass(frozen=True, kw_only=True)
class Takers:
    """`hosts`: all that ever reported; `silent`: those of them that take no requests now; `waiting`: requests in the queue."""

    hosts: tuple[HostName, ...]
    silent: tuple[HostName, ...]
    waiting: int


def read_takers(client: "redis.Redis", keys: Keys) -> Takers:
    """As they are now. CannotAsk when Redis does not answer."""
    hosts = Hosts(client, keys)
    names, silent = tuple(name for name, _ in hosts.list_alive()), hosts.list_not_taking()
    with asking("count the requests that wait"):
        waiting = int(client.llen(REQUESTS_QUEUE))
    return Takers(hosts=names, silent=silent, waiting=waiting)
