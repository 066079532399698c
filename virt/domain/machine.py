"""The machine without its devices: board, firmware tables, CPU, clock."""

from dataclasses import dataclass

from lxml import etree

from virt.domain.config import Config, element


@dataclass(frozen=True, kw_only=True)
class SysinfoConfig(Config):
    """What the guest reads in its SMBIOS tables (`dmidecode -t system`).

        <sysinfo type="smbios">
          <system>
            <entry name="manufacturer">Taskvisor</entry>
            <entry name="product">Taskvisor instance</entry>
            <entry name="serial">6ba7…</entry>
            <entry name="uuid">6ba7…</entry>
            <entry name="family">Virtual Machine</entry>
          </system>
        </sysinfo>

    https://libvirt.org/formatdomain.html#smbios-system-information (`uuid` must be the domain's)
    """

    manufacturer: str
    product: str
    serial: str
    uuid: str
    family: str

    def to_element(self) -> etree._Element:
        entries = {
            "manufacturer": self.manufacturer,
            "product": self.product,
            "serial": self.serial,
            "uuid": self.uuid,
            "family": self.family,
        }
        system = element("system", [element("entry", text=text, name=name) for name, text in entries.items()])
        return element("sysinfo", [system], type="smbios")


@dataclass(frozen=True, kw_only=True)
class OsConfig(Config):
    """The board. What is booted from stands with each disk (`boot order`), which libvirt does not mix with `<boot dev>`.

        <os>
          <type arch="x86_64" machine="pc-i440fx-7.2">hvm</type>
          <smbios mode="sysinfo"/>
        </os>

    https://libvirt.org/formatdomain.html#bios-bootloader
    """

    arch: str
    machine: str
    smbios_mode: str | None = None

    def to_element(self) -> etree._Element:
        return element(
            "os",
            [
                element("type", text="hvm", arch=self.arch, machine=self.machine),
                element("smbios", mode=self.smbios_mode) if self.smbios_mode is not None else None,
            ],
        )


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig(Config):
    """Features of the board that are there when they are named.

        <features>
          <acpi/>
          <apic/>
        </features>

    https://libvirt.org/formatdomain.html#hypervisor-features
    """

    names: tuple[str, ...]

    def to_element(self) -> etree._Element:
        return element("features", [element(name) for name in self.names])


@dataclass(frozen=True, kw_only=True)
class CpuConfig(Config):
    """The CPU that the guest sees. Without a mode QEMU's own default model is used.

        <cpu mode="custom" match="exact" check="none">
          <model fallback="forbid">Nehalem</model>
          <topology sockets="1" cores="4" threads="1"/>
        </cpu>

    https://libvirt.org/formatdomain.html#cpu-model-and-topology
    """

    sockets: int
    cores: int
    threads: int
    mode: str | None = None
    check: str | None = None
    model: str | None = None

    def to_element(self) -> etree._Element:
        return element(
            "cpu",
            [
                element("model", text=self.model, fallback="forbid") if self.model is not None else None,
                element("topology", sockets=self.sockets, cores=self.cores, threads=self.threads),
            ],
            mode=self.mode,
            match="exact" if self.model is not None else None,
            check=self.check,
        )


@dataclass(frozen=True, kw_only=True)
class TimerConfig(Config):
    """One of the machine's timers.

        <timer name="rtc" tickpolicy="catchup"/>
        <timer name="hpet" present="no"/>

    https://libvirt.org/formatdomain.html#time-keeping
    """

    name: str
    tick_policy: str | None = None
    present: str | None = None

    def to_element(self) -> etree._Element:
        return element("timer", name=self.name, tickpolicy=self.tick_policy, present=self.present)


@dataclass(frozen=True, kw_only=True)
class ClockConfig(Config):
    """The clock that the guest starts with.

        <clock offset="utc">
          <timer …/>
        </clock>

    https://libvirt.org/formatdomain.html#time-keeping
    """

    offset: str
    timers: tuple[TimerConfig, ...] = ()

    def to_element(self) -> etree._Element:
        return element("clock", [timer.to_element() for timer in self.timers], offset=self.offset)
