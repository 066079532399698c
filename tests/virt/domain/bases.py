"""Domains with as little as a domain may have. Cases are made of them by `replace`, so that each shows only what it is about."""

from dataclasses import replace

from taskvisor.model.states import VirtType
from virt.domain.boot import OsConfig
from virt.domain.clock import ClockConfig, ClockOffset
from virt.domain.config import DeviceConfig
from virt.domain.cpu import CpuConfig
from virt.domain.domain import CrashAction, DomainConfig, LifecycleAction
from virt.domain.features import FeaturesConfig
from virt.domain.placement import VcpusConfig

UUID = "8d812f63-573c-4f2c-a991-dfa68b844d20"
SECRET_UUID = "6dd3e4a5-1d76-44ce-961f-f119f5aad935"
OTHER_SECRET_UUID = "2ec115d7-3a88-3ceb-bc12-0ac909a6fd87"

PC = DomainConfig(
    virt_type=VirtType.QEMU,
    name="instance-00000002",
    uuid=UUID,
    owners=(),
    memory_mib=512,
    vcpus=VcpusConfig(count=4),
    os=OsConfig(arch="x86_64", machine="pc-i440fx-7.2"),
    features=FeaturesConfig(acpi=True, apic=True),
    cpu=CpuConfig(sockets=1, cores=4, threads=1),
    clock=ClockConfig(offset=ClockOffset.UTC),
    on_poweroff=LifecycleAction.DESTROY,
    on_reboot=LifecycleAction.RESTART,
    on_crash=CrashAction.DESTROY,
    emulator="/usr/bin/qemu-system-x86_64",
    devices=(),
)
Q35 = replace(PC, os=OsConfig(arch="x86_64", machine="pc-q35-7.2"))


def with_devices(base: DomainConfig, *devices: DeviceConfig) -> DomainConfig:
    """The domain with these devices and no others."""
    return replace(base, devices=devices)
