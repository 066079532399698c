"""What the guest starts from: board, firmware, kernel, boot order, and the SMBIOS tables that it reads."""

from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from virt.domain.config import Config, element, element_of, text_element, unless_empty, yes_no


class Firmware(StrEnum):
    """Which firmware libvirt chooses by itself, from the descriptions that its packages bring."""

    BIOS = "bios"
    EFI = "efi"


class LoaderType(StrEnum):
    ROM = "rom"
    PFLASH = "pflash"  # UEFI: a flash chip, the variables in a second one


class BootDevice(StrEnum):
    HD = "hd"
    CDROM = "cdrom"
    NETWORK = "network"
    FLOPPY = "fd"


class SmbiosMode(StrEnum):
    """Whose SMBIOS tables the guest sees."""

    EMULATE = "emulate"  # QEMU's own
    HOST = "host"
    SYSINFO = "sysinfo"  # those of `SysinfoConfig`


@dataclass(frozen=True, kw_only=True)
class SysinfoConfig(Config):
    """What the guest reads in its SMBIOS tables (`dmidecode -t system`).

        <sysinfo type="smbios">
          <bios>
            <entry name="vendor">Taskvisor</entry>
          </bios>
          <system>
            <entry name="manufacturer">Taskvisor</entry>
            <entry name="product">Taskvisor instance</entry>
            <entry name="version">1.0</entry>
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
    version: str | None = None
    bios_vendor: str | None = None
    bios_version: str | None = None

    def to_element(self) -> etree._Element:
        bios = {"vendor": self.bios_vendor, "version": self.bios_version}
        system = {
            "manufacturer": self.manufacturer,
            "product": self.product,
            "version": self.version,
            "serial": self.serial,
            "uuid": self.uuid,
            "family": self.family,
        }
        return element("sysinfo", [_entries("bios", bios), _entries("system", system)], type="smbios")


@dataclass(frozen=True, kw_only=True)
class LoaderConfig(Config):
    """The firmware's code, by its path or by what it must be able to do.

        <loader readonly="yes" secure="yes" type="pflash">/usr/share/OVMF/OVMF_CODE_4M.ms.fd</loader>

    `stateless`: UEFI without a memory of its variables, and so without `NvramConfig`.
    https://libvirt.org/formatdomain.html#bios-bootloader
    """

    path: str | None = None
    readonly: bool | None = None
    secure: bool | None = None
    stateless: bool | None = None
    type: LoaderType | None = None

    def to_element(self) -> etree._Element:
        return element(
            "loader",
            text=self.path,
            readonly=yes_no(self.readonly),
            secure=yes_no(self.secure),
            type=self.type,
            stateless=yes_no(self.stateless),
        )


@dataclass(frozen=True, kw_only=True)
class NvramConfig(Config):
    """Where UEFI keeps its variables: a file of this guest, copied from the template when it is not there.

        <nvram template="/usr/share/OVMF/OVMF_VARS_4M.fd">/var/lib/taskvisor/instances/6ba7…/nvram</nvram>

    https://libvirt.org/formatdomain.html#bios-bootloader
    """

    path: str | None = None
    template: str | None = None

    def to_element(self) -> etree._Element:
        return element("nvram", text=self.path, template=self.template)


@dataclass(frozen=True, kw_only=True)
class OsConfig(Config):
    """The board and what it boots.

        <os firmware="efi">
          <type arch="x86_64" machine="pc-q35-7.2">hvm</type>
          <firmware>
            <feature enabled="yes" name="enrolled-keys"/>
            <feature enabled="yes" name="secure-boot"/>
          </firmware>
          <loader secure="yes"/>
          <nvram>/var/lib/taskvisor/instances/6ba7…/nvram</nvram>
          <kernel>/var/lib/taskvisor/instances/6ba7…/kernel</kernel>
          <initrd>/var/lib/taskvisor/instances/6ba7…/ramdisk</initrd>
          <cmdline>root=/dev/vda console=ttyS0</cmdline>
          <boot dev="hd"/>
          <bootmenu enable="yes" timeout="3000"/>
          <smbios mode="sysinfo"/>
        </os>

    `boot_devices` is the order by kind of device; libvirt does not mix it with `boot_order` on devices.
    https://libvirt.org/formatdomain.html#bios-bootloader
    """

    arch: str
    machine: str
    firmware: Firmware | None = None
    enrolled_keys: bool | None = None
    secure_boot: bool | None = None
    loader: LoaderConfig | None = None
    nvram: NvramConfig | None = None
    kernel: str | None = None
    initrd: str | None = None
    cmdline: str | None = None
    boot_devices: tuple[BootDevice, ...] = ()
    boot_menu: bool | None = None
    boot_menu_timeout_ms: int | None = None
    smbios_mode: SmbiosMode | None = None

    def to_element(self) -> etree._Element:
        return element(
            "os",
            [
                element("type", text="hvm", arch=self.arch, machine=self.machine),
                self._firmware_features(),
                element_of(self.loader),
                element_of(self.nvram),
                text_element("kernel", self.kernel),
                text_element("initrd", self.initrd),
                text_element("cmdline", self.cmdline),
                *(element("boot", dev=device) for device in self.boot_devices),
                unless_empty(element("bootmenu", enable=yes_no(self.boot_menu), timeout=self.boot_menu_timeout_ms)),
                unless_empty(element("smbios", mode=self.smbios_mode)),
            ],
            firmware=self.firmware,
        )

    def _firmware_features(self) -> etree._Element | None:
        features = {"enrolled-keys": self.enrolled_keys, "secure-boot": self.secure_boot}
        return unless_empty(
            element(
                "firmware",
                [
                    element("feature", enabled=yes_no(is_on), name=name)
                    for name, is_on in features.items()
                    if is_on is not None
                ],
            )
        )


def _entries(tag: str, entries: dict[str, str | None]) -> etree._Element | None:
    return unless_empty(element(tag, [text_element("entry", text, name=name) for name, text in entries.items()]))
