"""Requests about floating addresses: the operator registers them, and each is bound to a port or to none.

Invariant: what a caller is told is written together with the record that it is about.
"""

from dataclasses import dataclass, replace
from typing import Any

from tasks.door import Already
from tasks.group_requests import Changed, port_named
from tasks.image_requests import Answered
from tasks.request_looks import Answers, looking_again, require_usable_id
from tasks.store import Store
from taskvisor.model.errors import Refused
from taskvisor.model.group_spec import FloatingBindSpec, FloatingRefSpec, FloatingSpec
from taskvisor.model.ids import OperationId, floating_id_for
from taskvisor.model.network import FloatingAddress, Port
from taskvisor.model.network_clash import FLOATING_KINDS
from taskvisor.model.network_view import floating_view
from taskvisor.model.records import Instance
from taskvisor.model.spec import parse_spec


@dataclass(frozen=True, kw_only=True)
class FloatingDoor:
    """Lets requests about floating addresses into one store."""

    store: Store
    answers: Answers

    def create(self, request_id: OperationId, fields: dict[str, Any]) -> Already | Answered:
        """The address is registered; whether it is routed to the hosts is the operator's business."""
        require_usable_id(self.store, request_id)
        address = parse_spec(FloatingSpec, fields).address
        asked = FloatingAddress(id=floating_id_for(address), address=address)

        def look() -> Already | Answered:
            seen, there = self.store.networks.read_list(), self.store.floating.look_up(address)
            if there is not None:
                return Already(result={**floating_view(there), "already": True})
            self.store.floating_changes.create(asked, seen, self.answers.answer_for(request_id, floating_view(asked)))
            return Answered()

        return looking_again(f"floating address {address}", look)

    def bind(self, request_id: OperationId, fields: dict[str, Any]) -> Already | Changed:
        """The address is the port's. Refused when either is bound to another, or the port's network can't have one.

        Whoever holds the instance is not disturbed.
        """
        require_usable_id(self.store, request_id)
        spec = parse_spec(FloatingBindSpec, fields)

        def look() -> Already | Changed:
            floating, instance = self._named(spec.floating), self._instance(spec.instance)
            port = port_named(instance, spec.port)
            self._require_translating(port)
            bound = replace(floating, port_id=port.id)
            if floating == bound:
                return Already(result={**floating_view(bound), "already": True})
            answer = self.answers.answer_for(request_id, floating_view(bound))
            self.store.floating_changes.bind(floating, instance.id, port.id, answer)
            return Changed(host=instance.host, network=port.network_id)

        return looking_again(f"floating address {spec.floating}", look)

    def release(self, request_id: OperationId, fields: dict[str, Any]) -> Already | Answered:
        """The address is no port's any more."""
        require_usable_id(self.store, request_id)
        wanted = parse_spec(FloatingRefSpec, fields).floating

        def look() -> Already | Answered:
            floating = self._named(wanted)
            holder = self.store.floating.read_holder(floating.id)
            free = floating_view(replace(floating, port_id=None))
            if holder is None:
                return Already(result={**free, "already": True})
            instance = self.store.catalog.read_instance(holder.instance_id)
            self.store.floating_changes.release(floating, holder, self.answers.answer_for(request_id, free))
            ports = () if instance is None else instance.ports
            network = next((port.network_id for port in ports if port.id == holder.port_id), None)
            return Answered() if instance is None else Changed(host=instance.host, network=network)

        return looking_again(f"floating address {wanted}", look)

    def delete(self, request_id: OperationId, fields: dict[str, Any]) -> Already | Answered:
        """The address is not registered any more. Refused while it is bound."""
        require_usable_id(self.store, request_id)
        wanted = parse_spec(FloatingRefSpec, fields).floating

        def look() -> Already | Answered:
            floating = self.store.floating.look_up(wanted)
            if floating is None:
                return Already(result={"id": wanted, "address": wanted, "state": "deleted", "already": True})
            result = {"id": floating.id, "address": floating.address, "state": "deleted"}
            self.store.floating_changes.delete(floating, self.answers.answer_for(request_id, result))
            return Answered()

        return looking_again(f"floating address {wanted}", look)

    def _named(self, address_or_id: str) -> FloatingAddress:
        found = self.store.floating.look_up(address_or_id)
        if found is None:
            raise Refused(f"floating: {address_or_id!r}: there is no such address; see `taskvisor floating list`")
        return found

    def _instance(self, name_or_id: str) -> Instance:
        found = self.store.catalog.find_instance(name_or_id)
        if found is None:
            raise Refused(f"instance: {name_or_id!r}: there is no instance of that name or id; see `taskvisor list`")
        return found

    def _require_translating(self, port: Port) -> None:
        network = self.store.catalog.read_network(port.network_id)
        if network.kind not in FLOATING_KINDS:
            raise Refused(
                f"port: {port.address} is on {network.name!r}, a {network.kind.value} network; only ports of"
                f" {' and '.join(sorted(FLOATING_KINDS))} networks may have a floating address"
            )
