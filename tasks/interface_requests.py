"""From what a request says of one NIC to the port it stands for, and what may be asked of an instance that has some."""

from dataclasses import replace

from tasks.resolving import allocate_port
from tasks.store import Store
from taskvisor.model.errors import Refused
from taskvisor.model.ids import OperationId, attached_port_id_for
from taskvisor.model.interface_spec import AttachInterfaceSpec
from taskvisor.model.network import Port
from taskvisor.model.operation import Facts, Operation
from taskvisor.model.records import Instance
from taskvisor.model.spec import parse_spec
from virt.policy.queues import queues_for

ATTACH = "instance.attach_interface"
DETACH = "instance.detach_interface"
INTERFACES_LIMIT = 8
"""Of one instance, as of one build."""


def allocate_for_request(
    store: Store, flow: str, instance: Instance, request: Facts, operation_id: OperationId, now: float
) -> tuple[Port, ...]:
    """The port that the instance is to have more, with its addresses: none for requests of another kind.

    Refused when the NIC can't be had, or the one to be detached is not there. What was allocated is the caller's to give back.
    """
    if flow == DETACH:
        interface_named(instance, str(request["interface"]))
    if flow != ATTACH:
        return ()
    if len(instance.ports) >= INTERFACES_LIMIT:
        raise Refused(f"interface: instance {instance.name} has {len(instance.ports)} NICs, and may have no more")
    nic = parse_spec(AttachInterfaceSpec, dict(request)).nic
    port_id = attached_port_id_for(operation_id)
    network = store.find_network(nic.network)
    port = allocate_port(store, nic, network, instance.id, port_id, _next_index(instance), now)
    queues_for(port, instance)  # refuses here what could not be plugged, nor then be unplugged
    return (port,)


def with_ports(instance: Instance, come: tuple[Port, ...]) -> Instance:
    """The instance with these ports more."""
    return replace(instance, ports=(*instance.ports, *come)) if come else instance


def interface_asked(instance: Instance, operation: Operation) -> Port:
    """The port that the request to attach one was given. Refused when it is not the instance's any more."""
    port_id = attached_port_id_for(operation.id)
    for port in instance.ports:
        if port.id == port_id:
            return port
    raise Refused(f"interface: port {port_id} is not one of instance {instance.name}; ask for another NIC")


def interface_named(instance: Instance, name: str) -> Port:
    """The instance's NIC of that MAC, address or port id. Refused when it has none such, or several."""
    found = [port for port in instance.ports if name.lower() in (port.mac, port.id, *port.addresses)]
    if len(found) == 1:
        return found[0]
    has = "no NIC" if not found else f"{len(found)} NICs"
    raise Refused(
        f"interface: {name!r}: instance {instance.name} has {has} of that MAC, address or port id; see `taskvisor interface"
        f" list {instance.name}`"
    )


def _next_index(instance: Instance) -> int:
    return max((port.index for port in instance.ports), default=-1) + 1
