"""Character devices: serial ports, consoles, and the channels of agents in the guest."""

from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from virt.domain.character_backend import CharacterBackend
from virt.domain.config import Config, DeviceConfig, element, element_of, unless_empty


class LogAppend(StrEnum):
    """Whether a new start of the guest keeps what is in the log."""

    ON = "on"
    OFF = "off"


class ConsoleTarget(StrEnum):
    """What the guest sees of a console."""

    SERIAL = "serial"  # the serial port of that number, once more
    VIRTIO = "virtio"


@dataclass(frozen=True, kw_only=True)
class LogConfig(Config):
    """Where all that comes out of a character device is kept as well.

        <log file="/var/lib/taskvisor/instances/6ba7…/console.log" append="on"/>

    With libvirt's default `stdio_handler = "logd"` it is virtlogd that writes the file and bounds it (virtlogd.conf:
    max_size, max_backups).
    """

    path: str
    append: LogAppend

    def to_element(self) -> etree._Element:
        return element("log", file=self.path, append=self.append)


@dataclass(frozen=True, kw_only=True)
class SerialConfig(DeviceConfig):
    """A serial port; with a pty behind it, a person can attach to it (`virsh console`).

        <serial type="pty">
          <log …/>
          <target port="0"/>
        </serial>

    libvirt adds the `<console>` that matches the first one itself.
    https://libvirt.org/formatdomain.html#consoles-serial-parallel-channel-devices
    """

    backend: CharacterBackend
    log: LogConfig | None = None
    port: int = 0

    def to_element(self) -> etree._Element:
        return element(
            "serial",
            [*self.backend.parts(), element_of(self.log), element("target", port=self.port)],
            type=self.backend.type,
        )


@dataclass(frozen=True, kw_only=True)
class ConsoleConfig(DeviceConfig):
    """What `virsh console` takes: the first serial port once more, or a paravirtual console.

        <console type="file">
          <source path="/var/lib/taskvisor/instances/6ba7…/console.log"/>
          <target type="serial" port="0"/>
        </console>

    https://libvirt.org/formatdomain.html#console
    """

    backend: CharacterBackend
    target: ConsoleTarget
    log: LogConfig | None = None
    port: int = 0

    def to_element(self) -> etree._Element:
        return element(
            "console",
            [*self.backend.parts(), element_of(self.log), element("target", type=self.target, port=self.port)],
            type=self.backend.type,
        )


@dataclass(frozen=True, kw_only=True)
class ChannelConfig(DeviceConfig):
    """A virtio channel between the host and an agent in the guest, which finds it by its name.

        <channel type="unix">
          <target type="virtio" name="org.qemu.guest_agent.0"/>
          <alias name="ua-agent"/>
        </channel>

    A Unix socket without a path is one that libvirt chooses. https://libvirt.org/formatdomain.html#channel
    """

    backend: CharacterBackend
    name: str
    alias: str | None = None

    def to_element(self) -> etree._Element:
        return element(
            "channel",
            [
                *self.backend.parts(),
                element("target", type="virtio", name=self.name),
                unless_empty(element("alias", name=self.alias)),
            ],
            type=self.backend.type,
        )
