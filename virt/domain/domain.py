"""The whole domain."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from taskvisor.model.states import VirtType
from virt.domain.boot import OsConfig, SysinfoConfig
from virt.domain.clock import ClockConfig
from virt.domain.config import Config, DeviceConfig, element, element_of, text_element, unless_empty
from virt.domain.cpu import CpuConfig
from virt.domain.features import FeaturesConfig
from virt.domain.memory import MaxMemoryConfig, MemoryBackingConfig, MemoryTuneConfig
from virt.domain.nova_owner import NovaOwnerConfig
from virt.domain.owner import OwnerConfig
from virt.domain.placement import CpuTuneConfig, NumaTuneConfig, PerfConfig, VcpusConfig
from virt.domain.security import SecurityLabelConfig, SevConfig


class LifecycleAction(StrEnum):
    """What libvirt does when the guest ends or restarts by itself. QEMU has no other."""

    DESTROY = "destroy"
    RESTART = "restart"


class CrashAction(StrEnum):
    """What libvirt does when the guest's kernel has crashed, as far as a panic device tells."""

    DESTROY = "destroy"
    RESTART = "restart"
    PRESERVE = "preserve"
    COREDUMP_DESTROY = "coredump-destroy"
    COREDUMP_RESTART = "coredump-restart"


@dataclass(frozen=True, kw_only=True)
class DomainConfig(Config):
    """A domain.

        <domain type="kvm">
          <name>instance-6ba7b810-9dad</name>
          <uuid>6ba7b810-…</uuid>
          <title>web</title>
          <metadata>…</metadata>
          <maxMemory …/>
          <memory unit="KiB">524288</memory>
          <currentMemory unit="KiB">524288</currentMemory>
          <memtune/> <memoryBacking/>
          <vcpu>1</vcpu>
          <iothreads>1</iothreads>
          <cputune/> <numatune/>
          <resource>
            <partition>/machine</partition>
          </resource>
          <sysinfo …/> <os/> <features/> <cpu/> <clock/>
          <on_poweroff>destroy</on_poweroff>
          <on_reboot>restart</on_reboot>
          <on_crash>destroy</on_crash>
          <perf/>
          <devices>
            <emulator>/usr/bin/qemu-system-x86_64</emulator>
            …
          </devices>
          <seclabel/> <launchSecurity/>
        </domain>

    `owners` says whose it is, once in each dialect asked for; a domain without our own element is nobody's to us.
    `memory_mib` is what the guest starts with, `current_memory_mib` what the balloon leaves it of that.
    https://libvirt.org/formatdomain.html
    """

    virt_type: VirtType
    name: str
    uuid: str
    owners: tuple[OwnerConfig | NovaOwnerConfig, ...]
    memory_mib: int
    vcpus: VcpusConfig
    os: OsConfig
    cpu: CpuConfig
    clock: ClockConfig
    features: FeaturesConfig
    devices: tuple[DeviceConfig, ...]
    on_poweroff: LifecycleAction
    on_reboot: LifecycleAction
    on_crash: CrashAction
    title: str | None = None
    max_memory: MaxMemoryConfig | None = None
    current_memory_mib: int | None = None
    memory_tune: MemoryTuneConfig | None = None
    memory_backing: MemoryBackingConfig | None = None
    iothreads: int | None = None
    cpu_tune: CpuTuneConfig | None = None
    numa_tune: NumaTuneConfig | None = None
    partition: str | None = None
    sysinfo: SysinfoConfig | None = None
    perf: PerfConfig | None = None
    emulator: str | None = None
    security_labels: tuple[SecurityLabelConfig, ...] = ()
    launch_security: SevConfig | None = None

    def to_element(self) -> etree._Element:
        parts = (*self._identity(), *self._resources(), *self._machine(), self._devices(), *self._security())
        return element("domain", parts, type=self.virt_type)

    def _identity(self) -> Iterator[etree._Element | None]:
        yield element("name", text=self.name)
        yield element("uuid", text=self.uuid)
        yield text_element("title", self.title)
        yield unless_empty(element("metadata", [owner.to_element() for owner in self.owners]))

    def _resources(self) -> Iterator[etree._Element | None]:
        yield element_of(self.max_memory)
        yield _memory("memory", self.memory_mib)
        yield _memory("currentMemory", self.current_memory_mib)
        yield element_of(self.memory_tune)
        yield element_of(self.memory_backing)
        yield self.vcpus.to_element()
        yield text_element("iothreads", self.iothreads)
        yield element_of(self.cpu_tune)
        yield element_of(self.numa_tune)
        yield unless_empty(element("resource", [text_element("partition", self.partition)]))

    def _machine(self) -> Iterator[etree._Element | None]:
        yield element_of(self.sysinfo)
        yield self.os.to_element()
        yield unless_empty(self.features.to_element())
        yield self.cpu.to_element()
        yield self.clock.to_element()
        yield element("on_poweroff", text=self.on_poweroff)
        yield element("on_reboot", text=self.on_reboot)
        yield element("on_crash", text=self.on_crash)
        yield element_of(self.perf)

    def _devices(self) -> etree._Element:
        emulator = text_element("emulator", self.emulator)
        return element("devices", [emulator, *(device.to_element() for device in self.devices)])

    def _security(self) -> Iterator[etree._Element | None]:
        yield from (label.to_element() for label in self.security_labels)
        yield element_of(self.launch_security)


def _memory(tag: str, memory_mib: int | None) -> etree._Element | None:
    # In KiB, as libvirt gives it back.
    return text_element(tag, None if memory_mib is None else memory_mib * 1024, unit="KiB")
