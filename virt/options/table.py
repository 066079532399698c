"""The one table of options: by theme, every key that is known, and the keys of Nova's that are refused and why."""

from collections.abc import Mapping

from virt.options.boot import BOOT_OPTIONS
from virt.options.cpu import CPU_OPTIONS
from virt.options.device import DEVICE_OPTIONS
from virt.options.disk import DISK_OPTIONS
from virt.options.memory import MEMORY_OPTIONS
from virt.options.nic import NIC_OPTIONS
from virt.options.option import Option
from virt.options.platform import PLATFORM_OPTIONS

THEMES: Mapping[str, tuple[Option, ...]] = {
    "cpu": CPU_OPTIONS,
    "memory": MEMORY_OPTIONS,
    "boot": BOOT_OPTIONS,
    "disk": DISK_OPTIONS,
    "nic": NIC_OPTIONS,
    "device": DEVICE_OPTIONS,
    "platform": PLATFORM_OPTIONS,
}
"""By the field of `GuestOptions` that they fill."""

FLAVOR_NAMESPACES = ("hw:", "hw_", "quota:", "os:")
IMAGE_NAMESPACES = ("hw_", "hw:", "quota:", "os:")
"""A key in these that is not known is a mistake; a key in another is somebody else's, and kept as data."""

_RESCUE = "guests are not rescued here; build another guest with the disk attached"
NOT_OFFERED: Mapping[str, str] = {
    "hw_rescue_bus": _RESCUE,
    "hw_rescue_device": _RESCUE,
    "hw_floppy_bus": "guests have no floppy disks here; use a CD-ROM",
    "hw_emulation_architecture": "the guest's architecture is the host's; set hw_architecture for hosts of that one",
    "hw_ephemeral_encryption": "disks are not encrypted here; encrypt inside the guest",
    "hw:ephemeral_encryption": "disks are not encrypted here; encrypt inside the guest",
    "hw:pci_numa_affinity_policy": "PCI devices are chosen without regard to NUMA nodes; leave it out",
    "hw_pci_numa_affinity_policy": "PCI devices are chosen without regard to NUMA nodes; leave it out",
    "hw_sound_model": "guests have no sound here; leave it out",
    "hw:sound_model": "guests have no sound here; leave it out",
}
"""Keys of Nova's that would be asked for in vain, and what to do instead."""
NOT_OFFERED_PREFIXES: Mapping[str, str] = {"trait_": "a trait is asked for as trait:NAME=required (docs/placement.md)"}
