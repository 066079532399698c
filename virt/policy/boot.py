"""The guest's board: what it boots and how, what it reads of itself, which clock and which features it has."""

from pathlib import PurePosixPath

from taskvisor.model.errors import Refused
from taskvisor.model.observed import HypervisorFacts
from taskvisor.model.operator import Dialect
from taskvisor.model.plan import DiskLayout, DiskPlan
from taskvisor.model.records import Instance
from taskvisor.model.states import VirtType
from virt.domain.boot import (
    BootDevice,
    Firmware,
    LoaderConfig,
    OsConfig,
    SmbiosMode,
    SysinfoConfig,
)
from virt.domain.clock import ClockConfig, ClockOffset, TickPolicy, TimerConfig, TimerName
from virt.domain.features import FeaturesConfig, HypervConfig, KvmConfig
from virt.options import GuestOptions
from virt.options.boot import OsType, SecureBoot
from virt.policy.choices import HostChoices
from virt.policy.support import require_able, require_offered, require_q35

BOOT_MENU_TIMEOUT_MS = 3000
DEFAULT_COMMAND_LINE = "root=/dev/vda console=ttyS0"
SPINLOCK_RETRIES = 8191
HIDDEN_VENDOR = "1234567890ab"
"""What a guest that is not to know of KVM reads as its hypervisor's vendor; Nova's."""


def os_for(
    options: GuestOptions,
    layout: DiskLayout,
    host: HypervisorFacts,
    machine: str,
    choices: HostChoices,
) -> OsConfig:
    """Refused for a kernel outside the host's directories and for secure boot without q35; DoesNotFit for firmware that the
    host lacks.
    """
    wants = options.boot
    firmware = wants.firmware if wants.firmware is Firmware.EFI else None
    if firmware is not None:
        require_offered(host.support.firmwares, firmware, "firmware")
    secure = _secure_boot_for(options, host, machine)
    return OsConfig(
        arch=host.arch,
        machine=machine,
        firmware=firmware,
        enrolled_keys=secure,
        secure_boot=secure,
        loader=LoaderConfig(secure=True) if secure else None,
        kernel=_allowed(wants.kernel, "kernel_id", choices),
        initrd=_allowed(wants.ramdisk, "ramdisk_id", choices),
        cmdline=None if wants.kernel is None else wants.command_line or DEFAULT_COMMAND_LINE,
        boot_devices=boot_devices_for(layout) if boots_by_kind(choices) and wants.kernel is None else (),
        boot_menu=True if wants.boot_menu else None,
        boot_menu_timeout_ms=BOOT_MENU_TIMEOUT_MS if wants.boot_menu else None,
        smbios_mode=SmbiosMode.SYSINFO,
    )


def boots_by_kind(choices: HostChoices) -> bool:
    """Whether the boot order is one of kinds of devices and not of devices; libvirt does not mix them."""
    return choices.dialect is Dialect.NOVA


def boot_devices_for(layout: DiskLayout) -> tuple[BootDevice, ...]:
    """The kinds of the disks that are booted from, in their order, each once."""
    booted = sorted((disk for disk in layout.disks if disk.boot_index is not None), key=_boot_index)
    return tuple(dict.fromkeys(BootDevice.CDROM if disk.is_cdrom else BootDevice.HD for disk in booted))


def _boot_index(disk: DiskPlan) -> int:
    return disk.boot_index or 0


def _secure_boot_for(options: GuestOptions, host: HypervisorFacts, machine: str) -> bool | None:
    if options.boot.firmware is not Firmware.EFI:
        return None
    match options.boot.secure_boot:
        case SecureBoot.REQUIRED:
            require_q35(machine, "os:secure_boot=required")
            require_able(host.support.secure_boot, "secure boot")
            return True
        case SecureBoot.OPTIONAL:
            return bool(host.support.secure_boot) and "q35" in machine
    # Said, also when nobody asked: else libvirt takes the first firmware that it finds, which on Debian starts signed
    # systems only.
    return False


def _allowed(path: str | None, key: str, choices: HostChoices) -> str | None:
    if path is None or any(PurePosixPath(path).is_relative_to(root) for root in choices.kernel_roots):
        return path
    allowed = ", ".join(choices.kernel_roots) or "none"
    raise Refused(f"{key}={path}: lies in no directory that this host takes kernels from ({allowed}); copy it there")


def sysinfo_for(instance: Instance, choices: HostChoices) -> SysinfoConfig:
    """What the guest reads of itself."""
    # cloud-init looks for its datasource in these; a serial that names none sends it on to the seed's label.
    vendor = choices.vendor
    return SysinfoConfig(
        manufacturer=vendor.manufacturer,
        product=vendor.product,
        version=vendor.version,
        serial=vendor.serial or instance.id,
        uuid=instance.id,
        family="Virtual Machine",
    )


def features_for(options: GuestOptions, host: HypervisorFacts) -> FeaturesConfig:
    """What the board and the hypervisor let the guest see and use."""
    wants, is_kvm = options.cpu, host.virt_type is VirtType.KVM
    # Performance counters cost a real-time guest its time.
    pmu = False if wants.pmu is None and wants.realtime else wants.pmu
    return FeaturesConfig(
        acpi=True,
        apic=True,
        pmu=pmu,
        smm=True if options.boot.secure_boot is SecureBoot.REQUIRED else None,
        kvm=KvmConfig(hidden=True) if wants.hidden and is_kvm else None,
        hyperv=_hyperv_for(options) if is_kvm else None,
    )


def _hyperv_for(options: GuestOptions) -> HypervConfig | None:
    if options.boot.os_type is not OsType.WINDOWS:
        return None
    return HypervConfig(
        relaxed=True,
        vapic=True,
        spinlocks=True,
        spinlock_retries=SPINLOCK_RETRIES,
        vpindex=True,
        runtime=True,
        synic=True,
        reset=True,
        frequencies=True,
        tlbflush=True,
        ipi=True,
        vendor_id=HIDDEN_VENDOR if options.cpu.hidden else None,
    )


def clock_for(options: GuestOptions, host: HypervisorFacts, choices: HostChoices) -> ClockConfig:
    """UTC, but for Windows, which takes the hardware clock for local time."""
    is_windows = options.boot.os_type is OsType.WINDOWS
    # A guest that was not scheduled gets its lost RTC ticks back, and late PIT ticks late; the HPET only costs wake-ups.
    timers: tuple[TimerConfig, ...] = (
        TimerConfig(name=TimerName.RTC, tick_policy=TickPolicy.CATCHUP),
        TimerConfig(name=TimerName.PIT, tick_policy=TickPolicy.DELAY),
        TimerConfig(name=TimerName.HPET, present=options.boot.hpet),
    )
    if is_windows and host.virt_type is VirtType.KVM:
        timers += (TimerConfig(name=TimerName.HYPERVCLOCK, present=True),)
    # For emulated guests the Nova of that dialect wrote none.
    if choices.dialect is Dialect.NOVA and host.virt_type is not VirtType.KVM:
        timers = ()
    return ClockConfig(offset=ClockOffset.LOCALTIME if is_windows else ClockOffset.UTC, timers=timers)
