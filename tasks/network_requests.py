"""Requests about networks: one is recorded, or taken out of the records. No host is touched: a host makes what it needs of a
network with its first port of it, and takes it away with the last.

Invariant: what a caller is told is written together with the record that it is about.
"""

from dataclasses import dataclass, fields
from typing import Any

from tasks.door import Already
from tasks.image_requests import Answered
from tasks.request_looks import Answers, looking_again, require_usable_id
from tasks.store import Store
from taskvisor.model.errors import Refused
from taskvisor.model.ids import OperationId, created_network_id_for
from taskvisor.model.network import Network
from taskvisor.model.network_clash import holder_of
from taskvisor.model.network_spec import NetworkRefSpec, NetworkSpec, network_for
from taskvisor.model.network_view import network_view
from taskvisor.model.spec import parse_spec


@dataclass(frozen=True, kw_only=True)
class NetworkDoor:
    """Lets requests about networks into one store."""

    store: Store
    answers: Answers

    def create(self, request_id: OperationId, asked_for: dict[str, Any]) -> Already | Answered:
        """The network is recorded. The same again, under any id, is the same network.

        Refused names field, value and rule: of the network itself, or of what it can't be beside.
        """
        require_usable_id(self.store, request_id)
        asked = network_for(parse_spec(NetworkSpec, asked_for), created_network_id_for(request_id))

        def look() -> Already | Answered:
            seen = self.store.networks.read_list()
            there = next((network for network in seen.networks if network.name == asked.name), None)
            if there is not None:
                return _again(there, asked)
            self._require_beside_floating(asked)
            self.store.networks.create(asked, seen, self.answers.answer_for(request_id, network_view(asked)))
            return Answered()

        return looking_again(f"network {asked.name}", look)

    def delete(self, request_id: OperationId, asked_for: dict[str, Any]) -> Already | Answered:
        """The network is gone from the records. Refused while a port of it is held."""
        require_usable_id(self.store, request_id)
        wanted = parse_spec(NetworkRefSpec, asked_for).network

        def look() -> Already | Answered:
            network = self.store.catalog.look_up_network(wanted)
            if network is None:
                return Already(result={"id": wanted, "name": wanted, "state": "deleted", "already": True})
            result = {"id": network.id, "name": network.name, "state": "deleted"}
            self.store.networks.delete(network, self.answers.answer_for(request_id, result))
            return Answered()

        return looking_again(f"network {wanted}", look)

    def _require_beside_floating(self, asked: Network) -> None:
        for floating in self.store.floating.list():
            if holder_of(floating.address, (asked,)) is not None:
                raise Refused(
                    f"cidr: {asked.cidr} holds the floating address {floating.address}; choose another, or delete that first"
                )


def _again(there: Network, asked: Network) -> Already:
    """The answer to who creates what is there. Refused when it is something else."""
    named = (field.name for field in fields(Network) if field.name != "id")
    differing = [name for name in named if getattr(there, name) != getattr(asked, name)]
    if differing:
        raise Refused(
            f"name: {there.name!r} is the name of another network (it differs in {', '.join(differing)}); choose another, or"
            " delete that one first"
        )
    view = dict(network_view(there))
    return Already(result=view if there.id == asked.id else {**view, "already": True})
