"""Instances, NICs and hosts that tests of virt start from. Values only; `replace` makes the variation."""

from taskvisor.model.ids import HostName, InstanceId, OperationId, instance_id_for, mac_for, network_id_for, port_id_for
from taskvisor.model.network import Port
from taskvisor.model.observed import HypervisorFacts
from taskvisor.model.plan import VifPlan
from taskvisor.model.records import Flavor, ImageSource, Instance
from taskvisor.model.states import ImageFormat, PowerState, VirtType, VmState

INSTANCE_ID = instance_id_for(OperationId("build-web"))
NETWORK = "default"


def port_of(instance_id: InstanceId, index: int) -> Port:
    """The port of NIC number `index`."""
    port_id = port_id_for(instance_id, index)
    return Port(
        id=port_id,
        instance_id=instance_id,
        network_id=network_id_for(NETWORK),
        network=NETWORK,
        index=index,
        mac=mac_for(port_id),
        address=f"10.0.0.{5 + index}",
    )


def vif_of(port: Port, *, mtu: int = 1450, dhcp: bool = True) -> VifPlan:
    """The plan of that port's NIC."""
    return VifPlan(
        port_id=port.id,
        instance_id=port.instance_id,
        network_id=port.network_id,
        tap=f"tap{port.id[:11]}",
        bridge=f"brq{port.network_id[:11]}",
        mac=port.mac,
        address=port.address,
        prefix_length=24,
        gateway="10.0.0.1",
        mtu=mtu,
        owner=f"taskvisor:{port.instance_id}",
        cidr="10.0.0.0/24",
        nat=True,
        dhcp=dhcp,
        dns=("10.0.0.1",),
        hostname="web",
    )


INSTANCE = Instance(
    id=INSTANCE_ID,
    name="web",
    host=HostName("node1"),
    vm_state=VmState.BUILDING,
    task_state=None,
    power_state=PowerState.NOSTATE,
    flavor=Flavor(name="small", vcpus=2, memory_mib=512, disk_gib=10),
    image=ImageSource(url="https://images.test/debian-12.qcow2", sha256="ab" * 32, format=ImageFormat.QCOW2),
    image_name="debian-12",
    ports=(port_of(INSTANCE_ID, 0), port_of(INSTANCE_ID, 1)),
    ssh_keys=("ssh-ed25519 AAAAC3Nz me@home",),
    metadata={"role": "db", "empty": "", "note": " two\nlines\t"},
    created_at=1700000000.25,
)

PC_HOST = HypervisorFacts(
    cpus=2,
    memory_mib=4096,
    arch="x86_64",
    virt_type=VirtType.QEMU,
    hypervisor_version="7.2.22",
    emulator="/usr/bin/qemu-system-x86_64",
    machine="pc-i440fx-7.2",
    domains=0,
)
Q35_KVM_HOST = HypervisorFacts(
    cpus=64,
    memory_mib=262144,
    arch="x86_64",
    virt_type=VirtType.KVM,
    hypervisor_version="8.2.0",
    emulator="/usr/libexec/qemu-kvm",
    machine="pc-q35-8.2",
    domains=12,
)
