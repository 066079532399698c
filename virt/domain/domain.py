"""The whole domain."""

from dataclasses import dataclass

from lxml import etree

from taskvisor.model.states import VirtType
from virt.domain.config import Config, DeviceConfig, element
from virt.domain.machine import ClockConfig, CpuConfig, FeaturesConfig, OsConfig, SysinfoConfig
from virt.domain.owner import OwnerConfig


@dataclass(frozen=True, kw_only=True)
class DomainConfig(Config):
    """A domain.

        <domain type="kvm">
          <name>instance-6ba7b810-9dad</name>
          <uuid>6ba7b810-…</uuid>
          <title>web</title>
          <metadata>…</metadata>
          <memory unit="MiB">512</memory>
          <vcpu>1</vcpu>
          <sysinfo …/> <os/> <features/> <cpu/> <clock/>
          <on_poweroff>destroy</on_poweroff>
          <on_reboot>restart</on_reboot>
          <on_crash>destroy</on_crash>
          <devices>
            <emulator>/usr/bin/qemu-system-x86_64</emulator>
            …
          </devices>
        </domain>

    https://libvirt.org/formatdomain.html
    """

    virt_type: VirtType
    name: str
    uuid: str
    owner: OwnerConfig
    memory_mib: int
    vcpus: int
    os: OsConfig
    cpu: CpuConfig
    clock: ClockConfig
    features: FeaturesConfig
    devices: tuple[DeviceConfig, ...]
    on_poweroff: str
    on_reboot: str
    on_crash: str
    title: str | None = None
    sysinfo: SysinfoConfig | None = None
    emulator: str | None = None

    def to_element(self) -> etree._Element:
        return element(
            "domain",
            [
                element("name", text=self.name),
                element("uuid", text=self.uuid),
                element("title", text=self.title) if self.title is not None else None,
                element("metadata", [self.owner.to_element()]),
                element("memory", text=self.memory_mib, unit="MiB"),
                element("vcpu", text=self.vcpus),
                self.sysinfo.to_element() if self.sysinfo is not None else None,
                self.os.to_element(),
                self.features.to_element(),
                self.cpu.to_element(),
                self.clock.to_element(),
                element("on_poweroff", text=self.on_poweroff),
                element("on_reboot", text=self.on_reboot),
                element("on_crash", text=self.on_crash),
                self._devices(),
            ],
            type=self.virt_type,
        )

    def _devices(self) -> etree._Element:
        emulator = element("emulator", text=self.emulator) if self.emulator is not None else None
        return element("devices", [emulator, *(device.to_element() for device in self.devices)])
