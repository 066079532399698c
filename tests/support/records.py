"""Records of a guest that there might be, for tests that need one and not how it came to be."""

from typing import Any

from taskvisor.model.history import Cause
from taskvisor.model.ids import (
    HostName,
    ImageId,
    InstanceId,
    NetworkId,
    OperationId,
    PortId,
    instance_id_for,
    mac_for,
    network_id_for,
    port_id_for,
)
from taskvisor.model.network import Network, NetworkKind, Port
from taskvisor.model.operation import Operation, StepRecord
from taskvisor.model.records import Claim, Flavor, Image, ImageSource, Instance, Inventory, Resources
from taskvisor.model.states import Phase, PowerState, VirtType, VmState

HOST = HostName("h1")
SAID_SO = Cause(by="test", at=1.0, reason="a test says so")
"""Why a record is what it is."""
NETWORK = Network(
    id=network_id_for("default"), name="default", kind=NetworkKind.NAT, cidr="10.152.0.0/16", gateway="10.152.0.1"
)


def network(name: str = "default", cidr: str = "10.152.0.0/16") -> Network:
    """A NAT network whose gateway is the first address."""
    base, _, last = cidr.partition("/")[0].rpartition(".")
    return Network(
        id=network_id_for(name), name=name, kind=NetworkKind.NAT, cidr=cidr, gateway=f"{base}.{int(last) + 1}"
    )


def port(
    instance_id: InstanceId, index: int = 0, *, network_id: NetworkId = NETWORK.id, address: str = "10.152.0.2"
) -> Port:
    port_id = port_id_for(instance_id, index)
    return Port(
        id=PortId(port_id),
        instance_id=instance_id,
        network_id=network_id,
        network="default",
        index=index,
        mac=mac_for(port_id),
        address=address,
    )


def instance(name: str = "web", operation_id: str = "build-web", **fields: Any) -> Instance:
    """An instance that runs, with one NIC unless `ports` says otherwise."""
    instance_id = instance_id_for(OperationId(operation_id))
    known = {
        "host": HOST,
        "vm_state": VmState.ACTIVE,
        "task_state": None,
        "power_state": PowerState.RUNNING,
        "flavor": Flavor(name="c1-m64-d1", vcpus=1, memory_mib=64, disk_gib=1),
        "image": ImageSource(url="simulated://debian"),
        "image_name": "simulated://debian",
        "ports": (port(instance_id),),
        "virt_type": VirtType.QEMU,
        "created_at": 1.0,
    }
    return Instance(id=instance_id, name=name, **{**known, **fields})


def image(name: str = "gold") -> Image:
    return Image(
        id=ImageId("f94e5130-469f-5282-ad5c-43c7a753d879"),
        name=name,
        source=ImageSource(url="file:///images/gold.qcow2", sha256="0" * 64),
        size_bytes=1,
        virtual_bytes=2,
        created_at=1.0,
        host=HOST,
    )


def operation(operation_id: str, of: Instance, **fields: Any) -> Operation:
    """An operation of one step on the instance, just accepted."""
    known = {
        "flow": "toy",
        "host": of.host,
        "request": {},
        "phase": Phase.RUNNING,
        "steps": (StepRecord(name="only"),),
        "created_at": 1.0,
        "updated_at": 1.0,
    }
    return Operation(id=OperationId(operation_id), instance_id=of.id, instance_name=of.name, **{**known, **fields})


def claim(of: Instance, *, vcpus: int = 1, limits: Resources | None = None) -> Claim:
    return Claim(
        host=of.host,
        instance_id=of.id,
        resources=Resources(vcpus=vcpus, memory_mib=64, disk_gib=1),
        limits=limits or Resources(vcpus=1000, memory_mib=1_000_000, disk_gib=100_000),
    )


def inventory(*, vcpus: int = 64, memory_mib: int = 65_536, disk_gib: int = 1000, at: float = 1.0) -> Inventory:
    """A host that promises what it has."""
    total = Resources(vcpus=vcpus, memory_mib=memory_mib, disk_gib=disk_gib)
    return Inventory(
        total=total,
        limits=total,
        arch="x86_64",
        virt_type=VirtType.QEMU,
        hypervisor_version="simulated",
        domains=0,
        disk_free_gib=disk_gib,
        reported_at=at,
    )
