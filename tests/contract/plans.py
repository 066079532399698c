"""Guests for the contract suites, by number, and what both kinds of host make of them."""

from pathlib import Path

from taskvisor.model.disk_backend import QCOW2_FILES, DiskBackend
from taskvisor.model.ids import HostName, InstanceId, OperationId, instance_id_for
from taskvisor.model.observed import HypervisorFacts
from taskvisor.model.plan import DiskLayout, DiskPlan, DiskRole
from taskvisor.model.records import Flavor, ImageSource, Instance
from taskvisor.model.states import PowerState, VmState
from virt.layout import disk_layout_for
from virt.policy import domain_config_for

MIB = 1 << 20


def instance_id(number: int = 0) -> InstanceId:
    """The id of guest `number`."""
    return instance_id_for(OperationId(f"contract-{number}"))


def instance(number: int = 0) -> Instance:
    """Guest `number`: one CPU, 64 MiB, a root disk as large as its image."""
    return Instance(
        id=instance_id(number),
        name=f"guest-{number}",
        host=HostName("contract"),
        vm_state=VmState.BUILDING,
        task_state=None,
        power_state=PowerState.NOSTATE,
        flavor=Flavor(name="nano", vcpus=1, memory_mib=64, disk_gib=0),
        image=ImageSource(url="file:///image.qcow2"),
        image_name="image",
        ports=(),
    )


def layout(root: Path, number: int = 0, *, machine: str = "q35", backend: DiskBackend = QCOW2_FILES) -> DiskLayout:
    """The guest's disks on a host whose state is in `root`."""
    return disk_layout_for(instance(number), instances_dir=str(root / "instances"), machine=machine, backend=backend)


def root_disk(root: Path, number: int = 0) -> DiskPlan:
    """The guest's root disk."""
    return layout(root, number).disk(DiskRole.ROOT)


def xml_for(facts: HypervisorFacts, disk_path: Path, number: int = 0) -> str:
    """The XML of a guest without NICs, on that host, whose only disk is the file at `disk_path`."""
    planned = layout(disk_path.parent, number, machine=facts.machine)
    disk = DiskPlan(
        role=DiskRole.ROOT,
        path=str(disk_path),
        format=planned.disk(DiskRole.ROOT).format,
        bus=planned.disk(DiskRole.ROOT).bus,
        device=planned.disk(DiskRole.ROOT).device,
        size_bytes=0,
        boot_index=1,
    )
    only = DiskLayout(directory=planned.directory, console_log=str(disk_path.with_suffix(".log")), disks=(disk,))
    return domain_config_for(instance(number), only, (), facts).to_xml()


def ignore_progress(done_bytes: int, total_bytes: int | None) -> None:
    """Nobody watches."""
