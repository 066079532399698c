"""The part of the Python client that is about networks, security groups, ports and floating addresses."""

from __future__ import annotations  # as in `taskvisor`

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from taskvisor.client.asks import Asks

if TYPE_CHECKING:
    from taskvisor.client.handle import Handle
    from taskvisor.fields import (
        ChangedFloatingView,
        CreatedNetworkView,
        DeletedFloatingView,
        DeletedRecordView,
        NetworkFields,
        PowerView,
        RuleFields,
        WrittenGroupView,
    )


class NetworkRequests(Asks):
    """Mixed into `Taskvisor`, whose rules hold here: the same id is the same request."""

    def create_network(
        self, name: str, *, operation_id: str | None = None, **fields: Unpack[NetworkFields]
    ) -> Handle[CreatedNetworkView]:
        """A network that guests' NICs can be on. Fields as `taskvisor.model.network_spec.NetworkSpec` has them."""
        return self._ask("network.create", {"name": name, **fields}, operation_id)

    def delete_network(self, network: str, *, operation_id: str | None = None) -> Handle[DeletedRecordView]:
        """The network, by name or id, is gone. Refused while a port is on it."""
        return self._ask("network.delete", {"network": network}, operation_id)

    def create_security_group(
        self, name: str, rules: Sequence[RuleFields] = (), *, operation_id: str | None = None
    ) -> Handle[WrittenGroupView]:
        """A group of that name. Without rules it lets nothing pass but answers."""
        return self._ask("security_group.create", {"name": name, "rules": list(rules)}, operation_id)

    def update_security_group(
        self, group: str, rules: Sequence[RuleFields], *, operation_id: str | None = None
    ) -> Handle[WrittenGroupView]:
        """The group, by name or id, has these rules in place of those that it had; guests in it run on."""
        return self._ask("security_group.update", {"group": group, "rules": list(rules)}, operation_id)

    def delete_security_group(self, group: str, *, operation_id: str | None = None) -> Handle[DeletedRecordView]:
        """The group, by name or id, is gone. Refused while a port is in it, or a rule of another names it."""
        return self._ask("security_group.delete", {"group": group}, operation_id)

    def update_port(
        self,
        instance: str,
        security_groups: Sequence[str],
        *,
        port: str | None = None,
        wait_turn_s: int | None = None,
        operation_id: str | None = None,
    ) -> Handle[PowerView]:
        """The instance's port, named by address, MAC or id where it has several, is in these groups and no others."""
        fields = {
            "instance": instance,
            "security_groups": list(security_groups),
            "port": port,
            "wait_turn_s": wait_turn_s,
        }
        return self._ask("port.update", fields, operation_id)

    def create_floating(self, address: str, *, operation_id: str | None = None) -> Handle[ChangedFloatingView]:
        """An outer address that ports can be given; it must be routed to the hosts."""
        return self._ask("floating.create", {"address": address}, operation_id)

    def bind_floating(
        self, floating: str, instance: str, *, port: str | None = None, operation_id: str | None = None
    ) -> Handle[ChangedFloatingView]:
        """The address is translated, one to one, to that of the instance's port, on a nat or routed network."""
        return self._ask("floating.bind", {"floating": floating, "instance": instance, "port": port}, operation_id)

    def release_floating(self, floating: str, *, operation_id: str | None = None) -> Handle[ChangedFloatingView]:
        """The address is no port's any more."""
        return self._ask("floating.release", {"floating": floating}, operation_id)

    def delete_floating(self, floating: str, *, operation_id: str | None = None) -> Handle[DeletedFloatingView]:
        """The address is not registered any more. Refused while it is bound."""
        return self._ask("floating.delete", {"floating": floating}, operation_id)
