"""The guest's other devices: consoles, screen, pointer, random numbers, channels, watchdog, TPM, PCI."""

from collections.abc import Iterator, Sequence

from taskvisor.model.errors import Refused
from taskvisor.model.numa import PciDevicePlan
from taskvisor.model.observed import HypervisorFacts
from taskvisor.model.operator import Dialect
from taskvisor.model.plan import DiskBus, DiskLayout
from virt.domain.address import PciAddressConfig
from virt.domain.board_devices import IommuConfig, TpmConfig, TpmModel
from virt.domain.character import (
    ChannelConfig,
    ConsoleConfig,
    ConsoleTarget,
    LogAppend,
    LogConfig,
    SerialConfig,
)
from virt.domain.character_backend import FileBackend, PtyBackend, UnixBackend
from virt.domain.config import DeviceConfig
from virt.domain.controller import UsbControllerConfig, UsbModel
from virt.domain.display import InputBus, InputConfig, InputType, VideoConfig, VideoModel, VncConfig
from virt.domain.hostdev import PciHostdevConfig
from virt.domain.virtual import (
    BalloonConfig,
    BalloonModel,
    RandomBackendConfig,
    RngConfig,
    VsockConfig,
    WatchdogAction,
    WatchdogConfig,
    WatchdogModel,
)
from virt.options import GuestOptions
from virt.options.device import PointerModel, WatchdogChoice
from virt.policy.choices import HostChoices
from virt.policy.storage import iommu_for
from virt.policy.support import require_offered, require_q35

STATS_PERIOD_S = 10
GUEST_AGENT = "org.qemu.guest_agent.0"
KIB_PER_MIB = 1024
RNG_PERIOD_MS = 1000


def consoles_for(layout: DiskLayout, options: GuestOptions, choices: HostChoices) -> Iterator[DeviceConfig]:
    """The serial ports. The first is the console, and all that it says is kept."""
    if choices.dialect is Dialect.NOVA:
        log = FileBackend(path=layout.console_log)
        yield SerialConfig(backend=log)
        for port in range(1, options.device.serial_ports + 1):
            yield SerialConfig(backend=PtyBackend(), port=port)
        yield ConsoleConfig(backend=log, target=ConsoleTarget.SERIAL)
        return
    # "on": the log outlives reboots and hard reboots. virtlogd bounds it.
    yield SerialConfig(backend=PtyBackend(), log=LogConfig(path=layout.console_log, append=LogAppend.ON))
    for port in range(1, options.device.serial_ports):
        yield SerialConfig(backend=PtyBackend(), port=port)


def channels_for(options: GuestOptions) -> Iterator[DeviceConfig]:
    """What agents in the guest talk through."""
    if options.device.guest_agent is not False:
        yield ChannelConfig(backend=UnixBackend(), name=GUEST_AGENT)
    if options.device.vsock:
        yield VsockConfig(iommu=iommu_for(options))


def inputs_for(options: GuestOptions) -> Iterator[InputConfig]:
    """A tablet or a keyboard, where asked for; a PS/2 mouse and keyboard are part of every board."""
    bus = options.device.input_bus
    if options.device.pointer is PointerModel.USB_TABLET:
        yield InputConfig(type=InputType.TABLET, bus=bus or InputBus.USB)
    if bus is not None and bus is not InputBus.PS2:
        yield InputConfig(type=InputType.KEYBOARD, bus=bus)


def screen_for(options: GuestOptions, host: HypervisorFacts, choices: HostChoices) -> Iterator[DeviceConfig]:
    """The screen and its card, unless it is to have none. DoesNotFit for a card that the host lacks."""
    model = options.device.video_model or choices.video_model
    if model is VideoModel.NONE:
        yield VideoConfig(model=VideoModel.NONE)
        return
    require_offered(host.support.video_models, model, "video model")
    yield VncConfig(listen_address=choices.vnc_address, keymap=choices.vnc_keymap)
    ram_mib = options.device.video_ram_mib
    yield VideoConfig(model=model, vram_kib=None if ram_mib is None else ram_mib * KIB_PER_MIB)


def rng_for(options: GuestOptions) -> Iterator[RngConfig]:
    """A source of random numbers, unless the flavor does not allow it."""
    wants = options.device
    if wants.rng_allowed:
        yield RngConfig(
            backend=RandomBackendConfig(path="/dev/urandom"),
            rate_bytes=wants.rng_bytes,
            rate_period_ms=(wants.rng_period_ms or RNG_PERIOD_MS) if wants.rng_bytes else None,
            iommu=iommu_for(options),
        )


def usb_for(layout: DiskLayout, options: GuestOptions, choices: HostChoices) -> Iterator[UsbControllerConfig]:
    """None where nothing is on USB: an idle tablet wakes the host for each poll, and a server has none plugged in."""
    on_usb = any(disk.bus is DiskBus.USB for disk in layout.disks) or any(
        device.bus is InputBus.USB for device in inputs_for(options)
    )
    if not on_usb:
        yield UsbControllerConfig(index=0, model=UsbModel.NONE)
    elif choices.dialect is Dialect.OURS:  # Nova left it to libvirt
        yield UsbControllerConfig(index=0, model=UsbModel.QEMU_XHCI)


def balloon_for(options: GuestOptions, choices: HostChoices) -> BalloonConfig:
    """The balloon, which also tells how much memory the guest uses."""
    gives_back = None if choices.dialect is Dialect.NOVA else True
    return BalloonConfig(
        model=BalloonModel.VIRTIO,
        auto_deflate=gives_back,
        free_page_reporting=gives_back,
        stats_period_s=STATS_PERIOD_S,
        iommu=iommu_for(options),
    )


def board_devices_for(options: GuestOptions, host: HypervisorFacts, machine: str) -> Iterator[DeviceConfig]:
    """Watchdog, TPM and IOMMU, where asked for. DoesNotFit for a TPM that the host lacks; Refused for an IOMMU without q35."""
    wants = options.device
    if wants.watchdog is not WatchdogChoice.DISABLED:
        yield WatchdogConfig(model=WatchdogModel.I6300ESB, action=WatchdogAction(wants.watchdog))
    if options.boot.tpm_version is not None:
        model = options.boot.tpm_model or TpmModel.TIS
        require_offered(host.support.tpm_models, model, "TPM model")
        require_offered(host.support.tpm_versions, options.boot.tpm_version, "TPM version")
        yield TpmConfig(model=model, version=options.boot.tpm_version)
    if wants.iommu is not None:
        require_q35(machine, "hw:viommu_model")
        yield IommuConfig(model=wants.iommu)


def pci_devices_for(options: GuestOptions, held: Sequence[PciDevicePlan]) -> Iterator[PciHostdevConfig]:
    """The devices that are held for the guest. Refused when they are not those that were asked for."""
    for request in options.device.pci:
        having = sum(device.alias == request.alias for device in held)
        if having != request.count:
            raise Refused(
                f"pci_passthrough:alias={request.alias}:{request.count}: {having} such devices of this host are held for "
                "the guest; build it without"
            )
    for device in held:
        yield PciHostdevConfig(
            source=PciAddressConfig(domain=device.domain, bus=device.bus, slot=device.slot, function=device.function),
            managed=True,
        )
