"""Requests about security groups, and about which of them a port is in.

No instance changes with a group's rules: hosts that have ports in it look at them anew when they are told to.

Invariant: what a caller is told is written together with the record that it is about.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from net.plan import require_filterable
from tasks.door import Already
from tasks.image_requests import Answered
from tasks.request_looks import Answers, looking_again, require_usable_id
from tasks.store import Store
from taskvisor.model.errors import Conflicting, Refused
from taskvisor.model.group_spec import (
    PortUpdateSpec,
    SecurityGroupRefSpec,
    SecurityGroupSpec,
    SecurityGroupUpdateSpec,
    group_for,
)
from taskvisor.model.ids import HostName, NetworkId, OperationId, SecurityGroupId, security_group_id_for
from taskvisor.model.network import Port, SecurityGroup
from taskvisor.model.network_view import group_view
from taskvisor.model.records import Instance
from taskvisor.model.spec import parse_spec
from taskvisor.model.view import instance_view
from taskvisor.state.security_groups import GroupNames


@dataclass(frozen=True, kw_only=True)
class Changed(Answered):
    """The caller's result is written, and hosts are to be told: those that the groups concern, as `tell_hosts` has it, and
    `host`, which has a port of `network`. `recorded_on`: the host of a guest whose record has changed, and nothing else of it.
    """

    groups: Collection[SecurityGroupId] = ()
    rules_of: Collection[SecurityGroupId] = ()
    host: HostName | None = None
    network: NetworkId | None = None
    recorded_on: HostName | None = None


@dataclass(frozen=True, kw_only=True)
class GroupDoor:
    """Lets requests about security groups into one store."""

    store: Store
    answers: Answers

    def create(self, request_id: OperationId, fields: dict[str, Any]) -> Already | Answered:
        """The group is recorded. The same again, under any id, is the same group; Refused for another of that name."""
        require_usable_id(self.store, request_id)
        spec = parse_spec(SecurityGroupSpec, fields)
        group_id = security_group_id_for(spec.name)

        def look() -> Already | Answered:
            seen = self.store.groups.read_names()
            group = group_for(group_id, spec.name, spec.rules, _with(seen, group_id, spec.name).id_of)
            there = self.store.groups.read(group_id)
            if there == group:
                return Already(result={**group_view(group), "already": True})
            if there is not None:
                raise Refused(f"name: {spec.name!r} is the name of another group; choose another, or update that one")
            self.store.group_changes.create(group, seen, self.answers.answer_for(request_id, group_view(group)))
            return Answered()

        return looking_again(f"security group {spec.name}", look)

    def update(self, request_id: OperationId, fields: dict[str, Any]) -> Already | Changed:
        """The group has these rules, and no others. Ports that are in it have them as soon as their hosts have looked."""
        require_usable_id(self.store, request_id)
        spec = parse_spec(SecurityGroupUpdateSpec, fields)

        def look() -> Already | Changed:
            seen, there = self.store.groups.read_names(), self._named(spec.group)
            group = group_for(there.id, there.name, spec.rules, seen.id_of)
            if there == group:
                return Already(result={**group_view(group), "already": True})
            self.store.group_changes.update(group, seen, self.answers.answer_for(request_id, group_view(group)))
            return Changed(rules_of=(group.id,))

        return looking_again(f"security group {spec.group}", look)

    def delete(self, request_id: OperationId, fields: dict[str, Any]) -> Already | Answered:
        """The group is gone. Refused while a port is in it, or a rule of another names it."""
        require_usable_id(self.store, request_id)
        wanted = parse_spec(SecurityGroupRefSpec, fields).group

        def look() -> Already | Answered:
            seen = self.store.groups.read_names()
            group = self.store.groups.look_up(wanted)
            if group is None:
                return Already(result={"id": wanted, "name": wanted, "state": "deleted", "already": True})
            result = {"id": group.id, "name": group.name, "state": "deleted"}
            self.store.group_changes.delete(group, seen, self.answers.answer_for(request_id, result))
            return Answered()

        return looking_again(f"security group {wanted}", look)

    def update_port(self, request_id: OperationId, fields: dict[str, Any]) -> Already | Changed:
        """The port is in these groups, and no others; a guest that runs is not disturbed. The result is the instance.

        Conflicting while an operation holds the instance: who wants to wait for its turn asks again.
        """
        require_usable_id(self.store, request_id)
        spec = parse_spec(PortUpdateSpec, fields)

        def look() -> Already | Changed:
            seen = self.store.admission.read_holding(self.store.catalog.find_instance_id(spec.instance))
            if seen is None:
                raise Refused(
                    f"instance: {spec.instance!r}: there is no instance of that name or id; see `taskvisor list`"
                )
            if seen.lease is not None:
                held = f"is held by operation {seen.lease.operation_id}; wait for it, or cancel it"
                raise Conflicting(f"instance {seen.instance.name} {held}")
            port = port_named(seen.instance, spec.port)
            groups = tuple(dict.fromkeys(self.store.groups.find(group).id for group in spec.security_groups))
            if groups == port.security_groups:
                return Already(result={**instance_view(seen.instance), "already": True})
            if groups and port.anti_spoofing:
                require_filterable(self.store.catalog.read_network(port.network_id), f"security_groups: port {port.id}")
            changed = _with_port(seen.instance, replace(port, security_groups=groups))
            answer = self.answers.answer_for(request_id, instance_view(changed))
            self.store.port_changes.write(changed, seen, answer)
            moved = frozenset(groups) ^ frozenset(port.security_groups)
            return Changed(groups=moved, host=changed.host, network=port.network_id, recorded_on=changed.host)

        return looking_again(f"instance {spec.instance}", look)

    def _named(self, name_or_id: str) -> SecurityGroup:
        found = self.store.groups.look_up(name_or_id)
        if found is None:
            raise Refused(f"group: {name_or_id!r}: there is no such group; see `taskvisor group list`")
        return found


def port_named(instance: Instance, name: str | None) -> Port:
    """The instance's port of that id, MAC or address; without one, the only one that it has. Refused when there is none such."""
    if name is None and len(instance.ports) == 1:
        return instance.ports[0]
    known = ", ".join(f"{port.address} ({port.mac})" for port in instance.ports) or "none"
    if name is None:
        raise Refused(f"port: missing; instance {instance.name} has several: {known}")
    for port in instance.ports:
        if name.lower() in (port.id, port.mac, *port.addresses):
            return port
    raise Refused(f"port: {name!r}: instance {instance.name} has no port of that id, MAC or address; it has {known}")


def _with(seen: GroupNames, group_id: SecurityGroupId, name: str) -> GroupNames:
    """Also the group that is being made: its own rules may name it."""
    return replace(seen, names={**seen.names, group_id: name})


def _with_port(instance: Instance, changed: Port) -> Instance:
    return replace(instance, ports=tuple(changed if port.id == changed.id else port for port in instance.ports))
