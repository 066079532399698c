"""Which disks a guest has, and how it sees them: bus, device name, boot order. Pure; touches no file.

Names are handed out per bus in the order of the layout, so a disk added at the end never renames another.
"""

import itertools
import os
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from taskvisor.model.errors import Refused
from taskvisor.model.plan import DiskBus, DiskLayout, DiskPlan, DiskRole
from taskvisor.model.records import Instance
from taskvisor.model.states import ImageFormat

GIB = 1 << 30
FILE_NAMES = {DiskRole.ROOT: "disk", DiskRole.SEED: "disk.config"}
CONSOLE_LOG = "console.log"
PREFIXES = {DiskBus.VIRTIO: "vd", DiskBus.IDE: "hd", DiskBus.SCSI: "sd", DiskBus.SATA: "sd", DiskBus.USB: "sd"}
"""SCSI, SATA and USB disks share one series: libvirt lets no two targets of a domain have the same name."""
LIMITS = {DiskBus.IDE: 4}
"""Most devices that a bus takes; those not named take as many as there are names."""


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """A disk before it has a name."""

    role: DiskRole
    bus: DiskBus
    format: ImageFormat
    size_bytes: int = 0
    boot_index: int | None = None


def disk_layout_for(instance: Instance, *, instances_dir: str, machine: str) -> DiskLayout:
    """The disks of an instance on a host whose guests have that `machine` (`HypervisorFacts.machine`).

    Refused for a machine that we know no CD-ROM bus of.
    """
    directory = os.path.join(instances_dir, instance.id)
    wishes = (
        _Wish(
            role=DiskRole.ROOT,
            bus=DiskBus.VIRTIO,
            format=ImageFormat.QCOW2,
            size_bytes=instance.flavor.disk_gib * GIB,
            boot_index=1,
        ),
        _Wish(role=DiskRole.SEED, bus=cdrom_bus_for(machine), format=ImageFormat.RAW),
    )
    return DiskLayout(
        directory=directory,
        console_log=os.path.join(directory, CONSOLE_LOG),
        disks=tuple(_placed(wishes, directory)),
    )


def cdrom_bus_for(machine: str) -> DiskBus:
    """The bus on which every guest finds a CD-ROM without extra drivers: IDE on i440fx, SATA (AHCI) on q35."""
    if "q35" in machine:
        return DiskBus.SATA
    if machine == "pc" or machine.startswith("pc-"):
        return DiskBus.IDE
    raise Refused(
        f"cannot lay out the disks of a guest for machine {machine}: only pc (i440fx) and q35 are known; "
        "use an x86 host, or add its CD-ROM bus to virt/layout.py"
    )


def next_device(bus: DiskBus, taken: Iterable[str]) -> str:
    """The first free device name of the bus: vda … vdz, vdaa …; Refused when the bus is full."""
    prefix, used = PREFIXES[bus], frozenset(taken)
    for name in itertools.islice(_names(prefix), LIMITS.get(bus)):
        if name not in used:
            return name
    raise Refused(f"cannot add another disk on bus {bus}: it takes {LIMITS[bus]}, and all are in use; use another bus")


def _placed(wishes: Iterable[_Wish], directory: str) -> Iterator[DiskPlan]:
    taken: list[str] = []
    for wish in wishes:
        device = next_device(wish.bus, taken)
        taken.append(device)
        yield DiskPlan(
            role=wish.role,
            path=os.path.join(directory, FILE_NAMES[wish.role]),
            format=wish.format,
            bus=wish.bus,
            device=device,
            size_bytes=wish.size_bytes,
            boot_index=wish.boot_index,
        )


def _names(prefix: str) -> Iterator[str]:
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            yield prefix + "".join(letters)
