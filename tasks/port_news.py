"""Which hosts must hear of ports that have come, gone or moved: those that the ports' networks span, and those whose rules may
be about the ports' groups. A lost message costs the wait for a host's next periodic look (`tasks/replug.py`).
"""

from collections.abc import Collection

from tasks.store import Store
from tasks.surroundings import Send, tell_hosts
from taskvisor.model.ids import HostName, NetworkId
from taskvisor.model.network import NetworkKind, Port

SPANNING = frozenset({NetworkKind.VXLAN})
"""Kinds of which each host must know the others' ports: of all else switches learn where a MAC is."""


def tell_of_ports(store: Store, send: Send, ports: Collection[Port], *, aware: HostName | None = None) -> None:
    """Each host concerned is asked to look, but for the one that is `aware` already, since it plugs these ports.

    CannotAsk when the records can't be read; what sending raises.
    """

    def send_to_others(host: HostName, networks: tuple[NetworkId, ...]) -> None:
        if host != aware:
            send(host, networks)

    known = {port.network_id: store.catalog.read_network(port.network_id) for port in ports}
    spanning = frozenset(network.id for network in known.values() if network.kind in SPANNING)
    groups = frozenset(group for port in ports for group in port.security_groups)
    tell_hosts(store, send_to_others, spanning, groups)
