"""What a build would come to, without one: its host is found, and that host says what it would make.

Nothing is allocated, claimed, recorded or touched; addresses are the next likely ones, and another request may be quicker.

First half on any control node (`plan_build`), second half on the host that was found (`plan_on_host`): what a guest's definition
is like depends on that host's hypervisor, disks and links.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from tasks.guest_plans import disk_backend_of, layout_of, vifs_of, xml_of
from tasks.image_requests import Answered
from tasks.placing import look
from tasks.request_looks import require_usable_id
from tasks.resolving import Resolved, groups_of, instance_for, resolve
from tasks.store import DEFAULT_NETWORK, Store, default_network_for
from taskvisor.compute.placement import no_capacity
from taskvisor.flow.ports import Ports
from taskvisor.model.errors import Refused
from taskvisor.model.fleet_views import PlanView, view_of_explanation
from taskvisor.model.group_spec import DEFAULT_GROUP
from taskvisor.model.ids import (
    HostName,
    InstanceId,
    NetworkId,
    OperationId,
    SecurityGroupId,
    instance_id_for,
    mac_for,
    port_id_for,
    security_group_id_for,
)
from taskvisor.model.network import Network, Port, Surroundings
from taskvisor.model.operation import Facts
from taskvisor.model.records import Instance
from taskvisor.model.spec import BuildSpec, NicSpec, parse_spec, request_of
from taskvisor.model.subnets import makes_own_address6, slaac_address_for
from taskvisor.state.addresses import GivenAddresses

if TYPE_CHECKING:
    from tasks.door import Door

PLAN_ON_HOST = "host.plan"


@dataclass(frozen=True, kw_only=True)
class Planned(Answered):
    """The host that would be chosen, which is asked for the rest: the request and why it was chosen, as JSON."""

    host: HostName
    request: Facts
    placement: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Guest:
    """A guest that is not there, on a host."""

    instance: Instance
    ports: Ports


@dataclass(frozen=True, kw_only=True)
class _PlannedNetworks:
    """Implements the flow engine's `Networks` for networks that may not be recorded yet."""

    networks: Mapping[NetworkId, Network]

    def read_network(self, network_id: NetworkId) -> Network:
        return self.networks[network_id]

    def read_surroundings(self, network_id: NetworkId) -> Surroundings:
        raise Refused(f"network {network_id}: nothing surrounds a guest that is not there")


def plan_build(door: "Door", request_id: OperationId, fields: dict[str, Any]) -> Planned:
    """The host on which a build would begin now. Refused and NoCapacity as the build's own door has them."""
    require_usable_id(door.store, request_id)
    spec = parse_spec(BuildSpec, fields)
    there = door.store.catalog.find_instance(spec.name)
    if there is not None:
        raise Refused(
            f"name: {spec.name!r} is the name of instance {there.id}; choose another, or delete that one first"
        )
    resolved = _resolved(door.store, spec, door)
    ask, found = look(door.store, door.placer, resolved.ask, instance_id_for(request_id), resolved.server_group)
    if not found.candidates:
        door.store.explanations.note(request_id, found.explained(None))
        raise no_capacity(ask, found)
    host = found.candidates[0].name
    placement = view_of_explanation(found.explained(host))
    return Planned(host=host, request=request_of(spec), placement=msgspec.to_builtins(placement))


def plan_on_host(
    ports: Ports, door: "Door", host: HostName, request: dict[str, Any], placement: dict[str, Any]
) -> PlanView:
    """What this host would make of the build. Refused when it could not; CannotAsk when its hypervisor is silent."""
    spec = parse_spec(BuildSpec, request)
    resolved = _resolved(door.store, spec, door)
    instance_id = instance_id_for(OperationId(f"plan-{spec.name}"))
    likely = _ports_for(door.store, resolved, instance_id)
    networks = _PlannedNetworks(networks={network.id: network for network in resolved.networks})
    guest = _Guest(
        instance=instance_for(resolved, instance_id, host, likely, ports.clock.now()),
        ports=replace(ports, networks=networks),
    )
    guest = replace(guest, instance=replace(guest.instance, disk_backend=disk_backend_of(guest)))
    return PlanView(
        host=host,
        placement=placement,  # type: ignore[typeddict-item]  # as the first half made it
        disks=[msgspec.to_builtins(disk) for disk in layout_of(guest).disks],
        nics=[msgspec.to_builtins(vif) for vif in vifs_of(guest)],
        xml=xml_of(guest),
        allocated=_open_things(spec),
    )


def _resolved(store: Store, spec: BuildSpec, door: "Door") -> Resolved:
    def find(name: str) -> Network:
        """The default network is made by the first build, not by a plan."""
        if name == DEFAULT_NETWORK:
            return store.catalog.look_up_network(name) or default_network_for(store.default_network_cidr)
        return store.catalog.find_network(name)

    return resolve(store, spec, door.config_drive, find_network=find)


def _ports_for(store: Store, resolved: Resolved, instance_id: InstanceId) -> tuple[Port, ...]:
    """A port for each NIC, with the addresses that it would likely get."""
    known = {network.name: network for network in resolved.networks}
    nics = resolved.spec.nics
    free = {name: list(store.addresses.list_likely(network, len(nics))) for name, network in known.items()}
    return tuple(
        _port(store, nic, known[nic.network], instance_id, index, free[nic.network]) for index, nic in enumerate(nics)
    )


def _port(
    store: Store, nic: NicSpec, network: Network, instance_id: InstanceId, index: int, free: list[GivenAddresses]
) -> Port:
    port_id = port_id_for(instance_id, index)
    mac = nic.mac or mac_for(port_id)
    given = free.pop(0) if free else None
    if nic.address is None and given is None:
        raise Refused(f"networks: no free address of network {network.name} was found nearby; name one")
    address6 = nic.address6 or (given.address6 if given else None)
    if nic.address6 is None and network.cidr6 is not None and makes_own_address6(network):
        address6 = slaac_address_for(network.cidr6, mac)
    return Port(
        id=port_id,
        instance_id=instance_id,
        network_id=network.id,
        network=network.name,
        index=index,
        mac=mac,
        address=nic.address or (given.address if given else ""),
        address6=address6,
        security_groups=tuple(_group_id(store, name) for name in dict.fromkeys(groups_of(nic, network))),
        allowed_pairs=tuple(pair.pair() for pair in nic.allowed_pairs),
        anti_spoofing=nic.anti_spoofing,
        qos=None if nic.qos is None else nic.qos.qos(),
        queues=nic.queues,
    )


def _group_id(store: Store, name: str) -> SecurityGroupId:
    """Of the default group also before it is made. Refused for another that is not there."""
    return security_group_id_for(name) if name == DEFAULT_GROUP else store.groups.find(name).id


def _open_things(spec: BuildSpec) -> list[str]:
    """What another request may still change, or what follows from the operation's id."""
    undecided = [
        f"the address of NIC {index} is the next likely one"
        for index, nic in enumerate(spec.nics)
        if nic.address is None
    ]
    return [
        *undecided,
        "the instance's id, and with it MACs and names of links that were not asked for, follow from the build's",
    ]
