"""What a person sees and touches: VNC, the video card, tablet, mouse and keyboard. SPICE: `virt.domain.spice`."""

from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from virt.domain.config import DeviceConfig, element, on_off, unless_empty, yes_no


class VideoModel(StrEnum):
    VGA = "vga"
    CIRRUS = "cirrus"
    QXL = "qxl"
    VIRTIO = "virtio"
    VMVGA = "vmvga"
    BOCHS = "bochs"
    RAMFB = "ramfb"
    GOP = "gop"
    NONE = "none"


class InputType(StrEnum):
    TABLET = "tablet"  # absolute positions, so that the pointer is where the viewer's is
    MOUSE = "mouse"
    KEYBOARD = "keyboard"


class InputBus(StrEnum):
    USB = "usb"
    PS2 = "ps2"
    VIRTIO = "virtio"


@dataclass(frozen=True, kw_only=True)
class VncConfig(DeviceConfig):
    """A VNC server, on a port that libvirt picks when none is given.

        <graphics type="vnc" autoport="yes" websocket="5700" listen="127.0.0.1" keymap="en-us">
          <listen type="address" address="127.0.0.1"/>
        </graphics>

    The attribute `listen` is libvirt's older word for the element; it gives back both.
    https://libvirt.org/formatdomain.html#graphical-framebuffers
    """

    listen_address: str
    port: int | None = None
    websocket_port: int | None = None
    keymap: str | None = None

    def to_element(self) -> etree._Element:
        return element(
            "graphics",
            [element("listen", type="address", address=self.listen_address)],
            type="vnc",
            port=self.port,
            autoport=yes_no(self.port is None),
            websocket=self.websocket_port,
            listen=self.listen_address,
            keymap=self.keymap,
        )


@dataclass(frozen=True, kw_only=True)
class VncSocketConfig(DeviceConfig):
    """A VNC server on a Unix socket.

        <graphics type="vnc" socket="/run/taskvisor/6ba7….vnc" keymap="en-us">
          <listen type="socket" socket="/run/taskvisor/6ba7….vnc"/>
        </graphics>

    https://libvirt.org/formatdomain.html#graphical-framebuffers
    """

    path: str
    keymap: str | None = None

    def to_element(self) -> etree._Element:
        listen = element("listen", type="socket", socket=self.path)
        return element("graphics", [listen], type="vnc", socket=self.path, keymap=self.keymap)


@dataclass(frozen=True, kw_only=True)
class VideoConfig(DeviceConfig):
    """The video card.

        <video>
          <driver iommu="on"/>
          <model type="qxl" ram="65536" vram="65536" vgamem="16384" heads="1" primary="yes">
            <acceleration accel3d="yes"/>
          </model>
        </video>

    `ram_kib` and `vga_memory_kib` are qxl's, `iommu` is virtio's. https://libvirt.org/formatdomain.html#video-devices
    """

    model: VideoModel
    ram_kib: int | None = None
    vram_kib: int | None = None
    vga_memory_kib: int | None = None
    heads: int | None = None
    primary: bool = False
    acceleration_3d: bool | None = None
    iommu: bool | None = None

    def to_element(self) -> etree._Element:
        model = element(
            "model",
            [unless_empty(element("acceleration", accel3d=yes_no(self.acceleration_3d)))],
            type=self.model,
            ram=self.ram_kib,
            vram=self.vram_kib,
            vgamem=self.vga_memory_kib,
            heads=self.heads,
            primary=yes_no(self.primary or None),
        )
        return element("video", [unless_empty(element("driver", iommu=on_off(self.iommu))), model])


@dataclass(frozen=True, kw_only=True)
class InputConfig(DeviceConfig):
    """What the viewer's pointer and keys come out of in the guest.

        <input type="tablet" bus="usb"/>

    https://libvirt.org/formatdomain.html#input-devices
    """

    type: InputType
    bus: InputBus

    def to_element(self) -> etree._Element:
        return element("input", type=self.type, bus=self.bus)
