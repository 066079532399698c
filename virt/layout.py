"""Which disks a guest has, and how it sees them: bus, device name, boot order. Pure; touches no file.

The rules are Nova's (nova/virt/libvirt/blockinfo.py). Names are handed out per bus: root, ephemeral, swap, config drive, volumes,
CD-ROMs; a volume that asks for a name has it before any other. In the XML volumes stand last, so that one more renames nothing.
"""

import itertools
import os
import re
import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from taskvisor.model.disk_backend import QCOW2_FILES, DiskBackend
from taskvisor.model.errors import Refused
from taskvisor.model.plan import (
    DiskBus,
    DiskContent,
    DiskLayout,
    DiskMedium,
    DiskPlan,
    DiskRole,
    DiskStorage,
    VolumePlan,
)
from taskvisor.model.records import Instance
from taskvisor.model.states import ImageFormat, SeedKind
from taskvisor.model.tuning import VolumeTuning
from virt.options import GuestOptions, guest_options_for
from virt.options.boot import OsType
from virt.stores.place import RAW_ROOT_NAME, ROOT_NAME, disk_place_for

GIB = 1 << 30
MIB = 1 << 20
FILE_NAMES = {
    DiskRole.ROOT: ROOT_NAME,
    DiskRole.TARGET: "disk.target",
    DiskRole.EPHEMERAL: "disk.eph0",
    DiskRole.SWAP: "disk.swap",
    DiskRole.SEED: "disk.config",
    DiskRole.CONFIG: "disk.config",
}
RAW_FILES = frozenset(FILE_NAMES.values()) - {ROOT_NAME} | {RAW_ROOT_NAME}
"""The names of files that stand on nothing, whatever a guest has written into them."""
CONSOLE_LOG = "console.log"
PREFIXES = {DiskBus.VIRTIO: "vd", DiskBus.IDE: "hd", DiskBus.SCSI: "sd", DiskBus.SATA: "sd", DiskBus.USB: "sd"}
"""SCSI, SATA and USB disks share one series: libvirt lets no two targets of a domain have the same name."""
VFAT_LIMIT_GIB = 2047
"""FAT counts sectors of 512 bytes in 32 bits."""
LIMITS = {DiskBus.IDE: 4}
"""Most devices that a bus takes; those not named take as many as there are names."""


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """A disk before it has a name."""

    role: DiskRole
    bus: DiskBus
    format: ImageFormat
    path: str
    size_bytes: int = 0
    boot_index: int | None = None
    medium: DiskMedium = DiskMedium.DISK
    storage: DiskStorage = DiskStorage.FILE
    serial: str | None = None
    device: str | None = None
    content: DiskContent | None = None
    tuning: VolumeTuning | None = None


def disk_layout_for(
    instance: Instance,
    *,
    instances_dir: str,
    machine: str,
    volumes: Sequence[VolumePlan] = (),
    backend: DiskBackend = QCOW2_FILES,
) -> DiskLayout:
    """The disks of an instance on a host, for the `machine` that the guest has there (`machine_for`).

    Its own disks are of `backend`; CD-ROMs and config drives, which are ours to write, are files always.

    Refused for a machine that we know no CD-ROM bus of, a bus that it lacks or that is full, a device name that is asked
    for twice or is none of the disk's bus, and two disks that are to be booted from at the same place.
    """
    options = guest_options_for(instance.flavor.extra_specs, instance.image_properties)
    directory = os.path.join(instances_dir, instance.id)
    wishes = tuple(_wishes(instance, options, directory, machine, volumes))
    wishes = tuple(_housed(wish, instance, directory, backend) for wish in wishes)
    _require_distinct_boot_indexes(wishes)
    return DiskLayout(
        directory=directory,
        console_log=os.path.join(directory, CONSOLE_LOG),
        disks=tuple(sorted(_placed(wishes), key=lambda disk: disk.role is DiskRole.VOLUME)),
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


def _wishes(
    instance: Instance, options: GuestOptions, directory: str, machine: str, volumes: Sequence[VolumePlan]
) -> Iterator[_Wish]:
    # In the order in which names are handed out.
    default_cdrom_bus = cdrom_bus_for(machine)
    bus = _usable(options.disk.bus or DiskBus.VIRTIO, machine, "hw_disk_bus")
    asked = options.disk.cdrom_bus
    cdrom_bus = default_cdrom_bus if asked is None else _usable(DiskBus(asked), machine, "hw_cdrom_bus")
    is_iso = instance.image.format is ImageFormat.ISO
    if not is_iso:
        yield _root(bus, directory, instance.flavor.disk_gib * GIB)
    elif instance.flavor.disk_gib:
        # Before the ISO: it holds nothing to boot until the guest has installed itself, and is what to boot ever after.
        target = _data(DiskRole.TARGET, DiskContent.BLANK, bus, directory, instance.flavor.disk_gib * GIB)
        yield replace(target, boot_index=1)
    if instance.flavor.ephemeral_gib:
        content = _file_system_for(options, instance.flavor.ephemeral_gib)
        yield _data(DiskRole.EPHEMERAL, content, bus, directory, instance.flavor.ephemeral_gib * GIB)
    if instance.flavor.swap_mib:
        yield _data(DiskRole.SWAP, DiskContent.SWAP, bus, directory, instance.flavor.swap_mib * MIB)
    if instance.config_drive is SeedKind.CONFIG_DRIVE_VFAT:
        yield _config_disk(bus, directory)
    yield from (_volume(volume, _volume_bus(volume, bus, machine)) for volume in volumes)
    if is_iso:
        yield _cdrom(DiskRole.ROOT, cdrom_bus, ImageFormat.QCOW2, directory, boot_index=2)
    if instance.config_drive is not SeedKind.CONFIG_DRIVE_VFAT:
        yield _cdrom(DiskRole.SEED, cdrom_bus, ImageFormat.RAW, directory)


def _housed(wish: _Wish, instance: Instance, directory: str, backend: DiskBackend) -> _Wish:
    """The wish, its disk where the back end has it. CD-ROMs and config drives stay files, and volumes where they are."""
    if wish.medium is DiskMedium.CDROM or wish.role in (DiskRole.CONFIG, DiskRole.VOLUME):
        return wish
    place = disk_place_for(backend, instance_id=instance.id, directory=directory, file_name=FILE_NAMES[wish.role])
    return replace(wish, path=place.path, storage=place.storage, format=place.format)


def _root(bus: DiskBus, directory: str, size_bytes: int) -> _Wish:
    return _Wish(
        role=DiskRole.ROOT,
        bus=bus,
        format=ImageFormat.QCOW2,
        path=os.path.join(directory, FILE_NAMES[DiskRole.ROOT]),
        size_bytes=size_bytes,
        boot_index=1,
    )


def _data(role: DiskRole, content: DiskContent, bus: DiskBus, directory: str, size_bytes: int) -> _Wish:
    # It stands on no image, so it needs no format but its own.
    return _Wish(
        role=role,
        bus=bus,
        format=ImageFormat.RAW,
        path=os.path.join(directory, FILE_NAMES[role]),
        size_bytes=size_bytes,
        content=content,
    )


def _config_disk(bus: DiskBus, directory: str) -> _Wish:
    path = os.path.join(directory, FILE_NAMES[DiskRole.CONFIG])
    return _Wish(role=DiskRole.CONFIG, bus=bus, format=ImageFormat.RAW, path=path)


def _file_system_for(options: GuestOptions, size_gib: int) -> DiskContent:
    if options.boot.os_type is not OsType.WINDOWS:
        return DiskContent.EXT4
    if size_gib > VFAT_LIMIT_GIB:
        raise Refused(
            f"cannot make an ephemeral disk of {size_gib} GiB for a guest with os_type=windows: its file system (FAT) takes "
            f"{VFAT_LIMIT_GIB}; choose a flavor with a smaller one"
        )
    return DiskContent.VFAT


def _cdrom(
    role: DiskRole, bus: DiskBus, image_format: ImageFormat, directory: str, *, boot_index: int | None = None
) -> _Wish:
    return _Wish(
        role=role,
        bus=bus,
        format=image_format,
        path=os.path.join(directory, FILE_NAMES[role]),
        boot_index=boot_index,
        medium=DiskMedium.CDROM,
    )


def _volume(volume: VolumePlan, bus: DiskBus) -> _Wish:
    booted = volume.boot_index is not None and volume.boot_index >= 0
    return _Wish(
        role=DiskRole.VOLUME,
        bus=bus,
        format=volume.format,
        path=volume.path,
        boot_index=(volume.boot_index or 0) + 1 if booted else None,
        storage=volume.storage,
        serial=volume.serial,
        device=None if volume.device is None else volume.device.removeprefix("/dev/"),
        tuning=volume.tuning,
    )


def _volume_bus(volume: VolumePlan, default: DiskBus, machine: str) -> DiskBus:
    return default if volume.bus is None else _usable(volume.bus, machine, "bus")


def _usable(bus: DiskBus, machine: str, key: str) -> DiskBus:
    if bus is DiskBus.IDE and "q35" in machine:
        raise Refused(f"{key}=ide: machine {machine} has no IDE; use sata, or hw_machine_type=pc")
    return bus


def _placed(wishes: Sequence[_Wish]) -> Iterator[DiskPlan]:
    taken = [_required_device(wish) for wish in wishes if wish.device is not None]
    for name in taken:
        if taken.count(name) > 1:
            raise Refused(f"cannot name two disks {name}; ask for another name, or for none")
    for wish in wishes:
        device = wish.device
        if device is None:
            device = next_device(wish.bus, taken)
            taken.append(device)
        yield DiskPlan(
            role=wish.role,
            path=wish.path,
            format=wish.format,
            bus=wish.bus,
            device=device,
            size_bytes=wish.size_bytes,
            boot_index=wish.boot_index,
            medium=wish.medium,
            storage=wish.storage,
            serial=wish.serial,
            content=wish.content,
            tuning=wish.tuning,
        )


def _required_device(wish: _Wish) -> str:
    device, prefix = str(wish.device), PREFIXES[wish.bus]
    if not re.fullmatch(prefix + "[a-z]{1,2}", device):
        raise Refused(f"cannot name a disk on bus {wish.bus} {device!r}: its names are like {prefix}b")
    most = LIMITS.get(wish.bus)
    if most is not None and device not in itertools.islice(_names(prefix), most):
        raise Refused(f"cannot name a disk {device}: bus {wish.bus} takes {most}; use another bus")
    return device


def _require_distinct_boot_indexes(wishes: Iterable[_Wish]) -> None:
    seen: dict[int, _Wish] = {}
    for wish in wishes:
        if wish.boot_index is None:
            continue
        if wish.boot_index in seen:
            other = seen[wish.boot_index]
            raise Refused(
                f"cannot boot both {other.serial or other.role} and {wish.serial or wish.role} at place "
                f"{wish.boot_index - 1}; give one of them another boot index, or -1"
            )
        seen[wish.boot_index] = wish


def _names(prefix: str) -> Iterator[str]:
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            yield prefix + "".join(letters)
