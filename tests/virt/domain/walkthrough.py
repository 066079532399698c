"""The guest of the second source document, as a Config: every value is the document's."""

from taskvisor.model.cpu_words import CpuMode
from taskvisor.model.plan import DiskBus
from taskvisor.model.states import ImageFormat, VirtType
from tests.virt.domain.owner_cases import OWNER
from virt.domain.boot import BootDevice, OsConfig, SmbiosMode, SysinfoConfig
from virt.domain.character import ConsoleConfig, ConsoleTarget, SerialConfig
from virt.domain.character_backend import FileBackend, PtyBackend
from virt.domain.clock import ClockConfig, ClockOffset
from virt.domain.cpu import CpuConfig, ModelFallback
from virt.domain.disk import DiskCache, DiskConfig, DiskDriverConfig, DiskIo, DiskKind
from virt.domain.disk_source import BlockSourceConfig, FileSourceConfig
from virt.domain.display import InputBus, InputConfig, InputType, VideoConfig, VideoModel, VncConfig
from virt.domain.domain import CrashAction, DomainConfig, LifecycleAction
from virt.domain.features import FeaturesConfig
from virt.domain.placement import CpuTuneConfig, VcpuPlacement, VcpusConfig
from virt.domain.virtual import BalloonConfig, BalloonModel

UUID = "8d812f63-573c-4f2c-a991-dfa68b844d20"
DIRECTORY = f"/var/lib/nova/instances/{UUID}"
VOLUME = "13db53ea-475b-471d-bbb1-a0daffbf25ef"
CONSOLE_LOG = FileBackend(path=f"{DIRECTORY}/console.log")

DEVICES = (
    DiskConfig(
        kind=DiskKind.DISK,
        source=FileSourceConfig(path=f"{DIRECTORY}/disk"),
        driver=DiskDriverConfig(format=ImageFormat.QCOW2, cache=DiskCache.NONE),
        device="vda",
        bus=DiskBus.VIRTIO,
    ),
    DiskConfig(
        kind=DiskKind.DISK,
        source=BlockSourceConfig(device=f"/dev/disk/by-path/ip-192.168.8.8:.openstack:volume-{VOLUME}-lun-0"),
        driver=DiskDriverConfig(format=ImageFormat.RAW, cache=DiskCache.NONE, io=DiskIo.NATIVE),
        device="vdb",
        bus=DiskBus.VIRTIO,
        serial=VOLUME,
    ),
    SerialConfig(backend=CONSOLE_LOG),
    SerialConfig(backend=PtyBackend(), port=1),
    ConsoleConfig(backend=CONSOLE_LOG, target=ConsoleTarget.SERIAL),
    InputConfig(type=InputType.TABLET, bus=InputBus.USB),
    InputConfig(type=InputType.MOUSE, bus=InputBus.PS2),
    InputConfig(type=InputType.KEYBOARD, bus=InputBus.PS2),
    VncConfig(listen_address="0.0.0.0", keymap="en-us"),  # noqa: S104 - the document's
    VideoConfig(model=VideoModel.CIRRUS, vram_kib=16384, heads=1),
    BalloonConfig(model=BalloonModel.VIRTIO, stats_period_s=10),
)

WALKTHROUGH = DomainConfig(
    virt_type=VirtType.QEMU,
    name="instance-00000002",
    uuid=UUID,
    owners=(OWNER,),
    memory_mib=2048,
    current_memory_mib=2048,
    vcpus=VcpusConfig(count=1, placement=VcpuPlacement.STATIC),
    cpu_tune=CpuTuneConfig(shares=1024),
    sysinfo=SysinfoConfig(
        manufacturer="Fedora Project",
        product="OpenStack Nova",
        version="13.1.0-1.el7",
        serial="acb2b380-0bb5-7101-f93d-107563ca227e",
        uuid=UUID,
        family="Virtual Machine",
    ),
    os=OsConfig(
        arch="x86_64",
        machine="pc-i440fx-rhel7.0.0",
        boot_devices=(BootDevice.HD,),
        smbios_mode=SmbiosMode.SYSINFO,
    ),
    features=FeaturesConfig(acpi=True, apic=True),
    cpu=CpuConfig(mode=CpuMode.HOST_MODEL, model_fallback=ModelFallback.ALLOW, sockets=1, cores=1, threads=1),
    clock=ClockConfig(offset=ClockOffset.UTC),
    on_poweroff=LifecycleAction.DESTROY,
    on_reboot=LifecycleAction.RESTART,
    on_crash=CrashAction.DESTROY,
    emulator="/usr/libexec/qemu-kvm",
    devices=DEVICES,
)
