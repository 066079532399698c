"""Identities, and how one follows from another.

Whatever an operation makes gets its id from the operation's id (UUIDv5, RFC 9562 §5.5), never from chance: a request
repeated after any crash names the same instance and the same ports, so it converges instead of making a second one.
"""

import re
import uuid
from typing import NewType

OperationId = NewType("OperationId", str)
InstanceId = NewType("InstanceId", str)
PortId = NewType("PortId", str)
ImageId = NewType("ImageId", str)
NetworkId = NewType("NetworkId", str)
SecurityGroupId = NewType("SecurityGroupId", str)
FloatingId = NewType("FloatingId", str)
FlavorId = NewType("FlavorId", str)
HostName = NewType("HostName", str)
ServerGroupId = NewType("ServerGroupId", str)

NAMESPACE = uuid.UUID("6f1d8f0e-5a35-5d0c-9d54-7461736b7669")
OPERATION_ID_RULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def _derived(*parts: object) -> str:
    return str(uuid.uuid5(NAMESPACE, "/".join(str(part) for part in parts)))


def instance_id_for(operation_id: OperationId) -> InstanceId:
    """The instance that the build `operation_id` makes."""
    return InstanceId(_derived("instance", operation_id))


def port_id_for(instance_id: InstanceId, index: int) -> PortId:
    """The port behind NIC number `index` (from 0) of an instance."""
    return PortId(_derived("port", instance_id, index))


def attached_port_id_for(operation_id: OperationId) -> PortId:
    """The port behind the NIC that the attachment `operation_id` adds to an instance."""
    return PortId(_derived("attached-port", operation_id))


def image_id_for(operation_id: OperationId) -> ImageId:
    """The image that the snapshot or registration `operation_id` makes."""
    return ImageId(_derived("image", operation_id))


def network_id_for(name: str) -> NetworkId:
    """The network of that name that is made without being asked for."""
    return NetworkId(_derived("network", name))


def created_network_id_for(operation_id: OperationId) -> NetworkId:
    """The network that the request `operation_id` makes: another of the same name, later, is not taken for it."""
    return NetworkId(_derived("created-network", operation_id))


def security_group_id_for(name: str) -> SecurityGroupId:
    """The security group of that name; names of groups never change."""
    return SecurityGroupId(_derived("security-group", name))


def default_flavor_id_for(name: str) -> FlavorId:
    """The flavor of that name that is there without being asked for."""
    return FlavorId(_derived("flavor", name))


def flavor_id_for(operation_id: OperationId) -> FlavorId:
    """The flavor that the request `operation_id` makes: another of the same name, later, is not taken for it."""
    return FlavorId(_derived("created-flavor", operation_id))


def floating_id_for(address: str) -> FloatingId:
    """The floating address itself: there is one record for each."""
    return FloatingId(_derived("floating", address))


def server_group_id_for(operation_id: OperationId) -> ServerGroupId:
    """The server group that the request `operation_id` makes: another of the same name, later, is not taken for it."""
    return ServerGroupId(_derived("server-group", operation_id))


def resumption_id_for(boot_id: str, instance_id: InstanceId) -> OperationId:
    """The operation that starts the guest again in that boot of its host: there is one, however often it is asked for."""
    return OperationId(_derived("resumption", boot_id, instance_id))


def message_id_for(operation_id: OperationId, *parts: object) -> str:
    """The Celery task id of one step's message."""
    return _derived("message", operation_id, *parts)


def errand_id_for(drain_id: OperationId, *parts: object) -> OperationId:
    """An operation that the drain `drain_id` asks for: the same one, however often it is asked for."""
    return OperationId(_derived("errand", drain_id, *parts))


def mac_for(port_id: PortId) -> str:
    """A locally administered unicast MAC (IEEE 802, 52:54:… as QEMU's) with 32 bits of the port's id."""
    octets = uuid.UUID(port_id).bytes[-4:]
    return ":".join(f"{octet:02x}" for octet in (0x52, 0x54, *octets))
