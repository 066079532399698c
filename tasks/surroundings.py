"""Telling hosts that what surrounds their guests has changed: ports of other hosts, security groups, floating addresses.

A message is only ever a reason to look: what is true is in the records, and the host that gets it reads them anew. Knows no
queue: how a message is sent is given.
"""

from collections.abc import Callable, Collection
from typing import Protocol

from taskvisor.model.ids import HostName, NetworkId, SecurityGroupId
from taskvisor.state.surroundings import SurroundingsReader

Send = Callable[[HostName, tuple[NetworkId, ...]], None]
"""Asks a host to look at these networks, of which it has ports."""


class HasSurroundings(Protocol):
    """As much of the store as this needs."""

    @property
    def surroundings(self) -> SurroundingsReader: ...


def tell_hosts(
    store: HasSurroundings,
    send: Send,
    networks: Collection[NetworkId],
    groups: Collection[SecurityGroupId],
    *,
    rules_of: Collection[SecurityGroupId] = (),
) -> None:
    """Each host with a port on one of the networks, or one that a rule about one of the groups filters, is asked to look; so
    is each with a port in a group of `rules_of`, whose own rules have changed.

    CannotAsk when the records can't be read; what sending raises.
    """
    if not (networks or groups or rules_of):
        return
    for host, theirs in store.surroundings.hosts_concerned(networks, groups, rules_of).items():
        send(host, theirs)
