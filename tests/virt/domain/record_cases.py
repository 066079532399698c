"""What the domain's copy of the record says of a flavor and an image that ask for more, of image formats and disk back ends."""

from collections.abc import Mapping
from dataclasses import replace

from taskvisor.model.disk_backend import BackendKind, DiskBackend
from taskvisor.model.numa import CellPlan, GuestPlace, GuestPlacement, PciDevicePlan
from taskvisor.model.records import ImageSource
from taskvisor.model.states import ImageFormat
from tests.virt.domain.bases import PC
from tests.virt.sample_guests import INSTANCE
from virt.domain.domain import DomainConfig
from virt.policy import owner_for

PLACE = GuestPlace(
    numa=GuestPlacement(
        cells=(CellPlan(guest_cell=0, host_cell=1, pins={0: frozenset({4}), 1: frozenset({12})}),),
        emulator_cpus=frozenset({5}),
        page_size_kib=2048,
    ),
    pci_devices=(PciDevicePlan(alias="gpu", bus=0x3B, slot=2),),
    things=("cpu:4", "cpu:5", "cpu:12", "pci:0000:3b:02.0"),
)
ASKING = replace(
    INSTANCE,
    flavor=replace(
        INSTANCE.flavor, swap_mib=512, ephemeral_gib=4, extra_specs={"hw:cpu_policy": "shared", "owner": "<me>"}
    ),
    image_properties={"hw_disk_bus": "scsi", "hw_qemu_guest_agent": "yes"},
)


def record_cases() -> Mapping[str, DomainConfig]:
    """Each by the name of its golden file."""
    cases = {"asking_for_more": replace(PC, owners=(owner_for(ASKING),))}
    for image_format in ImageFormat:
        image = ImageSource(url=f"file:///srv/image.{image_format}", format=image_format)
        cases[f"image_of_{image_format}"] = replace(PC, owners=(owner_for(replace(INSTANCE, image=image)),))
    for kind in BackendKind:
        backend = DiskBackend(kind=kind, pool="guests" if kind in (BackendKind.LVM, BackendKind.RBD) else "")
        cases[f"disks_in_{kind}"] = replace(PC, owners=(owner_for(replace(INSTANCE, disk_backend=backend)),))
    cases["placed"] = replace(PC, owners=(owner_for(replace(INSTANCE, place=PLACE)),))
    return cases
