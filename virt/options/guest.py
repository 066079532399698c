"""All that can be asked of a guest, by theme; what is not asked for has the value that leaves it to the host."""

from dataclasses import dataclass, field

from virt.options.boot import BootOptions
from virt.options.cpu import CpuOptions
from virt.options.device import DeviceOptions
from virt.options.disk import DiskOptions
from virt.options.memory import MemoryOptions
from virt.options.nic import NicOptions
from virt.options.platform import PlatformOptions


@dataclass(frozen=True, kw_only=True)
class GuestOptions:
    """What a flavor's extra specs and an image's properties ask for, together."""

    cpu: CpuOptions = field(default_factory=CpuOptions)
    memory: MemoryOptions = field(default_factory=MemoryOptions)
    boot: BootOptions = field(default_factory=BootOptions)
    disk: DiskOptions = field(default_factory=DiskOptions)
    nic: NicOptions = field(default_factory=NicOptions)
    device: DeviceOptions = field(default_factory=DeviceOptions)
    platform: PlatformOptions = field(default_factory=PlatformOptions)
