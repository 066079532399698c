"""Every decision about a guest's virtual hardware, in one place. Pure: what it needs to know it is given.

A new device, model or default is decided here and nowhere else; `virt.domain` only writes it down.
"""

from collections.abc import Iterator, Sequence

from taskvisor.model.errors import Refused
from taskvisor.model.observed import HypervisorFacts
from taskvisor.model.plan import DiskLayout, DiskPlan, DiskRole, VifPlan
from taskvisor.model.records import Instance
from taskvisor.model.states import VirtType
from virt.domain.boot import OsConfig, SmbiosMode, SysinfoConfig
from virt.domain.character import ChannelConfig, LogAppend, LogConfig, SerialConfig
from virt.domain.character_backend import PtyBackend, UnixBackend
from virt.domain.clock import ClockConfig, ClockOffset, TickPolicy, TimerConfig, TimerName
from virt.domain.config import DeviceConfig
from virt.domain.connection import TapConnection
from virt.domain.controller import UsbControllerConfig, UsbModel
from virt.domain.cpu import CpuCheck, CpuConfig, CpuMatch, CpuMode, ModelFallback
from virt.domain.disk import Discard, DiskCache, DiskConfig, DiskDriverConfig, DiskKind
from virt.domain.disk_source import FileSourceConfig
from virt.domain.display import VideoConfig, VideoModel, VncConfig
from virt.domain.domain import CrashAction, DomainConfig, LifecycleAction
from virt.domain.features import FeaturesConfig
from virt.domain.interface import InterfaceConfig, InterfaceModel
from virt.domain.owner import OwnerConfig
from virt.domain.placement import VcpusConfig
from virt.domain.text import one_line
from virt.domain.virtual import BalloonConfig, BalloonModel, RandomBackendConfig, RngConfig

EMULATED_CPU = "Nehalem"
"""For TCG: x86-64-v2, which today's distributions need and QEMU's default qemu64 is not; no AVX and no 5-level paging,
which are slow to emulate. A small Linux boots as fast with it as with qemu64, max or EPYC (2.0 to 2.3 s, QEMU 7.2)."""
STATS_PERIOD_S = 10
GUEST_AGENT = "org.qemu.guest_agent.0"


def domain_config_for(
    instance: Instance,
    layout: DiskLayout,
    vifs: Sequence[VifPlan],
    host: HypervisorFacts,
    *,
    disk_cache: DiskCache = DiskCache.WRITEBACK,
) -> DomainConfig:
    """The domain of an instance on a host. `disk_cache` is for disks that are written to; writeback works everywhere.

    Refused when the instance was made for KVM and the host has none now: emulating it would be a silent slow-down.
    """
    return DomainConfig(
        virt_type=_virt_type_for(instance, host),
        name=domain_name_for(instance),
        uuid=instance.id,
        title=one_line(instance.name),
        owners=(owner_for(instance),),
        memory_mib=instance.flavor.memory_mib,
        vcpus=VcpusConfig(count=instance.flavor.vcpus),
        sysinfo=_sysinfo_for(instance),
        os=OsConfig(arch=host.arch, machine=host.machine, smbios_mode=SmbiosMode.SYSINFO),
        features=FeaturesConfig(acpi=True, apic=True),
        cpu=_cpu_for(instance, host),
        clock=_clock(),
        on_poweroff=LifecycleAction.DESTROY,
        on_reboot=LifecycleAction.RESTART,
        on_crash=CrashAction.DESTROY,
        emulator=host.emulator,
        devices=tuple(_devices_for(layout, vifs, disk_cache)),
    )


def domain_name_for(instance: Instance) -> str:
    """libvirt's name of the domain: 48 bits of the id, so it is unique on a host and safe in file names and sockets.

    Not the instance's name: that is the caller's, and libvirt makes paths of it (/var/log/libvirt/qemu/<name>.log). It
    is the title (`virsh list --title`).
    """
    return f"instance-{instance.id[:13]}"


def owner_for(instance: Instance) -> OwnerConfig:
    """The copy of the record that the domain carries."""
    return OwnerConfig(
        instance_id=instance.id,
        name=instance.name,
        host=instance.host,
        created_at=instance.created_at,
        flavor=instance.flavor,
        image=instance.image,
        image_name=instance.image_name,
        ports=instance.ports,
        metadata=instance.metadata,
    )


def _virt_type_for(instance: Instance, host: HypervisorFacts) -> VirtType:
    if instance.virt_type is VirtType.KVM and host.virt_type is not VirtType.KVM:
        raise Refused(
            f"cannot render instance {instance.id} for host {instance.host}: it was made for KVM, which the host does not "
            "offer now; look at `taskvisor preflight` there, or rebuild it elsewhere"
        )
    return host.virt_type


def _sysinfo_for(instance: Instance) -> SysinfoConfig:
    # cloud-init looks for its datasource in these; a serial that names none sends it on to the seed's label.
    return SysinfoConfig(
        manufacturer="Taskvisor",
        product="Taskvisor instance",
        serial=instance.id,
        uuid=instance.id,
        family="Virtual Machine",
    )


def _cpu_for(instance: Instance, host: HypervisorFacts) -> CpuConfig:
    # One socket: guests schedule best, and some licences count sockets.
    sockets, cores, threads = 1, instance.flavor.vcpus, 1
    if host.virt_type is VirtType.KVM:
        return CpuConfig(mode=CpuMode.HOST_MODEL, check=CpuCheck.PARTIAL, sockets=sockets, cores=cores, threads=threads)
    # check none: TCG lacks the model's vme, and a guest does without.
    return CpuConfig(
        mode=CpuMode.CUSTOM,
        match=CpuMatch.EXACT,
        check=CpuCheck.NONE,
        model=EMULATED_CPU,
        model_fallback=ModelFallback.FORBID,
        sockets=sockets,
        cores=cores,
        threads=threads,
    )


def _clock() -> ClockConfig:
    # A guest that was not scheduled gets its lost RTC ticks back, and late PIT ticks late; the HPET only costs wake-ups.
    return ClockConfig(
        offset=ClockOffset.UTC,
        timers=(
            TimerConfig(name=TimerName.RTC, tick_policy=TickPolicy.CATCHUP),
            TimerConfig(name=TimerName.PIT, tick_policy=TickPolicy.DELAY),
            TimerConfig(name=TimerName.HPET, present=False),
        ),
    )


def _devices_for(layout: DiskLayout, vifs: Sequence[VifPlan], disk_cache: DiskCache) -> Iterator[DeviceConfig]:
    for disk in layout.disks:
        yield _disk_for(disk, disk_cache)
    for vif in vifs:
        yield InterfaceConfig(
            connection=TapConnection(tap=vif.tap), mac=vif.mac, model=InterfaceModel.VIRTIO, mtu=vif.mtu
        )
    # "on": the log outlives reboots and hard reboots. virtlogd bounds it.
    yield SerialConfig(backend=PtyBackend(), log=LogConfig(path=layout.console_log, append=LogAppend.ON))
    yield ChannelConfig(backend=UnixBackend(), name=GUEST_AGENT)
    # Loopback only: VNC has no password here, so whoever reaches the port has the screen.
    yield VncConfig(listen_address="127.0.0.1")
    # The one card that every guest shows something on without a driver.
    yield VideoConfig(model=VideoModel.VGA)
    yield RngConfig(backend=RandomBackendConfig(path="/dev/urandom"))
    # No USB: an idle tablet wakes the host for each poll, and a server has none plugged in.
    yield UsbControllerConfig(index=0, model=UsbModel.NONE)
    yield BalloonConfig(
        model=BalloonModel.VIRTIO, auto_deflate=True, free_page_reporting=True, stats_period_s=STATS_PERIOD_S
    )


def _disk_for(disk: DiskPlan, disk_cache: DiskCache) -> DiskConfig:
    if disk.role is DiskRole.SEED:
        return DiskConfig(
            kind=DiskKind.CDROM,
            source=FileSourceConfig(path=disk.path),
            driver=DiskDriverConfig(format=disk.format),
            device=disk.device,
            bus=disk.bus,
            readonly=True,
            boot_order=disk.boot_index,
        )
    # Discard: what the guest trims is given back to the host.
    return DiskConfig(
        kind=DiskKind.DISK,
        source=FileSourceConfig(path=disk.path),
        driver=DiskDriverConfig(format=disk.format, cache=disk_cache, discard=Discard.UNMAP),
        device=disk.device,
        bus=disk.bus,
        serial=disk.role,  # /dev/disk/by-id/virtio-root, whatever the order of discovery
        boot_order=disk.boot_index,
    )
