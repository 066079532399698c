"""Character devices: the serial console and the guest agent's channel."""

from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from virt.domain.config import DeviceConfig, element


class LogAppend(StrEnum):
    """Whether a new start of the guest keeps what is in the log."""

    ON = "on"
    OFF = "off"


@dataclass(frozen=True, kw_only=True)
class SerialConfig(DeviceConfig):
    """A serial port that a person can attach to (`virsh console`), and whose output is kept in a file.

        <serial type="pty">
          <log file="/var/lib/taskvisor/instances/6ba7…/console.log" append="on"/>
          <target port="0"/>
        </serial>

    libvirt adds the matching `<console>` itself. With libvirt's default `stdio_handler = "logd"` it is virtlogd that
    writes the file and bounds it (virtlogd.conf: max_size, max_backups).
    https://libvirt.org/formatdomain.html#consoles-serial-parallel-channel-devices
    """

    log_path: str
    log_append: LogAppend
    port: int = 0

    def to_element(self) -> etree._Element:
        return element(
            "serial",
            [element("log", file=self.log_path, append=self.log_append), element("target", port=self.port)],
            type="pty",
        )


@dataclass(frozen=True, kw_only=True)
class ChannelConfig(DeviceConfig):
    """A virtio channel between host and guest; libvirt chooses its socket on the host.

        <channel type="unix">
          <target type="virtio" name="org.qemu.guest_agent.0"/>
        </channel>

    https://libvirt.org/formatdomain.html#channel
    """

    name: str

    def to_element(self) -> etree._Element:
        return element("channel", [element("target", type="virtio", name=self.name)], type="unix")
